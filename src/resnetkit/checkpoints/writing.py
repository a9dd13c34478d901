"""Writes a dialect's tensors in the file format that its framework loads."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from resnetkit.architecture.network import Network
from resnetkit.checkpoints.dialect import Dialect
from resnetkit.errors import InputError, check_installed
from resnetkit.formats import hdf5_writer, safetensors_writer

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
#: The key under which a safetensors or HDF5 file keeps where it comes from.
ORIGIN = "origin"
_HDF5 = (".h5", ".hdf5", ".weights.h5")
_BFLOAT16 = ".weights.h5 with to='keras-weights'"
#: Files without bfloat16 (numpy's pickles, legacy Keras), and what to take instead.
_NO_BFLOAT16 = {".pkl": ".safetensors or .pth", ".h5": _BFLOAT16, ".hdf5": _BFLOAT16}


def ending(path: Path) -> str:
    """How a name ends, in small letters; Keras 3 gives ``.weights.h5`` a meaning of its own."""
    name = path.name.lower()
    return ".weights.h5" if name.endswith(".weights.h5") else path.suffix.lower()


def check_ending(path: Path, dialect: Dialect) -> None:
    """Raise ``InputError`` where the framework's files do not end so."""
    given = ending(path)
    if given == ".keras":
        raise InputError(
            f"{path} would need the configuration of a Keras model, which is not written; give a "
            "name that ends in .weights.h5 with to='keras-weights', or in .h5 with to='keras-h5'",
            field="to",
        )
    if given not in dialect.endings:
        raise InputError(
            f"{path} ends in {given!r}; {dialect.name} is written to {', '.join(dialect.endings)}"
        )
    if given in _HDF5:
        check_installed("h5py", "an HDF5 file", "keras")
    if given not in (*_HDF5, ".safetensors", ".pkl"):
        check_installed("torch", f"a {given} file", "train")


def write(
    path: Path,
    kind: str,
    theirs: Mapping[str, Array],
    dialect: Dialect,
    network: Network,
    origin: Mapping[str, Any],
) -> None:
    """Write the framework's tensors of ``network`` to ``path`` as a file that ends in ``kind``.

    No more than one array is copied at a time. Raises ``InputError`` for numbers of a type that the
    file cannot hold.
    """
    brain = [name for name, values in theirs.items() if values.dtype.name == "bfloat16"]
    if brain and kind in _NO_BFLOAT16:
        raise InputError(
            f"{brain[0]} is in bfloat16, which a {kind} file cannot hold; choose an ending that "
            f"can: {_NO_BFLOAT16[kind]}"
        )
    if kind == ".safetensors":
        safetensors_writer.write(path, theirs, _metadata(origin))
    elif kind in _HDF5:
        described = dialect.described(network, theirs) if dialect.described else {}
        hdf5_writer.write(path, theirs, described)
    elif kind == ".pkl":
        _pickle(path, "blobs" if dialect.folds else "model", theirs)
    else:
        import torch

        torch.save({name: tensor(array) for name, array in theirs.items()}, path)


def amend(path: Path, kind: str, origin: Mapping[str, Any]) -> None:
    """Put what was found out after writing into the file, where it has a place for that."""
    if kind == ".safetensors":
        safetensors_writer.amend(path, _metadata(origin))
    elif kind in _HDF5:
        hdf5_writer.amend(path, {"": {ORIGIN: json.dumps(dict(origin))}})


def _metadata(origin: Mapping[str, Any]) -> dict[str, str]:
    return {"format": "pt", ORIGIN: json.dumps(dict(origin))}


def _pickle(path: Path, key: str, arrays: Mapping[str, Array]) -> None:
    """As detectron2 and Caffe2 keep them: arrays under one key."""
    with path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # no memo, which would hold a copy of every array until the end
        pickler.dump({key: {name: np.asarray(a, order="C") for name, a in arrays.items()}})


def tensor(array: Array) -> Tensor:
    """A torch tensor of an array; bfloat16 is not numpy's own and goes over as its bits."""
    import torch

    array = np.asarray(array, order="C")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array(tensor: Tensor) -> Array:
    """The numpy array of a tensor on the CPU, the same memory."""
    import torch

    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class Tensors(Mapping[str, "Tensor"]):
    """Numpy arrays as torch tensors, the same memory; torch is loaded when one is asked for."""

    def __init__(self, numbers: Mapping[str, Array]) -> None:
        self.numbers = numbers

    def __getitem__(self, name: str) -> Tensor:
        return tensor(self.numbers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)
