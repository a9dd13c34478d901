"""A model with its engine, for prediction to an iterator or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from resnetkit.data.listing import ImageEntry, ImageSource
from resnetkit.data.storage import is_address
from resnetkit.data.storage_access import shown_address
from resnetkit.errors import InputError
from resnetkit.inference.engines.autotune import tuned
from resnetkit.inference.engines.conv_bn_fusion import HasWeights
from resnetkit.inference.engines.engine import EngineName, Output
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import open_engine
from resnetkit.inference.prediction import Prediction, stream
from resnetkit.inference.results.formats import open_format
from resnetkit.inference.results.resumable_file import ResumableFile

#: Fewer images use exact pixels and an unmeasured batch size.
FEW = 64
SOME = 8


class Model(HasWeights, Protocol):
    """A model for prediction, e.g. a bundle. ``digest`` identifies it."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def digest(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """Options of a prediction.

    ``topk`` classes or an embedding for each image; see ``open_engine`` for ``engine`` and
    ``device``. ``batch_size`` defaults to the fastest, measured once. ``exact`` makes pixels
    bit-equal to torchvision's; otherwise a faster path is used from 64 images on. ``threads``
    compute, and as many decode; by default one per CPU.

    Raises ``ValueError`` for a ``topk``, ``batch_size`` or ``threads`` below 1.
    """

    topk: int = 5
    output: Output = "logits"
    engine: EngineName = "auto"
    device: str | None = None
    batch_size: int | None = None
    exact: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("topk", "batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be a whole number from 1", field=name)


class Predictor:
    """A model with its engine; raises ``ValueError`` as ``open_engine`` does."""

    def __init__(self, model: Model | Exported, options: PredictOptions) -> None:
        self.model = model
        self.options = options
        self.engine = open_engine(
            model, options.engine, options.output, device=options.device, threads=options.threads
        )

    def predict(self, images: ImageSource) -> Iterator[Prediction]:
        """The predictions of the images, in order, see ``stream``."""
        return self.predict_part(images, few=not images.has(FEW))

    def predict_part(self, images: Iterable[ImageEntry], *, few: bool) -> Iterator[Prediction]:
        """The predictions of some of the images; ``few`` if all of them are fewer than 64."""
        preprocess, size = self.model.preprocess, self.options.batch_size or SOME
        if self.options.batch_size is None and not few and not self.engine.options.cuts:
            shape = (preprocess.size, preprocess.size, preprocess.channel_count)
            size = tuned(self.engine, shape, self._digest)
        return stream(
            self.engine,
            preprocess,
            self.model.classes,
            images,
            topk=self.options.topk,
            batch_size=size,
            exact=self.options.exact or few,
            threads=self.options.threads,
        )

    def predict_to_file(
        self,
        images: ImageSource,
        out: Path,
        kind: str,
        *,
        on_start: Callable[[int], None] = lambda _: None,
        on_prediction: Callable[[Prediction], None] = lambda _: None,
    ) -> int:
        """Write the predictions in the format ``kind``; return the number of unreadable images.

        An interrupted file is resumed; ``on_start`` gets the number of images already written,
        ``on_prediction`` each new prediction. Raises ``ValueError`` for a file that cannot be
        written, or that was started with another model, images or options.
        """
        few = not images.has(FEW)
        engine = {name: str(value) for name, value in self.engine.to_dict().items()}
        run = {
            "model": self._digest,
            "paths": [shown_address(p) if is_address(p) else p for p in images.paths],
            "format": kind,
            "topk": self.options.topk,
            "exact": self.options.exact or few,
            "engine": engine,
        }
        layout = open_format(kind, self.options.output, self.engine.options.features)
        with ResumableFile(out, layout, run) as file:
            on_start(file.done)
            for prediction in self.predict_part(file.remaining(images), few=few):
                file.append(prediction)
                on_prediction(prediction)
            file.finish()
            return file.unreadable

    @cached_property
    def _digest(self) -> str:
        return self.model.digest
