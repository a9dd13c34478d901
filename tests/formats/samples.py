"""Small files of every kind of container, written by the libraries that people write them with."""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import helper, numpy_helper

Arrays = dict[str, np.ndarray]
CONFIG = {"class_name": "Functional", "config": {"layers": [{"class_name": "Lambda"}]}}


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


def state() -> OrderedDict[str, torch.Tensor]:
    weight = torch.from_numpy(numbers(4, 3, 3, 3))
    return OrderedDict(
        {
            "conv.weight": weight,
            "tied.weight": weight,
            "last.weight": weight.clone().to(memory_format=torch.channels_last),
            "bn.num_batches_tracked": torch.tensor(7),
            "half": torch.arange(6.0).half(),
            "brain": torch.arange(5.0).bfloat16(),
            "part": torch.arange(20.0)[3:9:2],
            "empty": torch.empty(0, 3),
            "truth": torch.tensor([True, False]),
            "unsigned": torch.ones(3, dtype=torch.uint16),
            "parameter": torch.nn.Parameter(torch.ones(2)),
        }
    )


def torch_file(path: Path, zipped: bool = True) -> Arrays:
    """A checkpoint as timm's training script leaves one."""
    content = {
        "epoch": 3,
        "state_dict": state(),
        "args": argparse.Namespace(lr=0.1, model="resnet50"),
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(3)}},
            "param_groups": [{"lr": float("inf"), "params": [0]}],
        },
        "dtype": torch.float16,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    arrays = {f"state_dict/{name}": as_numpy(tensor) for name, tensor in state().items()}
    return {**arrays, "optimizer/state/0/momentum_buffer": np.ones(3, np.float32)}


def legacy_file(path: Path) -> Arrays:
    return torch_file(path, zipped=False)


def safetensors_file(path: Path) -> Arrays:
    tensors = {k: v.detach().clone().contiguous() for k, v in state().items()}
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    return {name: as_numpy(tensor) for name, tensor in tensors.items()}


def pickle_file(path: Path, protocol: int = 2) -> Arrays:
    """The form of detectron2's model zoo; one array is long enough to stay in the file."""
    model = {
        "stem.conv1.weight": numbers(64, 3, 11, 11),
        "fortran": np.asfortranarray(numbers(3, 4)),
        "big": np.arange(5, dtype=">i4"),
        "empty": np.zeros((0, 3)),
        "scalar": np.array(3),
        "truth": np.array([True, False]),
    }
    content = {"model": model, "__author__": "MSRA", "lr": np.float32(2), "z": np.complex64(1j)}
    path.write_bytes(pickle.dumps(content, protocol))
    return {f"model/{k}": v.astype(v.dtype.newbyteorder("=")) for k, v in model.items()}


def _keras_groups(file: h5py.File) -> Arrays:
    layer = file.create_group("layers/conv1_conv", track_order=True)
    layer.attrs["name"] = "conv1_conv"
    arrays: Arrays = {}
    variables = layer.create_group("vars")
    for index, value in enumerate((numbers(7, 7, 3, 8), numbers(8), np.array(4))):
        variables[str(index)] = value
        arrays[f"layers/conv1_conv/vars/{index}"] = value
    brain = np.arange(4).astype(ml_dtypes.bfloat16)
    variables["3"] = brain
    variables["3"].attrs["dtype"] = "bfloat16"
    return {**arrays, "layers/conv1_conv/vars/3": brain}


def weights_file(path: Path) -> Arrays:
    with h5py.File(path, "w") as file:
        return _keras_groups(file)


def h5_file(path: Path) -> Arrays:
    """The layout of Keras 2: texts of fixed length give the order of the layers."""
    kernel = numbers(100, 30)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps(CONFIG)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"fc"])
        group.create_group("fc").attrs["weight_names"] = np.array([b"fc/kernel:0"])
        group.create_group("relu").attrs["weight_names"] = np.array([], "S1")
        group["fc/fc/kernel:0"] = kernel
        group.create_dataset("fc/fc/packed:0", data=kernel, compression="gzip", chunks=(10, 30))
        group["fc/fc/big:0"] = kernel.astype(">f4")
    names = ("kernel:0", "packed:0", "big:0")
    return {f"model_weights/fc/fc/{name}": kernel for name in names}


def keras_file(path: Path) -> Arrays:
    weights = path.with_name("inner.h5")
    arrays = weights_file(weights)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.8.0"}))
        archive.writestr("config.json", json.dumps(CONFIG))
        archive.write(weights, "model.weights.h5")
    weights.unlink()
    return arrays


def onnx_file(path: Path) -> Arrays:
    arrays = {
        "w": numbers(4, 3, 3, 3),
        "shape": np.array([-1, 1 << 40]),
        "half": np.ones(3, np.float16),
        "empty": np.zeros((0, 2), np.float32),
    }
    one_by_one = {
        "ints": ("INT64", np.array([-1, 5])),
        "floats": ("FLOAT", np.array([1.5, 2], np.float32)),
        "halves": ("FLOAT16", np.array([1.5, 2], np.float16)),
        "small": ("INT8", np.array([-3, 2], np.int8)),
    }
    tensors = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    for name, (kind, values) in one_by_one.items():
        number = onnx.TensorProto.DataType.Value(kind)
        tensors.append(helper.make_tensor(name, number, values.shape, values.tolist()))
    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    logits = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4, 4, 4])
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2])
    graph = helper.make_graph([node], "net", [image], [logits], tensors)
    onnx.save(helper.make_model(graph, producer_name="pytorch"), path)
    return {**arrays, **{name: values for name, (_, values) in one_by_one.items()}}


#: How to write a file of each kind; it returns the arrays that are in it.
WRITERS: dict[str, Callable[[Path], Arrays]] = {
    "safetensors": safetensors_file,
    "torch": torch_file,
    "torch-legacy": legacy_file,
    "pickle": pickle_file,
    "keras": keras_file,
    "weights.h5": weights_file,
    "h5": h5_file,
    "onnx": onnx_file,
}
