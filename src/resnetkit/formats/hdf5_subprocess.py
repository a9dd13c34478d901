"""Subprocess that lists an HDF5 file, or writes one of its datasets to standard output.

``python -P hdf5_listing.py PATH START LENGTH [DATASET]``

The HDF5 library follows links to other files, and a damaged file can crash it or make it loop. So
it runs in a subprocess that cannot open or write other files once the file is open, with limits on
memory and time. It imports nothing of resnetkit, to start fast and because modules beside it have
the names of standard library modules.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import os
import sys
from typing import Any, BinaryIO

import h5py  # type: ignore[import-untyped, import-not-found, unused-ignore]
import numpy as np

MOST_OBJECTS, DEEPEST, MOST_TEXT = 100_000, 32, 16 << 20
MEMORY, SECONDS = 4 << 30, 20
SLAB = 4 << 20


class RefusedError(Exception):
    """The reason for the user."""


class Section(io.RawIOBase):
    """A section of a file as a file object."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, (0, self._at, self._length)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._length - self._at))
        data = os.pread(self._file.fileno(), count, self._start + self._at)
        view[: len(data)] = data
        # A truncated file: zeros are invalid metadata, and avoid an endless loop of short reads.
        view[len(data) :] = bytes(len(view) - len(data))
        self._at += len(view)
        return len(view)


def confine() -> None:
    """Forbid other files and writing, and limit memory and time, if the system supports it."""
    for name in ("ascii", "latin-1", "utf-8"):
        codecs.lookup(name)  # Opens a file, which is forbidden afterwards.
    try:
        import resource
    except ImportError:
        return
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        if hard == resource.RLIM_INFINITY or limit <= hard:
            resource.setrlimit(what, (limit, limit))


class Listing:
    """Datasets and attributes of a file, in file order."""

    def __init__(self) -> None:
        self.datasets: list[dict[str, Any]] = []
        self.attributes: dict[str, dict[str, Any]] = {}
        self.others: dict[str, str] = {}
        self.objects = self.text = 0

    def walk(self, thing: Any, path: tuple[str, ...]) -> None:
        self.objects += 1
        if self.objects > MOST_OBJECTS or len(path) > DEEPEST:
            raise RefusedError("has too many groups for a checkpoint")
        self.describe(thing, path)
        if isinstance(thing, h5py.Dataset):
            self.dataset(thing, path)
        elif isinstance(thing, h5py.Group):
            for name in thing:
                link = thing.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    kind = {"ExternalLink": "another file", "SoftLink": "another place"}
                    where = kind.get(type(link).__name__, "something unknown")
                    raise RefusedError(f"has a link to {where}, {name!a:.80}, which is refused")
                if "/" in name or name in (".", ".."):
                    raise RefusedError(f"has the invalid name {name!a:.80}; get it again")
                self.walk(thing[name], (*path, name))

    def describe(self, thing: Any, path: tuple[str, ...]) -> None:
        """Store the attributes, after checking their size."""
        found = {}
        for name in thing.attrs:
            held = thing.attrs.get_id(name)
            self.text += held.dtype.itemsize * math.prod(held.shape or ()) + len(name) + 16
            if self.text > MOST_TEXT:
                raise RefusedError(f"has more than {MOST_TEXT} bytes of attributes")
            found[name] = self.value(thing.attrs[name])
        if found:
            self.attributes["/".join(path)] = found

    def value(self, value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            value = value.tolist()
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, (str, bytes)):
            self.text += len(value)
            if self.text > MOST_TEXT:
                raise RefusedError(f"has more than {MOST_TEXT} bytes of attributes")
            return value if isinstance(value, str) else value.decode("utf-8", "replace")
        if isinstance(value, float):
            return value if np.isfinite(value) else str(value)
        return value if value is None or isinstance(value, (bool, int)) else type(value).__name__

    def noted(self, path: tuple[str, ...]) -> Any:
        return self.attributes.get("/".join(path), {}).get("dtype")

    def dataset(self, data: Any, path: tuple[str, ...]) -> None:
        plist = data.id.get_create_plist()
        layout = plist.get_layout()
        if plist.get_external_count() or layout == h5py.h5d.VIRTUAL:
            raise RefusedError(f"keeps {'/'.join(path)!a:.80} in another file, which is refused")
        kind = data.dtype
        # HDF5 has no such dtype; Keras 3 notes it beside the two bytes.
        brain = kind == np.dtype("V2") and self.noted(path) == "bfloat16"
        if brain:
            kind = np.dtype(np.uint16)
        if data.shape is None or kind.kind not in "biufc" or kind.fields is not None:
            self.others["/".join(path)] = str(kind)[:80]
            return
        plain = layout == h5py.h5d.CONTIGUOUS and data.id.get_offset() is not None
        self.datasets.append(
            {
                "path": path,
                "shape": data.shape,
                "dtype": "bfloat16" if brain else kind.newbyteorder("=").name,
                "big": kind.newbyteorder("=") != kind,
                "offset": data.id.get_offset() if plain else None,
                "stored": data.id.get_storage_size(),
            }
        )


def copy(data: Any, out: BinaryIO) -> None:
    """A dataset in native byte order, a few megabytes at a time."""
    kind = data.dtype.newbyteorder("=")
    if data.ndim == 0:
        out.write(data[()].astype(kind).tobytes())
        return
    rows = max(1, SLAB // max(1, kind.itemsize * int(np.prod(data.shape[1:], dtype=object))))
    for start in range(0, data.shape[0], rows):
        out.write(data[start : start + rows].astype(kind, copy=False).tobytes())


def main(path: str, start: str, length: str, *dataset: str) -> None:
    listing = Listing()
    out = sys.stdout.buffer
    with open(path, "rb") as file:
        confine()
        try:
            with h5py.File(Section(file, int(start), int(length)), "r") as opened:
                if dataset:
                    copy(opened["/".join(dataset)], out)
                    return
                listing.walk(opened, ())
                answer: dict[str, Any] = {
                    "datasets": listing.datasets,
                    "attributes": listing.attributes,
                    "others": listing.others,
                }
        except RefusedError as reason:
            answer = {"refused": str(reason)}
        except Exception:
            answer = {"refused": "is truncated or damaged; get it again"}
    out.write(json.dumps(answer).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
