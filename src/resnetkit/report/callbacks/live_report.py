"""Callback that writes the report after each epoch, and TensorBoard events."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import InputError
from resnetkit.files import write_text
from resnetkit.report.callbacks.tensorboard import Events
from resnetkit.report.pages.run_page import Setting, run_page, setting, title_of
from resnetkit.training.callbacks import Callback, Callbacks
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.run import Result
from resnetkit.training.run_folder import EVENTS, REPORT


class Reported(Callback):
    """Writes ``report.html`` into the run's folder when a run starts and after each epoch.

    A failure to write the page does not stop the run; it is reported once, to ``teller``.
    """

    def __init__(self, folder: Path, teller: Callback) -> None:
        self._path, self._teller = folder / REPORT, teller
        self._recipe: Recipe | None = None
        self._setting: Setting | None = None
        self._rows: list[EpochLog] = []
        self._failed = False

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        self._recipe, self._rows = recipe, list(rows)
        self._setting = _setting(recipe, images)
        self._write(run_page(self._setting, recipe, self._rows))

    def epoch(self, row: EpochLog) -> None:
        assert self._recipe is not None
        assert self._setting is not None
        self._rows.append(row)
        self._write(run_page(self._setting, self._recipe, self._rows))

    def finish(self, result: Result) -> None:
        """The page of the finished run."""
        setting = self._setting or _setting(result.recipe, result.counts)
        rows = list(result.rows)
        self._write(run_page(setting, result.recipe, rows, result.evaluation, result.part))

    def _write(self, page: str) -> None:
        try:
            write_text(self._path, page)
        except InputError as error:
            if not self._failed:
                self._teller.warn(f"{error}; training continues without the page")
            self._failed = True


class Watched(Callbacks):
    """Prints a run, writes its report, and optionally its ``events``."""

    def __init__(self, printed: Callback, reported: Reported, events: Events | None) -> None:
        super().__init__(printed, reported, *([] if events is None else [events]))
        self._reported, self._events = reported, events

    def finish(self, result: Result) -> None:
        """The run has finished."""
        self._reported.finish(result)
        if self._events is not None:
            self._events.finish(result)

    def close(self) -> None:
        """The run has ended, finished or not."""
        if self._events is not None:
            self._events.close()


def watched(
    printed: Callback, folder: Path, *, tensorboard: bool = False, resumed: bool = False
) -> Watched:
    """The callbacks of a run in ``folder``; a ``resumed`` run with events continues them.

    Raises ``ValueError`` if ``tensorboard`` is requested but not installed.
    """
    events = None
    if tensorboard:
        events = Events(folder)
    elif resumed and (folder / EVENTS).is_dir():
        if find_spec("tensorboard") is not None:
            events = Events(folder)
        else:
            printed.warn(
                f"{folder / EVENTS} gets no points, for tensorboard is not installed; all of them "
                f"come with resnetkit[tensorboard] and --resume {folder} --tensorboard"
            )
    return Watched(printed, Reported(folder, printed), events)


def _setting(recipe: Recipe, images: Mapping[Part, int]) -> Setting:
    about = {
        "data": recipe.data,
        "images": ", ".join(f"{count:,} {part}" for part, count in images.items()),
        "device": recipe.runtime.device,
    }
    return setting(title_of(recipe), recipe.network, recipe.preprocess, recipe=recipe, about=about)
