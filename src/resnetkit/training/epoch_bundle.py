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
from resnetkit.training.split_data import DataSplits


def bundle_of(
    module: ResNet,
    recipe: Recipe,
    row: EpochLog,
    splits: DataSplits,
    pretrained: Bundle | None,
) -> Bundle:
    """The bundle of ``module`` after the epoch ``row``, with the origin of its weights."""
    held = {"accuracy": row.validation_accuracy, "loss": row.validation_loss}
    return Bundle.from_module(
        module,
        preprocess=recipe.preprocess,
        classes=splits.classes,
        origin=_origin(recipe, row.epoch, splits, pretrained),
        measured={} if row.validation_accuracy is None else {"validation": held},
    )


def _origin(
    recipe: Recipe, epoch: int, splits: DataSplits, pretrained: Bundle | None
) -> dict[str, Any]:
    """The origin of the weights; of the data only the folder's name, as bundles are shared."""
    return {
        "made_by": "resnetkit train",
        "epoch": epoch,
        "recipe": {**recipe.to_dict(), "data": Path(recipe.data).name},
        "images": {part: count for part, count in splits.counts().items() if count},
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        **({} if pretrained is None else {"start": dict(pretrained.origin)}),
    }
