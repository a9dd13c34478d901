"""Append-only journal of a file that is resumed after a kill.

``OUT.part`` takes the chunks; ``OUT.progress`` says how many bytes of it are sure, what else had
been done by then, and which run this is. It is replaced only after the bytes are on the disk, so
whatever a kill leaves behind the recorded bytes is cut off and made again, and nothing is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resnetkit.errors import InputError, Rule, check, mapping, one_of, parsed, text, whole
from resnetkit.files import check_target, flock, write_text

VERSION = 1
_RULES = {
    "run": mapping(),
    "bytes": whole(0, 1 << 60),
    "state": mapping(),
    "complete": one_of(True, False),
}


def _like(value: object) -> Rule:
    """What is of the kind of a value at the start."""
    return whole(0, 1 << 60) if isinstance(value, int) else text()


class Journal:
    """The growing file of ``target``, for one run that ``run`` describes, in JSON types.

    ``state`` is what the last ``commit`` recorded, and ``start`` when there was none; ``complete``
    says that it recorded all chunks, ``finished`` that they have become the file as well.

    Raises ``InputError`` where the file cannot be written, where another process is writing it, and
    where another run has left it unfinished.
    """

    def __init__(self, target: Path, run: Mapping[str, Any], start: Mapping[str, Any]) -> None:
        check_target(target)
        self.target = target
        self.part = target.with_name(target.name + ".part")
        self.record = target.with_name(target.name + ".progress")
        self.state = dict(start)
        self.resumed = self.complete = self.finished = False
        self._run, self._start = dict(run), dict(start)
        self._bytes = 0
        record = self._recorded()
        if record is not None and record["complete"] and not self.part.exists():
            self.state = record["state"]
            self.resumed = self.complete = self.finished = True
            return
        try:
            self._file = self.part.open("r+b" if record is not None else "ab")
        except OSError as error:
            raise InputError(f"cannot write {self.part}: {error.strerror}") from None
        try:
            self._lock()
            self._go_on(record)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.finished:
            with suppress(OSError):  # what is not recorded is made again
                self._file.close()

    def append(self, chunk: bytes) -> None:
        """Add a chunk; it counts from the next ``commit`` on."""
        try:
            self._file.write(chunk)
        except OSError as error:
            raise InputError(f"cannot write {self.part}: {error.strerror}") from None
        self._bytes += len(chunk)

    def commit(self, state: Mapping[str, Any], *, complete: bool = False) -> None:
        """Make sure of all chunks and of ``state``, JSON types."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"cannot write {self.part}: {error.strerror}") from None
        document = {"version": VERSION, "run": self._run, "bytes": self._bytes}
        document |= {"state": dict(state), "complete": complete}
        write_text(self.record, json.dumps(document))
        self.state, self.complete = dict(state), complete

    def rename(self) -> None:
        """The chunks are the file: give them its name. All has to be committed as complete."""
        self._file.close()
        try:
            self.part.replace(self.target)
        except OSError as error:
            raise InputError(f"cannot write {self.target}: {error.strerror}") from None
        self.close()

    def close(self) -> None:
        """The file is there: remove what was needed to go on."""
        self.finished = True
        if hasattr(self, "_file"):
            self._file.close()
        self.part.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _recorded(self) -> dict[str, Any] | None:
        try:
            record = parsed(self.record.read_bytes())
            check(record, _RULES, "its")
            check(record["state"], {k: _like(v) for k, v in self._start.items()}, "its state's")
        except FileNotFoundError:
            return None
        except (OSError, InputError):
            raise InputError(
                f"{self.record} does not say how far {self.part} is; remove both to start again"
            ) from None
        before = record["run"]
        if record.get("version") != VERSION or before != self._run:
            other = [k for k in self._run if before.get(k) != self._run[k]] or ["the version"]
            raise InputError(
                f"{self.part} was begun by another run (another {', '.join(other)}); repeat that "
                f"one to finish it, remove {self.part} and {self.record}, or give another out",
                field="out",
            )
        return record

    def _lock(self) -> None:
        try:
            flock(self._file)
        except BlockingIOError:
            raise InputError(
                f"another process is writing {self.part}; wait for it, or give another out",
                field="out",
            ) from None

    def _go_on(self, record: dict[str, Any] | None) -> None:
        if record is not None:
            self.state, self._bytes = record["state"], record["bytes"]
            self.resumed, self.complete = True, record["complete"]
        if self._file.seek(0, os.SEEK_END) < self._bytes:
            raise InputError(
                f"{self.part} is shorter than {self.record} says; remove both to start again"
            )
        self._file.truncate(self._bytes)
        self._file.seek(self._bytes)
