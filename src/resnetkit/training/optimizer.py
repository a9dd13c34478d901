"""Stochastic gradient descent, with weight decay where it belongs, and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from resnetkit.training.recipe import Recipe


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: the weights of convolutions and linear layers, which decay, and all others.

    Norms and biases are not decayed (Goyal et al. 2017, arXiv:1706.02677; He et al. 2019,
    arXiv:1812.01187). Decided by the kind of the layer that has the parameter.
    """
    decayed = [
        child.weight for child in module.modules() if isinstance(child, nn.Conv2d | nn.Linear)
    ]
    known = {id(weight) for weight in decayed}
    others = [parameter for parameter in module.parameters() if id(parameter) not in known]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def optimizer_of(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with momentum on ``parameter_groups``; ``set_rate`` gives it the rate of a step."""
    return torch.optim.SGD(
        parameter_groups(module, recipe.weight_decay),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
    )


def learning_rate(step: int, *, steps: int, warmup: int, peak: float) -> float:
    """The rate of a step counted from 0: linear up to ``peak`` in ``warmup`` steps, then a cosine.

    ``peak * (step + 1) / warmup``, then ``peak * (1 + cos(pi * (step - warmup) / (steps -
    warmup))) / 2`` (Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts).
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all groups the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
