"""``.h5``: files of Keras, ``.weights.h5`` of Keras 3 and the older ``.h5``.

The HDF5 library lists the file in a subprocess (see ``hdf5_subprocess.py``). Contiguous data, as
written by Keras, is read here in place; chunked and compressed data is read in the subprocess too.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resnetkit.errors import check_installed
from resnetkit.formats.container import (
    ArrayInfo,
    Container,
    UnfitError,
    json_of,
    listed,
    shape_of,
    short,
)
from resnetkit.formats.dtypes import SIZES, numpy_dtype
from resnetkit.formats.file_window import TRUNCATED, read_array, shaped

if TYPE_CHECKING:
    import numpy as np

_MAGIC = b"\x89HDF\r\n\x1a\n"
_SECONDS = 30
#: The maximum compression ratio of HDF5's deflate.
_MOST_PER_BYTE = 1032
_PROGRAM = Path(__file__).with_name("hdf5_subprocess.py")


def claims(head: bytes, _path: Path) -> bool:
    return head.startswith(_MAGIC)


def open_file(path: Path) -> Container:
    return open_part(path, 0, path.stat().st_size, None)


def open_part(path: Path, start: int, length: int, kind: str | None) -> Container:
    """The HDF5 file that is ``length`` bytes of ``path`` from ``start``."""
    answer = _list(path, start, length)
    infos, places = [], {}
    for dataset in answer["datasets"]:
        info = _info(dataset, length)
        infos.append(info)
        places[info.name] = (info, dataset["offset"], dataset["big"])

    def reader(name: str) -> np.ndarray[Any, Any]:
        info, offset, big = places[name]
        if offset is not None:
            return read_array(path, start + offset, info.dtype, info.shape, big=big)
        return _copied(path, start, length, info)

    facts = {key: answer[key] for key in ("attributes", "others") if answer[key]}
    root = answer["attributes"].get("", {})
    for key in ("model_config", "training_config"):
        if isinstance(root.get(key), str):
            facts[key] = json_of(root.pop(key), key)
    return Container(
        path=path, kind=kind or _kind(infos, root), arrays=listed(infos), facts=facts, reader=reader
    )


def _kind(infos: list[ArrayInfo], root: Mapping[str, Any]) -> str:
    """Keras 3 stores the variables of a layer in a group ``vars``, by number."""
    numbered = any(info.path[-2:-1] == ("vars",) for info in infos)
    return "weights.h5" if numbered and "keras_version" not in root else "h5"


def _info(dataset: Mapping[str, Any], length: int) -> ArrayInfo:
    path = tuple(dataset["path"])
    name, dtype = "/".join(path), dataset["dtype"]
    if dtype not in SIZES:
        raise UnfitError(f"has {short(name)} in the unsupported type {short(dtype)}")
    info = ArrayInfo(path=path, shape=shape_of(dataset["shape"], name), dtype=dtype)
    offset, stored = dataset["offset"], dataset["stored"]
    if offset is not None and offset + info.nbytes > length:
        raise UnfitError(TRUNCATED)
    most = stored if offset is not None else min(stored, length) * _MOST_PER_BYTE
    if info.nbytes > most:
        raise UnfitError(
            f"declares {info.nbytes} bytes for {short(name)} and holds {stored}; get it again"
        )
    return info


def _start(arguments: list[str]) -> subprocess.Popen[bytes]:
    check_installed("h5py", "an HDF5 file (.h5, .keras)")
    # No plugins of the library, and no threads, each of which would reserve memory.
    quiet = {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        # -P: otherwise the program's folder would shadow standard library modules.
        [sys.executable, "-P", str(_PROGRAM), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **quiet},
    )


def _list(path: Path, start: int, length: int) -> dict[str, Any]:
    with _start([str(path.absolute()), str(start), str(length)]) as process:
        try:
            text, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise UnfitError(
                f"takes the HDF5 library more than {_SECONDS} s; get it again"
            ) from None
    if process.returncode != 0:
        raise UnfitError(f"is damaged: the HDF5 library failed (exit {process.returncode})")
    answer = json.loads(text)
    if "refused" in answer:
        raise UnfitError(answer["refused"])
    return dict(answer)


def _copied(path: Path, start: int, length: int, info: ArrayInfo) -> np.ndarray[Any, Any]:
    """An array that the library must assemble."""
    import numpy as np

    kind = numpy_dtype(info.dtype)
    raw = np.empty(info.nbytes, np.uint8)
    view, at = memoryview(raw.data), 0
    with _start([str(path.absolute()), str(start), str(length), *info.path]) as process:
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        pipe = cast(io.BufferedReader, process.stdout)
        while at < len(view) and (count := pipe.readinto(view[at:])):
            at += count
        more = pipe.read(1)
        process.wait()
        timer.cancel()
    if at < len(view) or more or process.returncode != 0:
        raise UnfitError(TRUNCATED)
    return shaped(raw, kind, info.shape)
