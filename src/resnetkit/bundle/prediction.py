"""Prediction functions for a model or its path, and images in any form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from resnetkit import display
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.opening import as_model
from resnetkit.data.decoding.decode import Image, UnreadableImageError
from resnetkit.data.listing import ImageSource
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.prediction import Prediction, is_one, stream
from resnetkit.inference.predictor import SOME, PredictOptions, Predictor
from resnetkit.inference.results.formats import format_of

Model = Bundle | Exported | str | Path
Images: TypeAlias = "Image | Iterable[Image]"


def predict(
    model: Model,
    images: Images,
    *,
    topk: int = 5,
    engine: EngineName = "auto",
    device: str | None = None,
    batch_size: int | None = None,
    exact: bool = True,
) -> Iterator[Prediction]:
    """Yield the ``topk`` classes of each image, in order, with probabilities from 0 to 1.

    ``images`` are paths of images, folders and shards, or encoded bytes, PIL images, uint8 arrays
    ``(H, W)``, ``(H, W, C)`` or tensors ``(C, H, W)``: one, or any number of them; a few batches
    are in memory at a time. An unreadable image yields a prediction with a ``problem``. ``exact``
    makes pixels bit-equal to torchvision's; otherwise a faster path is used from 64 files on.
    See ``PredictOptions`` for the rest.

    Raises ``ValueError`` for an unusable model or engine, and for paths without images.

    >>> for prediction in resnetkit.predict(model, "seven.png", engine="torch"):
    ...     print(prediction.name, prediction.label)
    seven.png 7
    """
    options = PredictOptions(
        topk=topk, engine=engine, device=device, batch_size=batch_size, exact=exact
    )
    return _predicted(model, images, options)


def embed(
    model: Model,
    images: Images,
    *,
    engine: EngineName = "auto",
    device: str | None = None,
    batch_size: int | None = None,
    exact: bool = True,
) -> npt.NDArray[np.float32]:
    """Return the pooled features of each image, float32 ``(N, num_features)``; see ``predict``.

    Raises ``ValueError`` as ``predict`` does, and its subclass ``UnreadableImageError`` for the
    first unreadable image.

    >>> resnetkit.embed(model, "seven.png", engine="torch").shape
    (1, 64)
    """
    options = PredictOptions(
        output="embeddings", engine=engine, device=device, batch_size=batch_size, exact=exact
    )
    found = []
    for prediction in _predicted(model, images, options):
        if prediction.embedding is None:
            raise UnreadableImageError(prediction.name, prediction.problem or "")
        found.append(prediction.embedding)
    return np.stack(found) if found else np.empty((0, 0), np.float32)


def predict_to_file(
    model: Model,
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    format: str | None = None,
    embeddings: bool = False,
    on_prediction: Callable[[Prediction], None] = lambda _: None,
    **options: Any,
) -> int:
    """Write predictions of images, folders and shards to ``out``; return the number of unreadable
    ones.

    ``format`` is ``csv``, ``json``, ``jsonl``, ``parquet``, ``npy`` or ``fiftyone``, by default
    the suffix of ``out``. ``embeddings`` are written instead of classes. The same call resumes an
    interrupted one. ``on_prediction`` is called with each new prediction; ``options`` are those of
    ``predict``, but the fast pixel path is used from 64 images on unless ``exact``.

    Raises ``ValueError`` as ``predict`` does, and for a file that cannot be written or was started
    by a different call.

    >>> resnetkit.predict_to_file(model, "seven.png", "found.csv", engine="torch")
    0
    """
    chosen = PredictOptions(output="embeddings" if embeddings else "logits", **options)
    kind = format_of(format or "csv" if not Path(out).suffix else format, Path(out),
                     embeddings=embeddings)  # fmt: skip
    source = ImageSource(_names(paths))
    predictor = Predictor(as_model(model), chosen)
    if display.in_notebook():
        source.start_counting()
    with ExitStack() as stack:
        tell: Callable[[], None]

        def on_start(done: int) -> None:
            nonlocal tell
            tell = stack.enter_context(display.passing(source.total, done))

        def on_each(prediction: Prediction) -> None:
            on_prediction(prediction)
            tell()

        return predictor.predict_to_file(
            source, Path(out), kind, on_start=on_start, on_prediction=on_each
        )


def _predicted(model: Model, images: Images, options: PredictOptions) -> Iterator[Prediction]:
    predictor = Predictor(as_model(model), options)
    if isinstance(images, str | Path):
        return predictor.predict(ImageSource(_names(images)))
    given: list[Image] | Iterable[Image]
    given = [cast(Image, images)] if is_one(images) else cast("Iterable[Image]", images)
    if isinstance(given, list | tuple) and given and all(isinstance(i, str | Path) for i in given):
        return predictor.predict(ImageSource(_names(cast("Sequence[str | Path]", given))))
    return stream(
        predictor.engine,
        predictor.model.preprocess,
        predictor.model.classes,
        given,
        topk=options.topk,
        batch_size=options.batch_size or SOME,
        exact=options.exact,
    )


def _names(paths: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]
