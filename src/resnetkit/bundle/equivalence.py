"""Equivalence check: the largest difference of two networks' outputs on a few images.

Computed by torch, or by an engine where torch is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from resnetkit.architecture.network import Network
from resnetkit.checkpoints import writing
from resnetkit.inference.engines.selection import installed, open_engine
from resnetkit.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
#: Number of images.
IMAGES = 4
#: Largest difference that is allowed, relative to the largest logit: of equal operations in
#: float32, and of norms whose statistics went into scale and bias.
EQUAL, FOLDED = 1e-5, 1e-4
#: The rounding of one number; folded scales and biases of half precision are rounded to it.
_EPSILONS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


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


def images(channels: int, size: int) -> Floats:
    """The images of the check, always the same: ``(4, channels, size, size)``, normal numbers."""
    draw = np.random.default_rng(0)
    return draw.standard_normal((IMAGES, channels, size, size), np.float32)


def answers(network: Network, arrays: Mapping[str, Array], pixels: Floats) -> Floats:
    """The logits of ``network`` with these weights, or its pooled maps ``(N, C, H, W)`` where it
    has no classifier, in float32.

    torch reads ``arrays`` a layer at a time and lets them go, so that no second copy of a network
    is held. Engines hold one.
    """
    if installed("torch"):
        return _by_torch(network, arrays, pixels)
    channels, size = pixels.shape[1:3]
    plain = Preprocess(
        size=size,
        channels="L" if channels == 1 else "RGB" if channels == 3 else "other",
        divisor=1.0,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    engine = open_engine(
        _Weights(network, plain, arrays),
        output="embeddings" if network.options.num_classes is None else "logits",
        pixels="float32",
    )
    found: Floats = engine.answer(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    return found


@dataclass(frozen=True, slots=True)
class _Weights:
    """What an engine is made from."""

    network: Network
    preprocess: Preprocess
    numbers: Mapping[str, Array]


def _by_torch(network: Network, arrays: Mapping[str, Array], pixels: Floats) -> Floats:
    import torch

    from resnetkit.nn.resnet import ResNet

    with torch.device("meta"):
        module = ResNet(network).eval()
    for path, layer in module.named_modules():
        names = [name for name in layer.state_dict() if "." not in name]
        if names:
            layer.register_forward_pre_hook(partial(_fill, path, names, arrays))
            layer.register_forward_hook(_empty)
    with torch.inference_mode():
        found: Floats = module(torch.from_numpy(pixels)).numpy()
    return found


def _fill(
    path: str, names: list[str], arrays: Mapping[str, Array], layer: nn.Module, _: object
) -> None:
    state = {name: writing.tensor(arrays[f"{path}.{name}"]) for name in names}
    layer.load_state_dict(
        {
            name: value.float() if value.is_floating_point() else value
            for name, value in state.items()
        },
        assign=True,
    )


def _empty(layer: nn.Module, _inputs: object, _output: object) -> None:
    layer.to("meta")


def compare(first: Floats, second: Floats) -> OutputComparison:
    """The largest difference of two networks' answers, and the largest answer of the first."""
    return OutputComparison(
        difference=float(np.abs(first - second).max()), largest=float(np.abs(first).max())
    )


def tolerance(dtype: str, *, folded: bool) -> float:
    """The relative difference that is allowed for weights of a numpy ``dtype``.

    Both networks are computed in float32 from the numbers that are stored, so that half precision
    differs only where norms were folded and their new scales and biases were rounded.
    """
    if not folded:
        return EQUAL
    return max(FOLDED, 8 * _EPSILONS.get(dtype, 0.0))
