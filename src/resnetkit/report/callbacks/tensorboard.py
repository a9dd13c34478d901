"""Callback that writes TensorBoard events."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import check_installed
from resnetkit.report.callbacks.curves import points, results
from resnetkit.training.callbacks import Callback
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result
from resnetkit.training.run_folder import EVENTS, remove_events

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardCallback(Callback):
    """Writes a point of each curve after each epoch, into ``RUN/tensorboard``.

    A resumed run rewrites all points from its log, so that none is duplicated or missing, wherever
    it was killed. The wall time of a point is the start of the run plus the training time.

    Raises ``ValueError`` if tensorboard is not installed.

    >>> drawn = resnetkit.TensorBoardCallback()
    >>> result = resnetkit.train("digits", out="drawn", epochs=1, callbacks=[drawn])
    >>> (result.folder / "tensorboard").is_dir()
    True
    """

    def __init__(self) -> None:
        check_installed("tensorboard", "TensorBoard logging")
        self._folder = Path()
        self._writer: SummaryWriter | None = None
        self._time = 0.0

    def open(self, folder: Path) -> None:
        self._folder = folder

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        self._open(recipe, rows)

    def epoch(self, row: EpochLog) -> None:
        self._add(row)
        if self._writer is not None:
            self._writer.flush()

    def finish(self, result: Result) -> None:
        """Add the metrics of the best weights, at the best epoch."""
        if self._writer is None:
            self._open(result.recipe, result.rows)
        assert self._writer is not None
        for name, value in results(result).items():
            self._writer.add_scalar(name, value, result.best.epoch, self._time)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
            self._writer = None

    def _open(self, recipe: Recipe, rows: Iterable[EpochLog]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        remove_events(self._folder)
        self._writer = SummaryWriter(str(self._folder / EVENTS))
        rows = list(rows)
        self._time = time.time() - sum(row.seconds for row in rows)
        text = "".join(f"    {line}\n" for line in recipe.to_toml().splitlines())
        self._writer.add_text("recipe", text, 0, self._time)
        for row in rows:
            self._add(row)
        self._writer.flush()

    def _add(self, row: EpochLog) -> None:
        self._time += row.seconds
        for name, value in points(row).items():
            if self._writer is not None:
                self._writer.add_scalar(name, value, row.epoch, self._time)
