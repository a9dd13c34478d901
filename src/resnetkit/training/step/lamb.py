"""The LAMB optimizer.

You et al. 2019, arXiv:1904.00962, algorithm 2, with bias correction; parameters without decay get
Adam's step, as in timm and NVIDIA's implementations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from resnetkit.training.fsdp import whole


class Lamb(torch.optim.Optimizer):
    """``p -= lr * r * u`` with ``u = m / (sqrt(v) + eps) + decay * p`` and ``r = |p| / |u|``.

    ``m`` and ``v`` are Adam's moments, bias-corrected. ``r`` is 1 if a norm or the group's
    ``weight_decay`` is 0.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make a step; ``closure`` recomputes the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_of(parameter, parameter.grad, group)
        return loss

    def _step_of(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        count = float(state["step"])
        scale = (square / (1 - second**count)).sqrt_().add_(group["eps"])
        update = (mean / (1 - first**count)).div_(scale)
        rate = group["lr"]
        if group["weight_decay"]:
            update.add_(parameter, alpha=group["weight_decay"])
            length, change = float(whole(parameter.norm())), float(whole(update.norm()))
            if length > 0 and change > 0:
                rate *= length / change
        parameter.add_(update, alpha=-rate)
