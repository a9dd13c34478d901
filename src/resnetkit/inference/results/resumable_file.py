"""A prediction file that resumes after a kill without repeating or losing a row."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from resnetkit.data.listing import ImageEntry
from resnetkit.errors import InputError
from resnetkit.inference.prediction import Prediction
from resnetkit.inference.results.formats import Format
from resnetkit.inference.results.journal import Journal

#: Rows encoded at a time.
ROWS = 256
#: Seconds between commits, the most work that a kill loses.
INTERVAL = 2.0

_START = {"images": 0, "unreadable": 0, "names": ""}


class ResumableFile:
    """A prediction file being written: ``done`` images were in it when it was opened.

    ``run`` identifies the model, images and options, in JSON types. After a kill, opening the file
    again resumes it. Raises ``InputError`` as ``Journal``.
    """

    def __init__(self, target: Path, layout: Format, run: Mapping[str, Any]) -> None:
        self._layout = layout
        self._journal = Journal(target, run, _START)
        self._state = dict(self._journal.state)
        self._rows: list[Prediction] = []
        self._first = self._state["images"] == 0
        self._committed = time.monotonic()
        self.done = int(self._state["images"])
        self.finished = self._journal.finished

    def __enter__(self) -> ResumableFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.__exit__()

    @property
    def unreadable(self) -> int:
        """The unreadable images in the whole file."""
        return int(self._state["unreadable"])

    def remaining(self, images: Iterable[ImageEntry]) -> Iterator[ImageEntry]:
        """The images that are not in the file yet; none if it is complete.

        Raises ``InputError`` if the images before them have changed.
        """
        if self._journal.complete:
            return iter(())
        if not self._journal.resumed:
            self._journal.append(self._layout.head)
        images, names, count = iter(images), "", 0
        for image in islice(images, self.done):
            names, count = _chained(names, image.name), count + 1
        if (count, names) != (self.done, self._state["names"]):
            raise InputError(
                f"the first {self.done:,} images differ from those when {self._journal.part} "
                f"was started; remove it and {self._journal.record} to start over"
            )
        return images

    def append(self, prediction: Prediction) -> None:
        """Add the prediction of the next image."""
        self._rows.append(prediction)
        self._state["images"] += 1
        self._state["unreadable"] += prediction.problem is not None
        self._state["names"] = _chained(self._state["names"], prediction.name)
        late = time.monotonic() - self._committed > INTERVAL
        if late or len(self._rows) == ROWS:
            self._flush()
        if late:
            self._journal.commit(self._state)
            self._committed = time.monotonic()

    def finish(self) -> None:
        """Finish the file: all images are written, and it is renamed."""
        journal = self._journal
        if not journal.complete:
            self._flush()
            journal.append(self._layout.tail(empty=self._state["images"] == 0))
            journal.commit(self._state, complete=True)
        if not journal.finished and not self._layout.convert(journal.part, journal.target):
            journal.rename()
        journal.close()

    def _flush(self) -> None:
        self._journal.append(self._layout.chunk(self._rows, first=self._first))
        self._first = self._first and not self._rows
        self._rows.clear()


def _chained(names: str, name: str) -> str:
    """Running digest of all names so far."""
    return hashlib.sha256(f"{names} {name}".encode("utf-8", "surrogateescape")).hexdigest()
