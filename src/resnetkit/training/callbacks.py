"""Run options and training callbacks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import InputError
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What may differ between a run and its continuation; the recipe stays.

    ``checkpoint_minutes``: time between two checkpoints within an epoch, 0 makes one after every
    step. ``skip_nan``: leave out a batch whose loss or gradient is not finite, rather than stop.
    ``max_bad``: the share of the images that may be unreadable. ``memory``: GiB of decoded images
    that are kept, so that they are decoded once; what does not fit is decoded in every epoch.

    Raises ``ValueError`` for a value that is not allowed.
    """

    checkpoint_minutes: float = 10.0
    skip_nan: bool = False
    max_bad: float = 0.01
    memory: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.checkpoint_minutes) and self.checkpoint_minutes >= 0):
            raise InputError(
                f"checkpoint_minutes is {self.checkpoint_minutes:g}; it takes a number from 0",
                field="checkpoint_minutes",
            )
        if not 0 <= self.max_bad <= 1:
            raise InputError(
                f"max_bad is {self.max_bad:g}; it takes a share from 0 to 1", field="max_bad"
            )
        if not self.memory >= 0:
            raise InputError(
                f"memory is {self.memory:g} GiB; it takes a number from 0", field="memory"
            )


class Callback:
    """Is told how a run goes; a view overrides what it wants to show."""

    def warn(self, text: str) -> None:
        """Something the user should know, one line."""
        warnings.warn(text, stacklevel=2)

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        """Training begins.

        ``rows`` are the epochs that an earlier run has finished, ``done`` the training images of
        the next one that it has trained on.
        """

    def so_far(self, loss: float, accuracy: float, waited: float = 0.0) -> None:
        """The current epoch's values, as in ``EpochLog``; called before ``images``."""

    def images(self, count: int) -> None:
        """So many images more were trained on."""

    def epoch(self, row: EpochLog) -> None:
        """An epoch has ended and is on the disk."""


class Callbacks(Callback):
    """Several that are told the same, in order; warnings go to the first alone."""

    def __init__(self, first: Callback, *others: Callback) -> None:
        self._all = (first, *others)

    def warn(self, text: str) -> None:
        self._all[0].warn(text)

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        for callback in self._all:
            callback.start(recipe, images, rows, done)

    def so_far(self, loss: float, accuracy: float, waited: float = 0.0) -> None:
        for callback in self._all:
            callback.so_far(loss, accuracy, waited)

    def images(self, count: int) -> None:
        for callback in self._all:
            callback.images(count)

    def epoch(self, row: EpochLog) -> None:
        for callback in self._all:
            callback.epoch(row)


class SilentCallback(Callback):
    """Tells nobody: the watch of a process that does not lead."""

    def warn(self, text: str) -> None:
        pass
