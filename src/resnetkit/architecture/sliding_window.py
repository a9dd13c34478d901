"""Sliding windows of convolutions and pools, and their output size arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rounding = Literal["floor", "ceil"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """A square sliding window: the size arithmetic of convolutions and pools.

    ``padding`` is added on all four sides, ``end_padding`` at the bottom and right only.
    ``starts_inside`` is torch's rule for pools that round up: a window may not start beyond the
    input and its left padding (``torch.nn.MaxPool2d``, ``ceil_mode``).
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    end_padding: int = 0
    rounding: Rounding = "floor"
    starts_inside: bool = False

    @property
    def extent(self) -> int:
        """Pixels that the window spans, with its dilation."""
        return self.dilation * (self.kernel - 1) + 1

    def _slack(self, size: int) -> int:
        return size + 2 * self.padding + self.end_padding - self.extent

    def _steps(self, size: int) -> int:
        slack = self._slack(size)
        return slack // self.stride if self.rounding == "floor" else -(-slack // self.stride)

    def _drops_last(self, size: int) -> bool:
        last_start = self._steps(size) * self.stride
        return self.starts_inside and self.rounding == "ceil" and last_start >= size + self.padding

    def output(self, size: int) -> int:
        """Positions of the window along an axis of ``size`` pixels; below 1 means none."""
        return self._steps(size) + 1 - self._drops_last(size)

    def overhang(self, size: int) -> int:
        """Rows below the padded input that the last window of a rounded-up size needs."""
        return max(0, (self.output(size) - 1) * self.stride - self._slack(size))

    def formula(self, size: int) -> str:
        """``output`` with the numbers filled in, e.g. ``floor((473 + 2*1 - 3) / 2) + 1 = 237``."""
        padded = f"{size} + 2*{self.padding}"
        if self.end_padding:
            padded += f" + {self.end_padding}"
        extent = str(self.kernel)
        if self.dilation > 1:
            extent = f"({self.dilation}*({self.kernel} - 1) + 1)"
        text = f"{self.rounding}(({padded} - {extent}) / {self.stride}) + 1"
        if self._drops_last(size):
            text += " - 1 (the last window would start outside)"
        return f"{text} = {self.output(size)}"
