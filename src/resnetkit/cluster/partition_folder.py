"""The folder with the predictions: one Parquet file per partition, and the plan.

``part-000017.parquet`` is partition 17, written at once or not at all, so that the files that are
there are whole, and a restart computes the others. Names that begin with ``_`` are passed over by
readers of Parquet folders. The folder may be local or in object storage.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from resnetkit.data import storage
from resnetkit.data.storage_access import NoSuchFileError
from resnetkit.errors import InputError, parsed
from resnetkit.files import atomic
from resnetkit.inference.prediction import Prediction
from resnetkit.inference.results.parquet import Parquet
from resnetkit.source import public

#: The description of the run, and the mark of a complete one.
PLAN, SUCCESS = "_plan.json", "_SUCCESS"
VERSION = 1
_PART = re.compile(r"part-(\d{6,})\.parquet")
_COUNTS = b"resnetkit"
#: Footers read at a time.
_READERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Images of a partition, and how many of them are unreadable."""

    images: int
    unreadable: int


class PartitionFolder:
    """The folder ``address``: a path, or an address such as ``s3://bucket/prefix``."""

    def __init__(self, address: str) -> None:
        self.is_local = not storage.is_address(address)
        self.address = str(Path(address).absolute()) if self.is_local else address.rstrip("/")
        self.name = address if self.is_local else public(address)

    def claim(self, plan: Mapping[str, Any]) -> dict[int, Counts]:
        """Write the plan, or check that it is that of the folder.

        Returns the partitions that are already there. Raises ``InputError`` for a folder with the
        predictions of another plan or with other files, and if it cannot be written.
        """
        document = {"version": VERSION, **plan}
        there = self._listed()
        numbers = {int(m[1]): name for name in there if (m := _PART.fullmatch(name))}
        if PLAN in there and numbers:
            self._compare(self._plan(), document)
        elif PLAN not in there and any(not name.startswith(".") for name in there):
            raise InputError(
                f"{self.name} is not empty and has no {PLAN}; give another folder", field="out"
            )
        else:
            self._put(PLAN, json.dumps(document, indent=1).encode())
        self._remove_leftovers(there)
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(numbers, pool.map(self._counts, numbers.values()), strict=True))

    def is_claimed_by(self, plan: Mapping[str, Any]) -> bool:
        """Whether this machine sees the folder with this plan."""
        try:
            return self._plan() == {"version": VERSION, **plan}
        except (OSError, InputError):
            return False

    def counts(self, number: int) -> Counts | None:
        """The counts of a partition; None where it is not there yet."""
        try:
            return self._counts(_named(number))
        except (FileNotFoundError, NoSuchFileError):
            return None

    def write(self, number: int, rows: Sequence[Prediction], layout: Parquet) -> Counts:
        """Write the predictions of a partition, replacing the same ones."""
        from pyarrow import parquet

        unreadable = sum(row.problem is not None for row in rows)
        found = Counts(images=len(rows), unreadable=unreadable)
        about = json.dumps({"images": found.images, "unreadable": found.unreadable}).encode()
        table = layout.table(rows)
        table = table.replace_schema_metadata({_COUNTS: about})
        sink = io.BytesIO()
        parquet.write_table(table, sink)
        self._put(_named(number), sink.getvalue())
        return found

    def finish(self) -> None:
        """Mark the folder as complete."""
        self._remove_leftovers(self._listed())
        self._put(SUCCESS, b"")

    def _counts(self, name: str) -> Counts:
        from pyarrow import ArrowException, parquet

        try:
            with self._opened(name) as file:
                about = parquet.read_schema(file).metadata[_COUNTS]
            return Counts(**json.loads(about))
        except (ArrowException, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.name}/{name} was not written by this command; remove it"
            ) from None

    def _opened(self, name: str) -> BinaryIO:
        place = f"{self.address}/{name}"
        return Path(place).open("rb") if self.is_local else storage.open_file(place)

    def _plan(self) -> dict[str, Any]:
        with self._opened(PLAN) as file:
            return parsed(file.read(), f"{self.name}/{PLAN}")

    def _compare(self, before: Mapping[str, Any], document: Mapping[str, Any]) -> None:
        other = [name for name in document if before.get(name) != document[name]]
        if other:
            raise InputError(
                f"{self.name} has predictions of another run (another {', '.join(other)}); repeat "
                "that one to finish it, or give another folder",
                field="out",
            )

    def _listed(self) -> list[str]:
        """The names in the folder. A local one is created where there is none; a prefix in object
        storage exists with its first object."""
        if not self.is_local:
            try:
                return [one.name for one in storage.files(self.address)]
            except NoSuchFileError:
                return []
        try:
            Path(self.address).mkdir(parents=True, exist_ok=True)
            return os.listdir(self.address)
        except FileExistsError:
            raise InputError(f"{self.name} is a file; give a folder", field="out") from None
        except OSError as error:
            raise InputError(
                f"cannot use the folder {self.name}: {error.strerror}", field="out"
            ) from None

    def _put(self, name: str, data: bytes) -> None:
        if self.is_local:
            with atomic(Path(self.address, name)) as temporary:
                temporary.write_bytes(data)
        else:
            storage.put(f"{self.address}/{name}", data)

    def _remove_leftovers(self, names: Sequence[str]) -> None:
        """Remove what processes that were killed were writing."""
        for name in names if self.is_local else ():
            if name.startswith((".part-", f".{PLAN}")):
                Path(self.address, name).unlink(missing_ok=True)


def _named(number: int) -> str:
    return f"part-{number:06}.parquet"
