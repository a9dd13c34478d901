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
#: The key of a safetensors or HDF5 file's origin.
ORIGIN = "origin"
_HDF5 = (".h5", ".hdf5", ".weights.h5")
_BFLOAT16 = ".weights.h5 with to='keras-weights'"
#: Files without bfloat16 (numpy's pickles, legacy Keras), and alternatives.
_NO_BFLOAT16 = {".pkl": ".safetensors or .pth", ".h5": _BFLOAT16, ".hdf5": _BFLOAT16}


def ending(path: Path) -> str:
    """The suffix of a name, in lower case; ``.weights.h5`` is special to Keras 3."""
    name = path.name.lower()
    return ".weights.h5" if name.endswith(".weights.h5") else path.suffix.lower()


def check_ending(path: Path, dialect: Dialect) -> None:
    """Raise ``InputError`` for a suffix that the framework does not use."""
    given = ending(path)
    if given == ".keras":
        raise InputError(
            f"{path} would need a Keras model's configuration, which is not written; give a "
            "name that ends in .weights.h5 with to='keras-weights', or in .h5 with to='keras-h5'",
            field="to",
        )
    if given not in dialect.endings:
        raise InputError(
            f"{path} ends in {given!r}; {dialect.name} requires {', '.join(dialect.endings)}"
        )
    if given in _HDF5:
        check_installed("h5py", "an HDF5 file")
    if given not in (*_HDF5, ".safetensors", ".pkl"):
        check_installed("torch", f"a {given} file")


def write(
    path: Path,
    kind: str,
    theirs: Mapping[str, Array],
    dialect: Dialect,
    network: Network,
    origin: Mapping[str, Any],
) -> None:
    """Write the framework's tensors of ``network`` to ``path`` as a file of the suffix ``kind``.

    At most one array is copied at a time. Raises ``InputError`` for a dtype that the file format
    does not support.
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
    """Add the result of the verification to the file, if its format has a place for it."""
    if kind == ".safetensors":
        safetensors_writer.amend(path, _metadata(origin))
    elif kind in _HDF5:
        hdf5_writer.amend(path, {"": {ORIGIN: json.dumps(dict(origin))}})


def _metadata(origin: Mapping[str, Any]) -> dict[str, str]:
    return {"format": "pt", ORIGIN: json.dumps(dict(origin))}


def _pickle(path: Path, key: str, arrays: Mapping[str, Array]) -> None:
    """As in detectron2 and Caffe2: arrays under one key."""
    with path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # no memo, which would keep a copy of every array
        pickler.dump({key: {name: np.asarray(a, order="C") for name, a in arrays.items()}})


def tensor(array: Array) -> Tensor:
    """A torch tensor from an array; bfloat16, which numpy lacks, is converted by its bits."""
    import torch

    array = np.asarray(array, order="C")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array(tensor: Tensor) -> Array:
    """The numpy array of a CPU tensor, sharing memory."""
    import torch

    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class Tensors(Mapping[str, "Tensor"]):
    """Numpy arrays as torch tensors, sharing memory; torch is imported on first access."""

    def __init__(self, numbers: Mapping[str, Array]) -> None:
        self.numbers = numbers

    def __getitem__(self, name: str) -> Tensor:
        return tensor(self.numbers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)
