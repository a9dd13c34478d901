"""Throw-away training steps for throughput measurements."""

from __future__ import annotations

import torch
from torch import Tensor

from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.step.compile import compiled
from resnetkit.training.step.loss import criterion_of
from resnetkit.training.step.model_setup import freeze, module_of
from resnetkit.training.step.optimization_step import StepOptions, placed, train_step
from resnetkit.training.step.optimizer import optimizer_of, set_rate


class DryRun:
    """The network of ``recipe`` with new weights, trained on noise of its largest size.

    Speed does not depend on weights and images; the learning rate is 0, so weights stay finite.
    torch's global generator is unchanged.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._module = module_of(recipe, None)
        self._frozen = freeze(self._module, recipe.model.freeze)
        self._forward = compiled(self._module) if recipe.runtime.compile else None
        self._classes = recipe.network.options.num_classes or 1
        self._criterion = criterion_of(recipe, [1] * self._classes)
        self._optimizer = optimizer_of(self._module, recipe)
        set_rate(self._optimizer, 0.0)

    def inputs(self, batch: int) -> tuple[Tensor, Tensor]:
        """Images ``(batch, C, size, size)`` and labels ``(batch,)`` on the recipe's device."""
        generator = torch.Generator().manual_seed(self.recipe.runtime.seed)
        size, channels = self.recipe.largest_size, self.recipe.preprocess.channel_count
        images = torch.randn(batch, channels, size, size, generator=generator)
        labels = torch.randint(self._classes, (batch,), generator=generator)
        return placed(images, self.recipe.runtime.device), labels.to(self.recipe.runtime.device)

    def step(self, inputs: tuple[Tensor, Tensor], *, bf16: bool) -> None:
        """Make one step, and wait until it is finished."""
        logits = train_step(
            self._module,
            *inputs,
            self._optimizer,
            self._criterion,
            StepOptions(
                frozen=self._frozen,
                clip=self.recipe.optimizer.clip_grad,
                pieces=self.recipe.optimizer.grad_accum_steps,
                forward=self._forward,
                bf16=bf16,
            ),
        )
        float(logits[0, 0])  # waits for a GPU
