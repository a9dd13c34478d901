"""Predicts classes or embeddings of any number of images in bounded memory.

Nothing here imports torch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.data.decoding import decode, fast_decode
from resnetkit.data.decoding.decode import Cut, Image, UnreadableImageError, name_of
from resnetkit.data.decoding.image_reference import ImageReference
from resnetkit.data.listing import ImageEntry
from resnetkit.data.prefetch import ordered
from resnetkit.display import Displayed
from resnetkit.errors import NO_CLASSES, InputError
from resnetkit.inference.engines.engine import Engine, Pixels, Rows
from resnetkit.preprocess import Preprocess

__all__ = [
    "ClassScore",
    "DecodedImage",
    "Image",
    "Prediction",
    "predict",
    "predict_batches",
    "stream",
]

#: Maximum run of unreadable images before a batch is flushed.
PATIENCE = 1024
#: The problem of images with NaN or infinite logits, e.g. by float16 overflow.
NOT_FINITE = "the model's output is not finite (NaN or Inf)"
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class and its predicted probability, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Displayed):
    """The most probable classes of one image, best first, or its embedding ``(features,)``; or the
    ``problem`` of an unreadable one. ``image`` finds the picture again, for a notebook."""

    name: str
    scores: tuple[ClassScore, ...] = ()
    problem: str | None = None
    embedding: Vector | None = field(default=None, compare=False)
    image: ImageReference | None = field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The most probable class. Raises ``IndexError`` if the image could not be read."""
        return self.scores[0].label

    @property
    def probability(self) -> float:
        """The probability of ``label``."""
        return self.scores[0].probability

    def to_dict(self) -> dict[str, Any]:
        """The prediction as JSON types; ``problem`` only if there is one."""
        found: dict[str, Any] = {"image": self.name}
        if self.embedding is not None:
            found["embedding"] = self.embedding.tolist()
        else:
            found["predictions"] = [
                {"label": g.label, "probability": g.probability} for g in self.scores
            ]
        return found if self.problem is None else {**found, "problem": self.problem}


def predict(
    engine: Engine,
    preprocess: Preprocess,
    classes: Sequence[str],
    images: Image | Sequence[Image],
    topk: int = 5,
    *,
    batch_size: int = 32,
) -> list[Prediction]:
    """Predict the ``topk`` classes of each image, in the given order.

    ``images`` is one image or a sequence: paths, encoded bytes, PIL images, uint8 arrays
    ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``, or uint8 tensors ``(H, W)``, ``(C, H, W)`` or
    ``(N, C, H, W)``. Raises ``UnreadableImageError``, an ``InputError``, for the first unreadable
    one.
    """
    found = []
    many = cast("Sequence[Image]", [images] if is_one(images) else images)
    for prediction in stream(engine, preprocess, classes, many, topk=topk, batch_size=batch_size):
        if prediction.problem is not None:
            raise UnreadableImageError(prediction.name, prediction.problem)
        found.append(prediction)
    return found


def stream(
    engine: Engine,
    preprocess: Preprocess,
    classes: Sequence[str],
    images: Iterable[Image | ImageEntry],
    *,
    topk: int = 5,
    batch_size: int = 32,
    exact: bool = True,
    threads: int | None = None,
) -> Iterator[Prediction]:
    """As ``predict``, one prediction at a time, with at most a few batches in memory.

    An unreadable image, or one with non-finite output, yields a prediction with a ``problem``. An
    engine for embeddings yields embeddings and ignores ``classes`` and ``topk``. Raises
    ``ValueError`` for a ``topk`` or ``batch_size`` below 1, and if there are no classes to rank.
    """
    if engine.output == "logits" and not classes:
        raise InputError(f"the network {NO_CLASSES}")
    if topk < 1 or batch_size < 1:
        raise InputError(f"topk is {topk} and the batch size {batch_size}; both must be >= 1")
    results = predict_batches(
        engine, preprocess, images, batch_size=batch_size, exact=exact, threads=threads
    )
    for read, row in results:
        if row is None:
            yield Prediction(name=read.name, problem=read.problem)
        elif not finite(row):
            yield Prediction(name=read.name, problem=NOT_FINITE, image=read.image)
        elif engine.output == "embeddings":
            yield Prediction(name=read.name, embedding=row, image=read.image)
        else:
            scores = ranked(row, classes, topk)
            yield Prediction(name=read.name, scores=scores, image=read.image)


