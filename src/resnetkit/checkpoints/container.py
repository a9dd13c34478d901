"""Opens somebody's file of weights: bytes to named arrays, without running anything.

>>> container = open_container("resnet50.pth")          # doctest: +SKIP
>>> container.kind, len(container.arrays)               # doctest: +SKIP
('torch', 320)
>>> container.read("conv1.weight").shape                # doctest: +SKIP
(64, 3, 7, 7)

Files are hostile until proven otherwise: nothing in one is executed or looked up, nothing outside
it is read, and no more is allocated than it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.checkpoints.containers.contents import ArrayInfo, Container, told
from resnetkit.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["ArrayInfo", "Arrays", "Container", "open_container"]

#: One file in ``containers`` each, asked in this order. A safetensors header of 640 bytes begins
#: like a pickle, so it comes first; protobuf has no first bytes of its own and comes last.
KINDS = ("safetensors", "hdf5", "torch", "keras", "torch_legacy", "pickle", "onnx")
_READ = ".safetensors, .pth (torch), .pkl (pickled numpy), .keras, .h5 and .onnx"
#: Files that often stand in the place of a checkpoint, by their first bytes.
_OTHERS = {
    b"": "is empty; get it again",
    b"<": "is a web page or XML, so its download failed; get it again",
    b"version https://git-lfs": "is a pointer of Git LFS; get the file itself with git lfs pull",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
    b"PK": "is a zip file without weights that are known",
    b"{": "is a JSON text; give the file of weights itself",
}


def open_container(path: str | Path) -> Container:
    """The arrays and facts of a file of weights.

    ``kind`` is one of ``safetensors``, ``torch``, ``torch-legacy``, ``pickle``, ``keras``,
    ``weights.h5``, ``h5`` and ``onnx``, told by the file's content and not by its name. Arrays
    are read when ``Container.read`` asks for them.

    Raises ``InputError`` for a file that is missing, of another kind, truncated or damaged, for one
    that asks for anything to be run or read beside it, and where an extra has to be installed.
    """
    path = Path(path)
    if not path.is_file():
        what = "is no regular file" if path.exists() else "does not exist"
        what = "is a folder" if path.is_dir() else what
        raise InputError(f"{path} {what}; give a file of weights: {_READ}")
    with told(path):
        with path.open("rb") as file:
            head = file.read(512)
        for name in KINDS:
            kind = import_module(f"resnetkit.checkpoints.containers.{name}")
            if kind.claims(head, path):
                found: Container = kind.open_file(path)
                return found
    raise InputError(f"{path} {_other(head)}; read are {_READ}")


def _other(head: bytes) -> str:
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it first"
    for begin, what in _OTHERS.items():
        if head.startswith(begin) and (begin or not head):
            return what
    return f"is no file of weights that is known; it begins with {head[:8]!r}"


class Arrays(Mapping[str, "Array"]):
    """The arrays of a container, each read when it is asked for."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def __getitem__(self, name: str) -> Array:
        return self._container.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._container.arrays)

    def __len__(self) -> int:
        return len(self._container.arrays)
