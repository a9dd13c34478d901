"""Callback that writes the report after each epoch, and the callbacks of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import InputError
from resnetkit.files import write_text
from resnetkit.report.callbacks.mlflow import MLflowCallback
from resnetkit.report.callbacks.tensorboard import TensorBoardCallback
from resnetkit.report.callbacks.tracker import read_tracking
from resnetkit.report.callbacks.wandb import WandbCallback
from resnetkit.report.pages.mistake_links import mistakes_command
from resnetkit.report.pages.run_page import Setting, run_page, setting, title_of
from resnetkit.training.callbacks import Callback, Callbacks
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result
from resnetkit.training.run_folder import EVENTS, REPORT

_TITLES = {tracker.key: tracker.title for tracker in (MLflowCallback, WandbCallback)}


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
        command = mistakes_command(self._path.parent)
        self._write(run_page(setting, result.recipe, rows, result.evaluation, result.part, command))

    def _write(self, page: str) -> None:
        try:
            write_text(self._path, page)
        except InputError as error:
            if not self._failed:
                self._teller.warn(f"{error}; training continues without the page")
            self._failed = True


def watched(
    printed: Callback,
    folder: Path,
    *,
    tensorboard: bool = False,
    mlflow: str | Path | None = None,
    wandb: str | None = None,
    prometheus: Callback | None = None,
    resumed: bool = False,
) -> Callbacks:
    """The callbacks of a run in ``folder``; a ``resumed`` run with events continues them.

    Raises ``ValueError`` if what is requested is not installed.
    """
    found: list[Callback] = [Reported(folder, printed)]
    if tensorboard:
        found.append(TensorBoardCallback())
    elif resumed and (folder / EVENTS).is_dir():
        if find_spec("tensorboard") is not None:
            found.append(TensorBoardCallback())
        else:
            printed.warn(
                f"{folder / EVENTS} gets no points, for tensorboard is not installed; all of them "
                "are written when the run is resumed with resnetkit[tensorboard] installed"
            )
    if mlflow is not None:
        found.append(MLflowCallback(mlflow, teller=printed))
    if wandb is not None:
        found.append(WandbCallback(wandb, teller=printed))
    if prometheus is not None:
        found.append(prometheus)
    if resumed:
        _tell_left_out(printed, folder, {"mlflow": mlflow, "wandb": wandb})
    return Callbacks(printed, *found)


def _tell_left_out(printed: Callback, folder: Path, given: Mapping[str, object]) -> None:
    """Say which trackers the run is not logged to any more: a folder may be somebody else's."""
    with suppress(InputError):  # a damaged file is reported by those that use it
        for key, record in read_tracking(folder).items():
            if given.get(key) is None and not record["finished"]:
                title = _TITLES.get(key, key)
                printed.warn(f"{folder} was logged to {title}; the rest is not, unless requested")


def _setting(recipe: Recipe, images: Mapping[Part, int]) -> Setting:
    # Of the data only the name, as reports are shared.
    recipe = replace(recipe, data=Path(recipe.data).name)
    about = {
        "data": recipe.data,
        "images": ", ".join(f"{count:,} {part}" for part, count in images.items()),
        "device": recipe.runtime.device,
    }
    return setting(title_of(recipe), recipe.network, recipe.preprocess, recipe=recipe, about=about)
