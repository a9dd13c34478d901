"""Opens weight files as named arrays, without executing anything.

>>> container = open_container("resnet50.pth")          # doctest: +SKIP
>>> container.kind, len(container.arrays)               # doctest: +SKIP
('torch', 320)
>>> container.read("conv1.weight").shape                # doctest: +SKIP
(64, 3, 7, 7)

Files are untrusted: nothing in one is executed or looked up, nothing outside it is read, and no
more memory is allocated than it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.errors import InputError
from resnetkit.formats.container import ArrayInfo, Container, as_input_errors
from resnetkit.formats.sharded import INDEX, open_index
from resnetkit.formats.unsupported import HEAD, other_kind
from resnetkit.formats.weights_folder import index_of_shard, weights_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["ArrayInfo", "Container", "LazyArrays", "open_container"]

#: One module each, tried in this order. A safetensors header of 640 bytes begins like a pickle, so
#: it comes first; protobuf has no magic bytes and comes last.
KINDS = (
    *("safetensors", "hdf5", "torch_export", "torch", "keras", "torch_legacy"),
    *("pickle", "onnx"),
)
_READ = ".safetensors, .pth and .pt2 (torch), .pkl (pickled numpy), .keras, .h5 and .onnx"


def open_container(path: str | Path) -> Container:
    """Open a weight file.

    ``kind`` is one of ``safetensors``, ``torch``, ``torchscript``, ``torch-export``,
    ``torch-legacy``, ``pickle``, ``keras``, ``weights.h5``, ``h5`` and ``onnx``, detected by
    content, not by name. Arrays are read by ``Container.read``.

    A folder stands for the weight file in it (``weights_folder.weights_of``), an index for all its
    shards.

    Raises ``InputError`` for a file that is missing, unsupported, truncated or damaged, that would
    execute or read anything else, and if an extra is not installed.
    """
    path = Path(path)
    if path.is_dir():
        with as_input_errors(path):
            path = weights_of(path)
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; give a weight file: {_READ}")
    index = index_of_shard(path)
    if index is not None:
        raise InputError(f"{path} is one of several shards; give {index}, which lists them all")
    with as_input_errors(path):
        return open_index(path, _opened) if path.name.endswith(INDEX) else _opened(path)


def _opened(path: Path) -> Container:
    with as_input_errors(path):
        with path.open("rb") as file:
            head = file.read(HEAD)
        for name in KINDS:
            kind = import_module(f"resnetkit.formats.{name}")
            if kind.claims(head[:512], path):
                found: Container = kind.open_file(path)
                return found
    raise InputError(f"{path} {other_kind(head, path)}; supported are {_READ}")


class LazyArrays(Mapping[str, "Array"]):
    """Arrays by name, each read on access and not kept."""

    def __init__(self, read: Callable[[str], Array], names: Collection[str]) -> None:
        self._read, self._names = read, names

    def __getitem__(self, name: str) -> Array:
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
