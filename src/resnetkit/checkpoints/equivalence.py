"""Equivalence check: the largest difference of two networks' outputs on a few images.

Weights may be read one layer at a time, so that a proof holds no second copy of a network.
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

#: Images of a proof.
IMAGES = 4
#: Largest difference that is allowed, relative to the largest logit: of equal operations in
#: float32, and of norms whose statistics went into scale and bias.
EQUAL, FOLDED = 1e-5, 1e-4
#: The rounding of one number; folded scales and biases of half precision are rounded to it.
_EPSILONS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputComparison:
    """Two networks' answers: their largest absolute difference, and the largest of the first."""

    difference: float
    largest: float

    @property
    def relative(self) -> float:
        """The difference as a share of the largest answer; infinite where that cannot be said."""
        if not math.isfinite(self.difference) or not math.isfinite(self.largest):
            return math.inf
        if self.difference == 0:
            return 0.0
        return self.difference / self.largest if self.largest else math.inf

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"images": IMAGES, "difference": self.difference, "largest": self.largest}


def images(channels: int, size: int) -> Tensor:
    """The images of a proof, always the same: ``(4, channels, size, size)``, normal numbers."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((IMAGES, channels, size, size), generator=generator)


@torch.inference_mode()
def answers(network: Network, arrays: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """What ``network`` answers with these weights, in float32.

    ``arrays`` are read a layer at a time, when it is the layer's turn, and let go after it.
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


def compare(first: Tensor, second: Tensor) -> OutputComparison:
    """The largest difference of two networks' answers, and the largest answer of the first."""
    return OutputComparison(
        difference=float((first - second).abs().max()), largest=float(first.abs().max())
    )


def tolerance(dtype: torch.dtype, *, folded: bool) -> float:
    """The relative difference that is allowed.

    Both networks are computed in float32 from the numbers that are stored, so that half precision
    differs only where norms were folded and their new scales and biases were rounded.
    """
    if not folded:
        return EQUAL
    return max(FOLDED, 8 * _EPSILONS.get(dtype, 0.0))
