"""Base of the callbacks that log a run to an experiment tracker."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import InputError, check, mapping, one_of, parsed, text, whole
from resnetkit.files import write_text
from resnetkit.training.callbacks import Callback
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result
from resnetkit.training.run_folder import BEST, REPORT, TRACKING

#: What is known of a run in a tracker: where it is, which one it is, and what it has of it.
_RULES = {
    "place": text(),
    "run": text(),
    "epochs": whole(0, 1 << 40),
    "finished": one_of(True, False),
}


class TrackerCallback(Callback):
    """Logs settings, a point of each curve after each epoch, the results and the bundle.

    ``tracking.json`` in the run's folder has the tracker's run and the number of epochs it has, so
    that a resumed run continues it. A failure to log does not stop training: it is reported once,
    to ``teller``, and what is missing is logged at the end if that is possible by then.
    """

    #: The tracker in ``tracking.json``, and in messages.
    key: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, teller: Callback | None = None) -> None:
        self._teller = teller or self
        self._folder = Path()
        self._recipe: Recipe | None = None
        self._rows: list[EpochLog] = []
        self._record: dict[str, Any] | None = None
        self._failed = False

    @abstractmethod
    def _begin(self, recipe: Recipe, record: Mapping[str, Any]) -> tuple[str, str]:
        """Start a run, or continue that of ``record`` if it is in the same place; return place and
        run."""

    def _add_settings(self, recipe: Recipe) -> None:
        """Log the recipe's options if ``_begin`` does not; repeated until an epoch is logged."""

    @abstractmethod
    def _add(self, row: EpochLog) -> None:
        """Log an epoch."""

    @abstractmethod
    def _add_result(self, result: Result, files: list[Path]) -> None:
        """Log the metrics of a finished run, and its files."""

    @abstractmethod
    def _end(self, *, finished: bool) -> None:
        """End the run, finished or not."""

    def open(self, folder: Path) -> None:
        self._folder, self._record, self._failed = folder, None, False

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        self._recipe, self._rows = recipe, list(rows)
        self._try(self._log)

    def epoch(self, row: EpochLog) -> None:
        self._rows.append(row)
        if not self._failed:
            self._try(self._log)

    def finish(self, result: Result) -> None:
        self._recipe, self._rows = result.recipe, list(result.rows)
        self._try(lambda: self._log_result(result))

    def close(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            self._try(lambda: self._end(finished=record["finished"]))

    def _log(self) -> dict[str, Any]:
        """Log what the tracker does not have yet."""
        record = self._record
        if record is None:
            assert self._recipe is not None
            before = read_tracking(self._folder).get(self.key, {})
            place, run = self._begin(self._recipe, before)
            new = (place, run) != (before.get("place"), before.get("run"))
            record = {"epochs": 0, "finished": False} if new else dict(before)
            record |= {"place": place, "run": run}
            self._save(record)
        if not record["epochs"]:
            assert self._recipe is not None
            self._add_settings(self._recipe)
        for row in self._rows[record["epochs"] :]:
            self._add(row)
            self._save({**record, "epochs": row.epoch})
        return record

    def _log_result(self, result: Result) -> None:
        record = self._log()
        if not record["finished"]:
            # Not the recipe: a folder that has one is a run for `compare_runs`.
            files = [self._folder / name for name in (BEST, REPORT)]
            self._add_result(result, [path for path in files if path.is_file()])
            self._save({**record, "epochs": len(self._rows), "finished": True})

    def _save(self, record: dict[str, Any]) -> None:
        self._record = record
        all_of_them = {**read_tracking(self._folder), self.key: record}
        write_text(self._folder / TRACKING, json.dumps(all_of_them, indent=1) + "\n")

    def _try(self, log: Callable[[], object]) -> None:
        try:
            log()
        except Exception as error:  # whatever the tracker's library raises
            if not self._failed:
                reason = " ".join(without_password(str(error)).split()) or type(error).__name__
                with suppress(Warning):  # with -W error it is raised
                    self._teller.warn(f"{self.title} logging failed: {reason}; training continues")
            self._failed = True


def without_password(text: str) -> str:
    """Text with the user and the password of its URLs removed."""
    return re.sub(r"//[^/\s]*@", "//", text)


def read_tracking(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs of a run folder in trackers, by ``key``; none without the file.

    Raises ``ValueError`` if it is damaged.
    """
    path = folder / TRACKING
    if not path.is_file():
        return {}
    try:
        document = parsed(path.read_bytes())
        check({"runs": document}, {"runs": mapping(mapping())}, "its")
        for record in document.values():
            check(record, _RULES, "a run's")
    except (OSError, InputError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it") from None
    return document
