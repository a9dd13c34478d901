"""Equivalence check: the largest difference of two networks' outputs on a few images.

Weights may be read one layer at a time, so that no second copy of a network is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from resnetkit.architecture.network import Network
from resnetkit.nn.resnet import ResNet

#: Number of images.
IMAGES = 4
#: Tolerances relative to the largest logit: for equal operations in float32, and for norms with
#: folded statistics.
EQUAL, FOLDED = 1e-5, 1e-4
#: Rounding errors of half precision, for folded scales and biases.
_EPSILONS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two networks' outputs: the largest absolute difference, and the largest of the first."""

    difference: float
    largest: float

    @property
    def relative(self) -> float:
        """The difference relative to the largest output; infinite if undefined."""
        if not math.isfinite(self.difference) or not math.isfinite(self.largest):
            return math.inf
        if self.difference == 0:
            return 0.0
        return self.difference / self.largest if self.largest else math.inf

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"images": IMAGES, "difference": self.difference, "largest": self.largest}


def images(channels: int, size: int) -> Tensor:
    """The fixed verification images: ``(4, channels, size, size)``, normally distributed."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((IMAGES, channels, size, size), generator=generator)


@torch.inference_mode()
def answers(network: Network, arrays: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """The outputs of ``network`` with these weights, in float32.

    ``arrays`` are read one layer at a time, and freed after it.
    """
    with torch.device("meta"):
        module = ResNet(network).eval()
    for path, layer in module.named_modules():
        names = [name for name in layer.state_dict() if "." not in name]
        if names:
            layer.register_forward_pre_hook(partial(_fill, path, names, arrays))
            layer.register_forward_hook(_empty)
    answer: Tensor = module(pixels)
    return answer


def _fill(
    path: str, names: list[str], arrays: Mapping[str, Tensor], layer: nn.Module, _: object
) -> None:
    state = {name: arrays[f"{path}.{name}"] for name in names}
    layer.load_state_dict(
        {
            name: value.float() if value.is_floating_point() else value
            for name, value in state.items()
        },
        assign=True,
    )


def _empty(layer: nn.Module, _inputs: object, _output: object) -> None:
    layer.to("meta")


def compare(first: Tensor, second: Tensor) -> Comparison:
    """Compare two networks' outputs."""
    return Comparison(
        difference=float((first - second).abs().max()), largest=float(first.abs().max())
    )


def tolerance(dtype: torch.dtype, *, folded: bool) -> float:
    """The allowed relative difference.

    Both networks are computed in float32 from the stored weights, so half precision only matters if
    norms were folded and their new scales and biases rounded.
    """
    if not folded:
        return EQUAL
    return max(FOLDED, 8 * _EPSILONS.get(dtype, 0.0))
