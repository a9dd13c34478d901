"""Builds the bundle saved after an epoch, with its provenance."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from resnetkit.bundle.bundle import Bundle
from resnetkit.nn.resnet import ResNet
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe


def bundle_of(
    module: ResNet,
    recipe: Recipe,
    row: EpochLog,
    classes: tuple[str, ...],
    pretrained: Bundle | None,
) -> Bundle:
    """``module`` after the epoch ``row``, trained by ``recipe``, maybe from ``pretrained``."""
    held = {"accuracy": row.validation_accuracy, "loss": row.validation_loss}
    return Bundle.from_module(
        module,
        preprocess=recipe.preprocess,
        classes=classes,
        origin=_origin(recipe, row.epoch, pretrained),
        measured={} if row.validation_accuracy is None else {"validation": held},
    )


def _origin(recipe: Recipe, epoch: int, pretrained: Bundle | None) -> dict[str, Any]:
    """Where the weights come from; the folder by its name only, for a bundle travels."""
    return {
        "made_by": "resnetkit train",
        "epoch": epoch,
        "recipe": {**recipe.to_dict(), "data": Path(recipe.data).name},
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        **({} if pretrained is None else {"start": dict(pretrained.origin)}),
    }
