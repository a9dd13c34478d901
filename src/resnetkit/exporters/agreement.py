"""Agreement of an exported file with its bundle on the same images, from bytes to classes."""

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

#: Maximum loss of accuracy in percentage points, if labels are known.
MOST_LOST = 0.5
#: For embeddings: the largest distance, relative to the length of the bundle's.
NEAR = 0.1
#: Batch size; results do not depend on it.
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement on ``images`` images of the bundle in float32 and the exported file. The bundle
    runs on torch, or on another engine if torch is not installed.

    ``agreeing`` is the share, 0 to 1, with the same top class (for embeddings: within a tenth of
    the length of the bundle's), ``difference`` the largest absolute logit difference, ``largest``
    the bundle's largest logit. ``accuracy`` is that of the bundle and of the file, if the images
    have labels.
    """

    images: int
    data: str
    agreeing: float
    difference: float
    largest: float
    accuracy: tuple[float, float] | None
    engines: tuple[dict[str, Any], dict[str, Any]]

    def problem(self, least: float) -> str | None:
        """Why this is not good enough; ``least`` is a percentage of agreement."""
        if not np.isfinite(self.difference):
            return "its output is not finite (NaN or Inf)"
        if 100 * self.agreeing < least:
            return (
                f"{100 * self.agreeing:.2f} % of {self.images} images have the same class, "
                f"and the minimum is {least:g} %"
            )
        if self.accuracy is not None:
            lost = 100 * (self.accuracy[0] - self.accuracy[1])
            if lost > MOST_LOST:
                return f"it loses {lost:.2f} points of accuracy, and the maximum is {MOST_LOST:g}"
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
    """Run both on ``examples``; unreadable images are skipped.

    Raises ``ValueError`` if none can be read.
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
        raise InputError(f"none of the {len(examples)} images can be read; give other images")
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
    """The engine for a file that was just written; torch for a bundle.

    The program of a ``.pt2`` is run, which is never done with untrusted files.
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
