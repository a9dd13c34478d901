"""What a run's curves, settings and results are called, wherever they are logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result


def points(row: EpochLog) -> dict[str, float]:
    """The point of each curve after an epoch; accuracies are shares from 0 to 1."""
    found = {
        "loss/training": row.loss,
        "loss/validation": row.validation_loss,
        "accuracy/training": row.accuracy,
        "accuracy/validation": row.validation_accuracy,
        "learning rate": row.lr,
        "speed/images a second": row.rate,
        "speed/share of time waiting for data": row.waited,
    }
    return {name: value for name, value in found.items() if value is not None}


def results(result: Result) -> dict[str, float]:
    """The metrics of the best weights on the test images; none without test images.

    ``test/accuracy low`` and ``high`` are the ends of its 95 % confidence interval.
    """
    test = result.test
    if test is None:
        return {}
    found: dict[str, float | None] = {"accuracy": test.accuracy, "top5": test.top5}
    for name, interval in (("accuracy", test.accuracy_interval), ("top5", test.top5_interval)):
        if interval is not None:
            found[f"{name} low"], found[f"{name} high"] = interval
    found |= {"loss": test.loss, "images": test.images}
    return {f"test/{name}": value for name, value in found.items() if value is not None}


def settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe's options by the names of ``train``, with network and augmentation; of the data
    only the folder's name, as logs are shared."""
    return {
        "data": Path(recipe.data).name,
        "model": recipe.network.name,
        "size": recipe.preprocess.size,
        "pretrained": recipe.pretrained,
        **recipe.options(),
        **recipe.augment.to_dict(),
    }
