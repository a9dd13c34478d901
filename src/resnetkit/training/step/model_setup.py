"""Stochastic depth, layer freezing and weight EMA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.ops import stochastic_depth

from resnetkit.bundle.bundle import Bundle
from resnetkit.nn.resnet import ResidualBlock, ResNet, build
from resnetkit.training.fsdp import own
from resnetkit.training.recipe.recipe import Recipe


def module_of(recipe: Recipe, pretrained: Bundle | None) -> ResNet:
    """The network with the weights of ``pretrained``, or initialized from the recipe's seed.

    torch's global generator is unchanged.
    """
    if pretrained is not None:
        return _placed(pretrained.module(), recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.runtime.seed)
        return freshly_built(recipe)


def freshly_built(recipe: Recipe) -> ResNet:
    """The network initialized by torch's generator, on the training device."""
    return _placed(build(recipe.network), recipe)


def _placed(module: ResNet, recipe: Recipe) -> ResNet:
    """``module`` on the training device, channels last, which is faster on CPUs too."""
    return module.to(recipe.runtime.device).to(memory_format=torch.channels_last)


@dataclass(slots=True)
class Place:
    """Position of this process's images in the whole batch: ``first`` of ``total`` precede them;
    ``total`` is 0 for a single process."""

    total: int = 0
    first: int = 0


def skip_blocks(module: ResNet, rate: float, place: Place | None = None) -> None:
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): in training the main path of a block
    is skipped for some images, and divided by the survival probability for the others.

    ``rate`` is that of the last block, growing linearly from 0 at the first. The images to skip are
    drawn for the whole batch; ``place`` says which of them are here.
    """
    blocks = [child for child in module.modules() if isinstance(child, ResidualBlock)]
    for number, block in enumerate(blocks):
        share = rate * number / max(1, len(blocks) - 1)
        block.get_submodule("add").register_forward_pre_hook(_Skip(block, share, place or Place()))


class _Skip:
    def __init__(self, block: nn.Module, rate: float, place: Place) -> None:
        self.block, self.rate, self.place = block, rate, place

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        main, shortcut = inputs
        place, training = self.place, self.block.training
        if not (place.total and training):
            return stochastic_depth(main, self.rate, "row", training), shortcut
        every = stochastic_depth(main.new_ones(place.total, 1, 1, 1), self.rate, "row", training)
        return main * every[place.first : place.first + len(main)], shortcut


def freeze(module: ResNet, parts: int) -> list[nn.Module]:
    """Freeze the first ``parts`` stages, starting with the stem; returns their modules.

    Keep them in evaluation mode to freeze the norms' running statistics as well.
    """
    frozen = []
    for stage in module.network.stages[:parts]:
        names = [stage.path] if stage.blocks else [layer.name for layer in stage.layers]
        frozen += [module.get_submodule(name) for name in names]
    for child in frozen:
        child.requires_grad_(False)
    return frozen


def averaged(module: ResNet, decay: float) -> AveragedModel:
    """The exponential moving average of weights and running statistics (Polyak & Juditsky 1992)."""
    # torch gives it no types.
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def of_own_parts(averages: Any, values: Any, count: Any) -> None:
        update(list(map(own, averages)), list(map(own, values)), count)

    return AveragedModel(module, multi_avg_fn=of_own_parts, use_buffers=True)


class FlipTTA(nn.Module):
    """The mean of the logits of an image and its mirror image, ``(N, C, H, W) -> (N, classes)``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = torch.add(self.module(x), self.module(x.flip(-1))) / 2
        return logits
