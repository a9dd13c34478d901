"""Run options and training callbacks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import InputError
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result

#: Seconds that processes of a distributed run wait for each other.
NETWORK_TIMEOUT = 300.0
_DAY = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options that may change when a run is resumed, unlike its recipe.

    ``checkpoint_minutes``: minutes between two checkpoints within an epoch; 0: after every step.
    ``skip_nan``: skip batches whose loss or gradient is not finite, instead of stopping.
    ``max_bad``: maximum share of unreadable images. ``memory``: GiB for caching decoded images;
    images that do not fit are decoded in every epoch. ``network_timeout``: seconds after which a
    process of a distributed run that waits for another one takes it as dead. ``fsdp``: divide
    weights, gradients and the optimizer's state over the processes, so that wider networks fit.

    Raises ``ValueError`` for a value that is not allowed.
    """

    checkpoint_minutes: float = 10.0
    skip_nan: bool = False
    max_bad: float = 0.01
    memory: float = 1.0
    network_timeout: float = NETWORK_TIMEOUT
    fsdp: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.checkpoint_minutes) and self.checkpoint_minutes >= 0):
            raise InputError(
                f"checkpoint_minutes is {self.checkpoint_minutes:g}; it must be a number from 0",
                field="checkpoint_minutes",
            )
        if not 0 <= self.max_bad <= 1:
            raise InputError(
                f"max_bad is {self.max_bad:g}; it must be a share from 0 to 1", field="max_bad"
            )
        if not self.memory >= 0:
            raise InputError(
                f"memory is {self.memory:g} GiB; it must be a number from 0", field="memory"
            )
        if not 1 <= self.network_timeout <= _DAY:
            raise InputError(
                f"network_timeout is {self.network_timeout:g} seconds; it must be a number from 1 "
                f"to {_DAY}",
                field="network_timeout",
            )


class Callback:
    """Hooks called during a run; override those you need."""

    def warn(self, text: str) -> None:
        """Show a warning of one line."""
        warnings.warn(text, stacklevel=2)

    def open(self, folder: Path) -> None:
        """Called first, with the run's folder."""

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        """Called when training begins.

        ``rows`` are the epochs finished before a resume, ``done`` the training images already seen
        in the next one.
        """

    def so_far(self, loss: float, accuracy: float, waited: float = 0.0) -> None:
        """The current epoch's values, as in ``EpochLog``; called before ``images``."""

    def images(self, count: int) -> None:
        """Called after ``count`` more training images."""

    def unreadable(self, count: int) -> None:
        """Called with the number of unreadable images: at the start, and when it has grown."""

    def epoch(self, row: EpochLog) -> None:
        """Called when an epoch is finished and saved."""

    def finish(self, result: Result) -> None:
        """Called when the run is finished; again if a finished run is resumed."""

    def close(self) -> None:
        """Called last, whether the run is finished, interrupted or failed."""


class Callbacks(Callback):
    """Calls several callbacks in order; the first gets warnings, and others that show them."""

    def __init__(self, first: Callback, *others: Callback) -> None:
        self._all = (first, *others)

    def warn(self, text: str) -> None:
        first, *others = self._all
        first.warn(text)
        for callback in others:
            if type(callback).warn is not Callback.warn:
                callback.warn(text)

    def open(self, folder: Path) -> None:
        for callback in self._all:
            callback.open(folder)

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

    def unreadable(self, count: int) -> None:
        for callback in self._all:
            callback.unreadable(count)

    def epoch(self, row: EpochLog) -> None:
        for callback in self._all:
            callback.epoch(row)

    def finish(self, result: Result) -> None:
        for callback in self._all:
            callback.finish(result)

    def close(self) -> None:
        with ExitStack() as stack:
            for callback in self._all:
                stack.callback(callback.close)


class SilentCallback(Callback):
    """Does nothing; for processes other than rank 0."""

    def warn(self, text: str) -> None:
        pass
