"""Optimizers, weight-decay groups and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from resnetkit.training.fsdp import is_sharded
from resnetkit.training.recipe.option_groups import ScheduleName
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.step.lamb import Lamb


def parameter_groups(
    module: nn.Module, weight_decay: float, *, everything: bool = False
) -> list[dict[str, Any]]:
    """Two groups: the weights of convolutions and linear layers, which decay, and all others.

    Norms and biases do not decay (Goyal et al. 2017, arXiv:1706.02677; He et al. 2019,
    arXiv:1812.01187), unless ``everything`` is set. Groups depend on the kind of layer. Parameters
    without gradients are skipped.
    """
    decayed = [
        child.weight
        for child in module.modules()
        if isinstance(child, nn.Conv2d | nn.Linear) and child.weight.requires_grad
    ]
    known = {id(weight) for weight in decayed}
    others = [p for p in module.parameters() if id(p) not in known and p.requires_grad]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": weight_decay if everything else 0.0},
    ]


def optimizer_of(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of ``parameter_groups``; ``set_rate`` sets its rate."""
    groups = parameter_groups(
        module,
        recipe.optimizer.weight_decay,
        everything=recipe.optimizer.weight_decay_scope == "all",
    )
    # One pass over the weights; torch chooses on other devices, and has no fused SGD of shards.
    fusable = torch.device(recipe.runtime.device).type in ("cpu", "cuda") and not is_sharded(module)
    fused = True if fusable else None
    if recipe.optimizer.name == "sgd":
        nesterov = recipe.optimizer.nesterov and recipe.optimizer.momentum > 0
        return torch.optim.SGD(
            groups,
            lr=recipe.optimizer.lr,
            momentum=recipe.optimizer.momentum,
            nesterov=nesterov,
            fused=fused,
        )
    betas = (recipe.optimizer.momentum, recipe.optimizer.beta2)
    if recipe.optimizer.name == "adamw":
        return torch.optim.AdamW(
            groups, lr=recipe.optimizer.lr, betas=betas, eps=recipe.optimizer.eps, fused=fused
        )
    return Lamb(groups, lr=recipe.optimizer.lr, betas=betas, eps=recipe.optimizer.eps)


def learning_rate(
    step: int,
    *,
    steps: int,
    warmup: int,
    peak: float,
    schedule: ScheduleName = "cosine",
    milestones: Sequence[float] = (),
) -> float:
    """The rate of a step counted from 0: up to ``peak`` in ``warmup`` steps, then down.

    Up: ``peak * (step + 1) / warmup``; with ``one-cycle`` a cosine from ``peak / 25`` (Smith &
    Topin 2017, arXiv:1708.07120, as in torch). Down, with ``t = (step - warmup) / (steps -
    warmup)``: ``cosine`` is ``peak * (1 + cos(pi * t)) / 2`` (Loshchilov & Hutter 2016,
    arXiv:1608.03983, without restarts), ``linear`` is ``peak * (1 - t)``, ``step`` is divided by
    10 after each of ``milestones``, shares of all steps.
    """
    if step < warmup:
        if schedule == "one-cycle":
            return peak * (1 - (1 - 1 / 25) * (1 + math.cos(math.pi * step / warmup)) / 2)
        return peak * (step + 1) / warmup
    if schedule == "step":
        return peak * 0.1 ** sum(step >= share * steps for share in milestones)
    done = (step - warmup) / (steps - warmup)
    if schedule == "linear":
        return peak * (1 - done)
    return peak * (1 + math.cos(math.pi * done)) / 2


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def schedule_of(recipe: Recipe, each: int) -> Callable[[int], float]:
    """The learning rate of a step, counted from 0, of a run with ``each`` steps per epoch."""
    return partial(
        learning_rate,
        steps=recipe.epochs * each,
        warmup=round(recipe.schedule.warmup * each),
        peak=recipe.optimizer.lr,
        schedule=recipe.schedule.name,
        milestones=recipe.schedule.milestones,
    )
