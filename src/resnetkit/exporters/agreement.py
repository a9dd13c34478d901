"""Whether an exported file answers as its bundle does: the same images, from bytes to classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnetkit.bundle.bundle import Bundle
from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.prefetch import Track
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import Engine, EngineName, EngineOptions, Output
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import installed, open_engine
from resnetkit.inference.prediction import Vector, predict_batches
from resnetkit.preprocess import Preprocess

#: Percentage points of accuracy that may be lost where labels are known.
MOST_LOST = 0.5
#: Of embeddings, which rank nothing: the largest distance, as a share of the bundle's own.
NEAR = 0.1
#: Images at a time; answers do not depend on it.
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """``images`` images answered by the bundle in float32 and by the exported file. The bundle is
    computed by torch, or where that is not installed by another engine.

    ``agreeing`` is the share, 0 to 1, with the same most probable class (of embeddings: that lie
    no further from the bundle's than a tenth of its length), ``difference`` the largest absolute
    difference of a logit, ``largest`` the bundle's largest. ``accuracy`` is that of the bundle and
    of the file where the images have labels.
    """

    images: int
    data: str
    agreeing: float
    difference: float
    largest: float
    accuracy: tuple[float, float] | None
    engines: tuple[dict[str, Any], dict[str, Any]]

    def problem(self, least: float) -> str | None:
        """Why this is not good enough, in words; ``least`` is a percentage of agreement."""
        if not np.isfinite(self.difference):
            return "it answers with numbers that are not finite"
        if 100 * self.agreeing < least:
            return (
                f"{100 * self.agreeing:.2f} % of {self.images} images get the same class, "
                f"and {least:g} % is the least"
            )
        if self.accuracy is not None:
            lost = 100 * (self.accuracy[0] - self.accuracy[1])
            if lost > MOST_LOST:
                return f"it loses {lost:.2f} points of accuracy, and {MOST_LOST:g} is the most"
        return None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        bundle, file = self.engines
        return {
            "images": self.images,
            "data": self.data,
            "agreement": self.agreeing,
            "largest_difference": self.difference,
            "largest_logit": self.largest,
            "accuracy": None
            if self.accuracy is None
            else {"bundle": self.accuracy[0], "exported": self.accuracy[1]},
            "engines": {"bundle": bundle, "exported": file},
        }


def agree(
    bundle: Bundle,
    exported: Bundle | Exported,
    examples: Sequence[Sample],
    data: str,
    *,
    labelled: bool,
    track: Track = iter,
) -> Agreement:
    """Answer ``examples`` by both; images that cannot be read are left out.

    Raises ``ValueError`` where none can be read.
    """
    output: Output = "logits" if bundle.classes else "embeddings"
    reference: EngineName = "torch" if installed("torch") else "auto"
    engines = open_engine(bundle, reference, output, device="cpu"), engine_of(exported)
    both = [
        _rows(engine, what.preprocess, examples)
        for engine, what in zip(engines, (bundle, exported), strict=True)
    ]
    labels, ours, theirs = [], [], []
    pairs = zip(track(examples), *both, strict=True)
    for example, our, their in pairs:
        if our is not None and their is not None:
            labels.append(example.label)
            ours.append(our)
            theirs.append(their)
    if not ours:
        raise InputError(f"none of the {len(examples)} images can be read; give others")
    first, second = np.stack(ours), np.stack(theirs)
    accuracy = None
    if labelled and bundle.classes:
        right = [float((rows.argmax(1) == np.array(labels)).mean()) for rows in (first, second)]
        accuracy = right[0], right[1]
    return Agreement(
        images=len(ours),
        data=data,
        agreeing=float(_same(first, second, bool(bundle.classes)).mean()),
        difference=_difference(first, second),
        largest=float(np.abs(first).max()),
        accuracy=accuracy,
        engines=(engines[0].to_dict(), engines[1].to_dict()),
    )


def engine_of(exported: Bundle | Exported) -> Engine:
    """The engine that a file which was written just now is made for; torch's for a bundle.

    A ``.pt2``'s own program is run, which is not done with files that may come from elsewhere.
    """
    if isinstance(exported, Exported) and exported.kind == "torch-export":
        import torch

        from resnetkit.inference.engines.torch import Torch

        return Torch(
            torch.export.load(exported.path).module(),
            options=EngineOptions(
                output=exported.output, precision=exported.precision, batch=exported.batch
            ),
            name="torch-export",
        )
    if isinstance(exported, Exported):
        return open_engine(exported, "auto", exported.output)
    return open_engine(
        exported, "torch", "logits" if exported.classes else "embeddings", device="cpu"
    )


def _rows(
    engine: Engine, preprocess: Preprocess, examples: Sequence[Sample]
) -> Iterable[Vector | None]:
    images = (example.image for example in examples)
    return (row for _, row in predict_batches(engine, preprocess, images, batch_size=_BATCH))


def _difference(first: Vector, second: Vector) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.abs(first - second).max())


def _same(first: Vector, second: Vector, ranked: bool) -> Any:
    if ranked:
        return first.argmax(1) == second.argmax(1)
    distance = np.linalg.norm(first - second, axis=1)
    return distance <= NEAR * np.linalg.norm(first, axis=1)
