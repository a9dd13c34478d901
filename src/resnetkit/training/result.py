"""The result of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resnetkit.data.datasets.dataset import Part
from resnetkit.display import Displayed
from resnetkit.evaluation.evaluation import Evaluation
from resnetkit.training.epoch_log import EpochLog, best_of
from resnetkit.training.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result(Displayed):
    """A finished run. ``evaluation`` is that of the best weights on the images of ``part``: test,
    else validation, else training images. ``copies`` is the number of test or validation images
    that are byte for byte in the training images too."""

    folder: Path
    recipe: Recipe
    rows: tuple[EpochLog, ...]
    counts: Mapping[Part, int]
    part: Part
    evaluation: Evaluation
    copies: int = 0

    @property
    def test(self) -> Evaluation | None:
        """The evaluation on the test images, if there are any."""
        return self.evaluation if self.part == "test" else None

    @property
    def best(self) -> EpochLog:
        """The epoch whose weights are in ``best.safetensors``."""
        return best_of(self.rows)
