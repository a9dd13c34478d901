"""Gradients by torch: of a class with respect to a layer's output, or to the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from resnetkit.bundle.bundle import Bundle
from resnetkit.errors import require
from resnetkit.inference.engines.engine import Pixels

Array = npt.NDArray[np.float32]
#: Images in one pass.
_BATCH = 8


def at_layer(bundle: Bundle, pixels: Pixels, layer: str, target: int) -> tuple[Array, Array]:
    """The output ``(C, h, w)`` of a layer for one picture ``(1, size, size, C)``, and the gradient
    of the logit of ``target`` with respect to it. Raises ``ValueError`` without torch."""
    torch = require("torch", "a gradient")
    module, given = _ready(bundle, pixels)
    kept: list[Any] = []

    def cut(_module: Any, _inputs: Any, output: Any) -> Any:
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # the next layer may write into it

    handle = module.get_submodule(layer).register_forward_hook(cut)
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(module(given)[0, target], kept[0])
    finally:
        handle.remove()
    return kept[0].detach()[0].numpy(), gradient[0].numpy()


def integrated(bundle: Bundle, pixels: Pixels, target: int, steps: int) -> Array:
    """Integrated gradients ``(size, size)`` (Sundararajan et al. 2017, arXiv:1703.01365), summed
    over the channels of the input.

    ``x * integral of dy/dx(a x) da`` for a from 0 to 1, from the mean colour, which is 0 after the
    preprocessing; by Gauss-Legendre quadrature with ``steps`` points. Raises as ``at_layer``.
    """
    torch = require("torch", "a gradient")
    module, given = _ready(bundle, pixels)
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # from -1 to 1
    shares, weights = (
        torch.tensor(part / 2, dtype=given.dtype).view(-1, 1, 1, 1) for part in (nodes + 1, weights)
    )
    total = torch.zeros_like(given[0])
    for share, weight in zip(shares.split(_BATCH), weights.split(_BATCH), strict=True):
        between = share * given
        with torch.enable_grad():
            between.requires_grad_()
            (gradient,) = torch.autograd.grad(module(between)[:, target].sum(), between)
        total += (weight * gradient).sum(0)
    found: Array = (given[0] * total).sum(0).numpy()
    return found


def input_energy(module: Any, given: Any, layer: str, position: tuple[int, int]) -> Array:
    """The squared gradient ``(N, H, W)`` of one position of a layer's output, summed over its
    channels, with respect to inputs ``(N, C, H, W)``, summed over theirs."""
    torch = require("torch", "an effective receptive field")
    kept: list[Any] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        maps = output if output.ndim == 4 else output[:, :, None, None]
        kept.append(maps[:, :, position[0], position[1]].sum())

    handle = module.get_submodule(layer).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            given = given.detach().requires_grad_()
            module(given)
            (gradient,) = torch.autograd.grad(kept[0], given)
    finally:
        handle.remove()
    found: Array = gradient.square().sum(1).numpy()
    return found


def _ready(bundle: Bundle, pixels: Pixels) -> tuple[Any, Any]:
    """The module, whose weights need no gradients, and its input."""
    torch = require("torch", "a gradient")
    from resnetkit.data.decoding.tensors import normalise

    module = bundle.module().float().requires_grad_(False)
    return module, normalise(torch.from_numpy(pixels).movedim(-1, -3), bundle.preprocess)
