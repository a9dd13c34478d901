"""Loss functions, with mixup and CutMix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from resnetkit.training.recipe.recipe import Recipe

#: From logits ``(N, classes)`` and labels ``(N,)`` or shares ``(N, classes)`` to a scalar.
Criterion = Callable[[Tensor, Tensor], Tensor]


def criterion_of(recipe: Recipe, counts: Sequence[int]) -> Criterion:
    """The loss of a recipe; ``counts`` are the training images of each class."""
    weights = _weights(recipe, counts)
    if recipe.loss.name == "bce":
        return partial(
            binary_cross_entropy,
            threshold=recipe.loss.bce_threshold,
            smoothing=recipe.loss.label_smoothing,
            weights=weights,
        )
    return partial(F.cross_entropy, weight=weights, label_smoothing=recipe.loss.label_smoothing)


def weigher_of(recipe: Recipe, counts: Sequence[int]) -> Callable[[Tensor], float]:
    """The weight of a batch's mean loss, from its targets.

    The number of images, except if torch divides by the sum of their classes' weights.
    """
    weights = _weights(recipe, counts)

    def weigh(targets: Tensor) -> float:
        if weights is None or recipe.loss.name == "bce" or targets.ndim > 1:
            return float(len(targets))
        return float(weights[targets].double().sum())

    return weigh


def _weights(recipe: Recipe, counts: Sequence[int]) -> Tensor | None:
    if recipe.loss.class_weights == "none":
        return None
    number = torch.tensor(counts, dtype=torch.float32)
    return (number.sum() / (len(counts) * number)).to(recipe.runtime.device)


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    threshold: float = 0.0,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy per class; the mean over images and classes.

    Wightman et al. 2021, arXiv:2110.00476: with a ``threshold``, larger shares of a class in mixed
    images have target 1; without, the share is the target. Smoothing replaces 1 by ``1 - smoothing
    + smoothing / classes`` and 0 by ``smoothing / classes``.
    """
    classes = logits.shape[-1]
    if targets.ndim == 1:
        targets = F.one_hot(targets, classes)
    shares = targets.to(logits.dtype)
    if threshold:
        shares = (shares > threshold).to(logits.dtype)
    shares = shares * (1 - smoothing) + smoothing / classes
    return F.binary_cross_entropy_with_logits(logits, shares, weight=weights)


def mixed_images(
    inputs: Tensor,
    labels: Tensor,
    recipe: Recipe,
    classes: int,
    *,
    before: Callable[[Tensor, Tensor], tuple[Tensor, Tensor] | None] = lambda *_: None,
) -> tuple[Tensor, Tensor]:
    """Images ``(N, C, H, W)`` after mixup or CutMix, with the shares of their classes.

    Mixup: Zhang et al. 2017, arXiv:1710.09412; CutMix: Yun et al. 2019, arXiv:1905.04899; if
    both are set, one is chosen at random, as in torchvision's and timm's recipes.

    An image's partner is the previous one in the batch, and the first's is the last; if the batch
    is divided over processes, ``before`` fetches the one before the first here.
    """
    kinds: list[v2.Transform] = []
    if recipe.loss.mixup:
        kinds.append(v2.MixUp(alpha=recipe.loss.mixup, num_classes=classes))
    if recipe.loss.cutmix:
        kinds.append(v2.CutMix(alpha=recipe.loss.cutmix, num_classes=classes))
    if not kinds:
        return inputs, labels
    kind = kinds[int(torch.randint(len(kinds), ()))]
    fetched = before(inputs, labels)
    if fetched is None:
        images, shares = kind(inputs, labels)
        return images, shares
    images, shares = kind(torch.cat([fetched[0], inputs]), torch.cat([fetched[1], labels]))
    return images[1:], shares[1:]
