"""Images in, ranked classes out; any number of images in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from resnetkit.errors import InputError
from resnetkit.images.pixels import (
    Image,
    UnreadableImageError,
    name_of,
    normalise,
    pixels_of,
)
from resnetkit.images.reading import ordered
from resnetkit.images.sources import SUFFIXES, files_in
from resnetkit.preprocess import Preprocess

__all__ = [
    "Guess",
    "Image",
    "Model",
    "Prediction",
    "classified",
    "device_named",
    "expand",
    "predict",
    "stream",
]

#: What makes logits ``(N, classes)`` of a batch ``(N, C, size, size)``.
Model = Callable[[Tensor], Tensor]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """One class and how probable the network thinks it is, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The most probable classes of one image, best first; or why it could not be read."""

    name: str
    guesses: tuple[Guess, ...] = ()
    problem: str | None = None

    @property
    def label(self) -> str:
        """The most probable class. Raises ``IndexError`` where the image could not be read."""
        return self.guesses[0].label

    @property
    def probability(self) -> float:
        """The probability of ``label``."""
        return self.guesses[0].probability

    def to_dict(self) -> dict[str, Any]:
        """The prediction as JSON types."""
        guesses = [{"label": g.label, "probability": g.probability} for g in self.guesses]
        return {"image": self.name, "predictions": guesses}


def predict(
    model: Model,
    preprocess: Preprocess,
    classes: Sequence[str],
    images: Image | Sequence[Image],
    top: int = 5,
    *,
    batch_size: int = 32,
    device: str = "cpu",
) -> list[Prediction]:
    """The ``top`` classes of each image, in the order given.

    ``images`` is one image or a sequence: paths, encoded bytes, PIL images, uint8 arrays
    ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``, or uint8 tensors ``(H, W)``, ``(C, H, W)`` or
    ``(N, C, H, W)``. Raises ``UnreadableImageError``, an ``InputError``, for the first one
    that cannot be read.
    """
    found = []
    many = cast(Sequence[Image], [images] if _is_one(images) else images)
    for prediction in stream(
        model, preprocess, classes, many, top=top, batch_size=batch_size, device=device
    ):
        if prediction.problem is not None:
            raise UnreadableImageError(prediction.name, prediction.problem)
        found.append(prediction)
    return found


def stream(
    model: Model,
    preprocess: Preprocess,
    classes: Sequence[str],
    images: Iterable[Image],
    *,
    top: int = 5,
    batch_size: int = 32,
    device: str = "cpu",
) -> Iterator[Prediction]:
    """As ``predict``, one prediction at a time; never more than a few batches are in memory.

    An image that cannot be read gives a prediction with a ``problem`` in its place. ``model`` has
    to be on ``device``. Raises ``ValueError`` for a ``top`` or ``batch_size`` below 1, and where
    there are no classes.
    """
    if not classes:
        raise InputError("the network has no classes to rank; give one with a classifier")
    if top < 1 or batch_size < 1:
        raise InputError(f"top is {top} and the batch size {batch_size}; both take a number >= 1")
    for read, logits in classified(model, preprocess, images, batch_size=batch_size, device=device):
        if logits is None:
            yield Prediction(name=read.name, problem=read.problem)
            continue
        best = logits.softmax(-1).topk(min(top, len(classes)))
        yield Prediction(
            name=read.name,
            guesses=tuple(
                Guess(label=classes[int(number)], probability=float(probability))
                for probability, number in zip(best.values, best.indices, strict=True)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """An image read: ``pixels`` is uint8 ``(C, size, size)``, or None and ``problem`` says why."""

    name: str
    pixels: Tensor | None = None
    problem: str | None = None


def classified(
    model: Model,
    preprocess: Preprocess,
    images: Iterable[Image],
    *,
    batch_size: int,
    device: str = "cpu",
) -> Iterator[tuple[Read, Tensor | None]]:
    """Each image, in order, with its float32 logits ``(classes,)``; None where it is unreadable."""

    def read(image: Image) -> Read:
        try:
            return Read(name=name_of(image), pixels=pixels_of(image, preprocess))
        except UnreadableImageError as error:
            return Read(name=error.name, problem=error.reason)

    for batch in _batches(ordered(read, images), batch_size):
        pixels = [one.pixels for one in batch if one.pixels is not None]
        rows = iter(_logits(model, torch.stack(pixels), preprocess, device) if pixels else ())
        for one in batch:
            yield Read(name=one.name, problem=one.problem), None if one.problem else next(rows)


@torch.inference_mode()
def _logits(model: Model, pixels: Tensor, preprocess: Preprocess, device: str) -> Tensor:
    inputs = normalise(pixels, preprocess).to(device)
    return model(inputs).float().cpu()


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _is_one(images: object) -> bool:
    if isinstance(images, Tensor | np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | bytes | Path | PIL.Image.Image)


def expand(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are and folders as the images in them and below, sorted.

    Raises ``ValueError`` for a path that does not exist and for a folder without images.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = files_in(path)
            if not files:
                kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
                raise InputError(f"{path} has no images ({kinds}); give another folder")
            found += files
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist; give images or folders of images")
    return found


def device_named(name: str | None) -> str:
    """A device of torch that is there: ``name``, or without one ``cuda`` if possible, else ``cpu``.

    Raises ``ValueError`` for one that is not there.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):
        have = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise InputError(f"--device {name} is not there on this machine; give {have}") from None
    return name
