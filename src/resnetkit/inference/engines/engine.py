"""The protocol that every engine has. Nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, get_args

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
Choice = Literal["auto", "torch", "torch-compiled", "openvino", "openvino-bf16", "onnxruntime"]
#: What ``--engine`` takes.
CHOICES: tuple[Choice, ...] = get_args(Choice)


def available() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Engine(Protocol):
    """A network that is ready to answer on one device.

    ``name`` is what ``--engine`` takes, ``precision`` what it computes in (``fp32``, ``bf16``,
    ``int8``), ``pixels`` the type of number it takes, ``output`` what its rows are. An engine that
    ``cuts`` takes whole images of any size, one in a batch, and resizes and cuts them itself.
    """

    name: str
    precision: str
    pixels: PixelType
    output: Output
    cuts: bool
    streams: int

    @property
    def ways(self) -> tuple[int, ...]:
        """What ``streams``, the number of batches that ``answers`` computes at a time, may be."""
        ...

    def answer(self, pixels: Pixels) -> Rows:
        """The rows of one batch ``(N, H, W, C)``; N may differ from call to call.

        Raises ``ValueError`` for pixels of another type than ``pixels``."""
        ...

    def answers(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order. Batches are taken from ``batches`` (which may be slow:
        they are read and cut meanwhile) while earlier ones are computed, a few ahead at most."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """What it is, as JSON types: name, precision, versions, device, threads, requests."""
        ...
