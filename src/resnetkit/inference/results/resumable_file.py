"""Predictions into a file, which after a kill goes on without repeating or losing a row."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from resnetkit.data.listing import Listed
from resnetkit.errors import InputError
from resnetkit.inference.prediction import Prediction
from resnetkit.inference.results.formats import Format
from resnetkit.inference.results.journal import Journal

#: Rows that are encoded at a time.
ROWS = 256
#: Seconds between two records of how far it is: what a kill costs.
INTERVAL = 2.0

_START = {"images": 0, "unreadable": 0, "names": ""}


class Recording:
    """A file of predictions that is being written: ``done`` images were there when it was opened.

    ``run`` says which model, images and choices these are, in JSON types. Raises ``InputError`` as
    ``Journal``.
    """

    def __init__(self, target: Path, layout: Format, run: Mapping[str, Any]) -> None:
        self._layout = layout
        self._journal = Journal(target, run, _START)
        self.done = int(self._journal.state["images"])
        self.finished = self._journal.finished

    def write(
        self,
        images: Iterable[Listed],
        answer: Callable[[Iterable[Listed]], Iterable[Prediction]],
        tell: Callable[[Prediction], None],
    ) -> int:
        """``answer`` the images that are not in the file yet and add them; the number of
        unreadable ones in the whole file.

        ``tell`` is given each new prediction. Raises ``InputError`` where the images before those
        are others than before.
        """
        with self._journal as journal:
            state = dict(journal.state)
            if not journal.complete:
                if not journal.resumed:
                    journal.append(self._layout.head)
                remaining = self._behind(iter(images), state)
                self._add(answer(remaining), state, tell)
                journal.append(self._layout.tail(empty=state["images"] == 0))
                journal.commit(state, complete=True)
            if not journal.finished and not self._layout.convert(journal.part, journal.target):
                journal.rename()
            journal.close()
        return int(state["unreadable"])

    def _behind(self, images: Iterator[Listed], state: Mapping[str, Any]) -> Iterator[Listed]:
        """The images after those that are in the file, whose names have to be the same."""
        names, count = "", 0
        for image in islice(images, state["images"]):
            names, count = _chained(names, image.name), count + 1
        if (count, names) != (state["images"], state["names"]):
            raise InputError(
                f"the first {state['images']:,} images are others than when {self._journal.part} "
                f"was begun; remove it and {self._journal.record} to start again"
            )
        return images

    def _add(
        self,
        predictions: Iterable[Prediction],
        state: dict[str, Any],
        tell: Callable[[Prediction], None],
    ) -> None:
        journal, sure = self._journal, time.monotonic()
        rows: list[Prediction] = []
        first = state["images"] == 0

        def flush() -> None:
            nonlocal first
            journal.append(self._layout.chunk(rows, first=first))
            first = first and not rows
            rows.clear()

        for prediction in predictions:
            rows.append(prediction)
            state["images"] += 1
            state["unreadable"] += prediction.problem is not None
            state["names"] = _chained(state["names"], prediction.name)
            late = time.monotonic() - sure > INTERVAL
            if late or len(rows) == ROWS:
                flush()
            if late:
                journal.commit(state)
                sure = time.monotonic()
            tell(prediction)
        flush()


def _chained(names: str, name: str) -> str:
    """A digest of all names so far, from that of those before and one more."""
    return hashlib.sha256(f"{names} {name}".encode("utf-8", "surrogateescape")).hexdigest()


def digest_of(model: Path) -> str:
    """SHA-256 of a model's file, and of the ``.bin`` file beside it if there is one."""
    found = hashlib.sha256()
    for path in (model, model.with_suffix(".bin")):
        with suppress(OSError), path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
