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
#: itself normalises, reorders channels (BGR) and transposes to NCHW.
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
#: Integers, as in files, or floats, as from a resize without rounding.
PixelType = Literal["uint8", "float32"]
#: Logits ``(N, classes)`` or embeddings ``(N, features)``, the pooled last map.
Rows = npt.NDArray[np.float32]
Output = Literal["logits", "embeddings"]
EngineName = Literal[
    "auto", "torch", "torch-compiled", "torch-bf16", "torch-fp16",
    "openvino", "openvino-bf16", "onnxruntime",
]  # fmt: skip
#: The values of ``engine``.
CHOICES: tuple[EngineName, ...] = get_args(EngineName)


def available() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of an engine.

    ``features`` is the length of a row, 0 if unknown. ``device`` is a torch device, or None for the
    default. ``batch`` is the fixed batch size of a graph, None for any. A graph that ``cuts`` takes
    one whole image and resizes and crops it itself. ``reason`` says why ``auto`` chose the engine.
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
    """A network ready for inference on one device.

    ``name`` is the value of ``engine``, ``precision`` the compute type (``fp32``, ``bf16``,
    ``int8``), ``streams`` the number of batches that ``infer_batches`` computes concurrently, and
    ``ways`` its allowed values.
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
        """The kind of its rows."""
        return self.options.output

    @abstractmethod
    def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
        """The rows of one batch ``(N, H, W, C)``; N may differ from call to call.

        With ``shared`` it is computed in one of ``streams`` streams, so that as many threads may
        call it at the same time; otherwise with all of the engine's threads. Raises ``ValueError``
        for pixels of another type than ``options.pixels``."""

    def outputs(self, pixels: Pixels) -> dict[str, Rows]:
        """All outputs of the graph for one batch, by name; see ``open_engine``.

        Raises ``TypeError`` for an engine without a graph."""
        raise TypeError(f"the engine {self.name} has no graph")

    @abstractmethod
    def infer_batches(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order. ``batches`` is consumed while earlier batches are
        computed, at most a few ahead, so that reading and cropping overlap with inference."""

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON types: name, precision, version, device, threads."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "pixels": self.options.pixels,
            "output": self.output,
            "version": self.version,
            "device": self.options.device or "cpu",
            "threads": self.options.threads,
        }
