"""Append-only journal of a file that can be resumed after a kill.

``OUT.part`` gets the chunks; ``OUT.progress`` records how many of its bytes are committed, the
state at that point, and the run. It is replaced only after the bytes are flushed to disk; bytes
after the recorded ones are cut off and written again after a kill, so nothing is lost.
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
    """The validation rule for values of the type of an initial value."""
    return whole(0, 1 << 60) if isinstance(value, int) else text()


class Journal:
    """The journal of ``target``, for one run described by ``run``, in JSON types.

    ``state`` is that of the last ``commit``, or ``start``; ``complete`` means that all chunks are
    committed, ``finished`` that they have become the file as well.

    Raises ``InputError`` if the file cannot be written, is being written by another process, or was
    left unfinished by another run.
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
            with suppress(OSError):  # uncommitted chunks are written again
                self._file.close()

    def append(self, chunk: bytes) -> None:
        """Append a chunk; the next ``commit`` makes it durable."""
        try:
            self._file.write(chunk)
        except OSError as error:
            raise InputError(f"cannot write {self.part}: {error.strerror}") from None
        self._bytes += len(chunk)

    def commit(self, state: Mapping[str, Any], *, complete: bool = False) -> None:
        """Flush all chunks and ``state``, JSON types, to disk."""
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
        """Rename the chunks to the target; everything must be committed as complete."""
        self._file.close()
        try:
            self.part.replace(self.target)
        except OSError as error:
            raise InputError(f"cannot write {self.target}: {error.strerror}") from None
        self.close()

    def close(self) -> None:
        """Remove the journal of a finished file."""
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
                f"{self.record} has no valid progress of {self.part}; remove both to start over"
            ) from None
        before = record["run"]
        if record.get("version") != VERSION or before != self._run:
            other = [k for k in self._run if before.get(k) != self._run[k]] or ["the version"]
            raise InputError(
                f"{self.part} was started by another run (another {', '.join(other)}); repeat that "
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
                f"{self.part} is shorter than {self.record} says; remove both to start over"
            )
        self._file.truncate(self._bytes)
        self._file.seek(self._bytes)
