"""The interface of engines. Nothing here imports torch."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

#: A batch of upright pixels ``(N, H, W, C)``, 0 to 255: RGB, or grey with one channel. The engine
#: divides, subtracts, orders channels as the network wants (BGR) and turns them to NCHW itself.
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
#: Whole numbers, as files have them, or any, as a resize without rounding makes them.
PixelType = Literal["uint8", "float32"]
#: What is answered: logits ``(N, classes)`` or embeddings ``(N, features)``, the pooled last map.
Rows = npt.NDArray[np.float32]
Output = Literal["logits", "embeddings"]
EngineName = Literal["auto", "torch", "torch-compiled", "openvino", "openvino-bf16", "onnxruntime"]
#: What ``--engine`` takes.
CHOICES: tuple[EngineName, ...] = get_args(EngineName)


def available() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine computes.

    ``features`` is the length of a row, 0 where it is not known. ``device`` is one of torch's, or
    None for the usual one. ``batch`` is the number of images that a graph takes at a time, None for
    any. A graph that ``cuts`` takes one whole image and resizes and crops it itself. ``reason``
    says why ``auto`` chose the engine.
    """

    output: Output = "logits"
    features: int = 0
    precision: str = "fp32"
    device: str | None = None
    threads: int | None = None
    batch: int | None = None
    cuts: bool = False
    pixels: PixelType = "uint8"
    reason: str = ""


class Engine(ABC):
    """A network that is ready to answer on one device.

    ``name`` is what ``--engine`` takes, ``precision`` what it computes in (``fp32``, ``bf16``,
    ``int8``), ``streams`` the number of batches that ``infer_batches`` computes at a time, and
    ``ways`` what that may be.
    """

    name: str
    version: str
    ways: tuple[int, ...] = (1,)
    streams = 1

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.precision = options.precision

    @property
    def output(self) -> Output:
        """What its rows are."""
        return self.options.output

    @abstractmethod
    def answer(self, pixels: Pixels) -> Rows:
        """The rows of one batch ``(N, H, W, C)``; N may differ from call to call.

        Raises ``ValueError`` for pixels of another type than ``options.pixels``."""

    @abstractmethod
    def infer_batches(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order. Batches are taken from ``batches`` (which may be slow:
        they are read and cut meanwhile) while earlier ones are computed, a few ahead at most."""

    def to_dict(self) -> dict[str, Any]:
        """What it is, as JSON types: name, precision, version, device, threads."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "pixels": self.options.pixels,
            "output": self.output,
            "version": self.version,
            "device": self.options.device or "cpu",
            "threads": self.options.threads,
        }