def check_classes(logits: Vector, classes: Sequence[str]) -> None:
    """Raise ``InputError`` if a file's class names do not match its graph."""
    if len(logits) != len(classes):
        raise InputError(
            f"the network has {len(logits)} logits, and there are {len(classes)} class "
            "names; get the file again, or export it again"
        )


def finite(row: Vector) -> bool:
    """Whether all logits are finite."""
    return bool(np.isfinite(row).all())


def ranked(logits: Vector, classes: Sequence[str], topk: int) -> tuple[ClassScore, ...]:
    """The ``topk`` classes of the logits ``(classes,)`` of one image, with their softmax.

    Ties are in class order, as in ``evaluate``. Raises ``ValueError`` if the numbers of logits and
    classes differ.
    """
    check_classes(logits, classes)
    topk = min(topk, len(classes))
    least = np.partition(logits, len(logits) - topk)[len(logits) - topk]
    best = np.flatnonzero(logits >= least)
    best = best[np.argsort(-logits[best], kind="stable")][:topk]
    shares = np.exp(logits - logits[best[0]])
    shares /= shares.sum()
    return tuple(
        ClassScore(label=classes[number], probability=float(shares[number]))
        for number in best.tolist()
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedImage:
    """A decoded image: ``pixels`` is uint8 ``(size, size, C)``, or None with a ``problem``."""

    name: str
    pixels: Cut | None = None
    problem: str | None = None
    image: ImageReference | None = None


def predict_batches(
    engine: Engine,
    preprocess: Preprocess,
    images: Iterable[Image | ImageEntry],
    *,
    batch_size: int,
    exact: bool = True,
    threads: int | None = None,
) -> Iterator[tuple[DecodedImage, Vector | None]]:
    """Each image, in order, with its row from the engine; None if it is unreadable.

    Several threads read, decode and crop ahead while the engine computes. ``exact`` uses
    ``decode``, otherwise ``fast_decode``; an engine that crops images itself gets whole ones, one
    at a time.
    """
    cut = decode.pixels_of if exact else fast_decode.pixels_of
    if engine.options.cuts:
        cut, batch_size = decode.whole, 1

    def read(image: Image | ImageEntry) -> DecodedImage:
        if not isinstance(image, ImageEntry):
            image = ImageEntry(name=name_of(image), image=image)
        image = image.loaded()
        if image.image is None:
            return DecodedImage(name=image.name, problem=image.problem)
        try:
            pixels = cut(image.image, preprocess)
            reference = ImageReference(image.image)
            return DecodedImage(name=image.name, pixels=pixels, image=reference)
        except UnreadableImageError as error:
            return DecodedImage(name=image.name, problem=error.reason)

    reads = ordered(read, images, threads=threads, ahead=batch_size + 8)
    sent: deque[list[DecodedImage]] = deque()
    for rows in engine.infer_batches(_batches(reads, batch_size, sent, preprocess)):
        yield from _joined(sent.popleft(), rows)
    # Images after the last readable one were in no batch.
    while sent:
        yield from _joined(sent.popleft(), np.empty((0, 0), np.float32))


def _batches(
    reads: Iterable[DecodedImage],
    size: int,
    sent: deque[list[DecodedImage]],
    preprocess: Preprocess,
) -> Iterator[Pixels]:
    """Batches of ``size`` readable images; ``sent`` gets the images of each, and unreadable ones.

    Engines only take batches, so a long run of unreadable images flushes a partial batch, or sends
    one black image.
    """
    group: list[DecodedImage] = []
    found: list[Cut] = []

    def pack() -> Pixels:
        nonlocal group, found
        side = preprocess.size
        black = np.zeros((side, side, preprocess.channel_count), np.uint8)
        batch: Pixels = np.stack(found or [black])
        # The batch has the pixels now.
        sent.append([replace(one, pixels=None) for one in group])
        group, found = [], []
        return batch

    for one in reads:
        group.append(one)
        if one.pixels is not None:
            found.append(one.pixels)
        if len(found) == size or len(group) == size + PATIENCE:
            yield pack()
    if found:
        yield pack()
    elif group:
        sent.append(group)


def _joined(
    group: Iterable[DecodedImage], rows: Rows
) -> Iterator[tuple[DecodedImage, Vector | None]]:
    remaining = iter(rows)
    for one in group:
        yield one, next(remaining) if one.problem is None else None


def is_one(images: object) -> bool:
    """Whether this is a single image."""
    if hasattr(images, "ndim"):
        return bool(images.ndim < 4)
    return isinstance(images, str | bytes | Path | PIL.Image.Image)
