"""Containers: the right arrays and facts of files that other libraries wrote."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import samples
import torch

from resnetkit.errors import InputError
from resnetkit.formats.opening import Container, open_container


def compare(container: Container, wanted: samples.Arrays) -> None:
    assert set(container.arrays) == set(wanted)
    for name, value in wanted.items():
        info, array = container.arrays[name], container.read(name)
        assert info.name == name
        assert (info.shape, info.dtype, info.nbytes) == (
            value.shape,
            value.dtype.name,
            value.nbytes,
        )
        assert (array.shape, array.dtype) == (value.shape, value.dtype)
        assert np.array_equal(array, value)
        assert array.flags.writeable


@pytest.mark.parametrize("kind", samples.WRITERS)
def test_arrays_of_every_kind_under_a_name_that_tells_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    wanted = samples.WRITERS[kind](path)
    container = open_container(path)
    assert container.kind == kind
    compare(container, wanted)
    assert json.loads(json.dumps(container.facts, allow_nan=False)) == container.facts


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "R-50.pkl"
    wanted = samples.pickle_file(path, protocol)
    container = open_container(path)
    compare(container, wanted)
    assert container.facts == {"__author__": "MSRA", "lr": 2.0, "z": [0.0, 1.0]}


def test_pickles_of_python_2(tmp_path: Path) -> None:
    """Bytes written as Python 2 did: STRING in protocol 0, BINSTRING in protocol 2."""
    path, data = tmp_path / "old.pkl", samples.numbers(200, 100)
    raw = data.tobytes()
    quoted = "".join(
        chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\x{b:02x}" for b in raw
    ).encode()
    make = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    dtype = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    head = b"(dS'blobs'\n(dS'conv1_w'\n" + make + b"(I1\n(I200\nI100\nt" + dtype + b"I00\n"
    binary = b"T" + len(raw).to_bytes(4, "little") + raw
    for begin, text in ((b"", b"S'" + quoted + b"'\n"), (b"\x80\x02", binary)):
        path.write_bytes(begin + head + text + b"tbss.")
        if not begin:
            again = pickle.loads(path.read_bytes(), encoding="latin1")
            assert np.array_equal(again["blobs"]["conv1_w"], data)
        compare(open_container(path), {"blobs/conv1_w": data})


@pytest.mark.parametrize("kind", ["torch", "torch-legacy"])
def test_facts_of_a_training_checkpoint(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.pth.tar"
    samples.WRITERS[kind](path)
    container = open_container(path)
    assert container.facts == {
        "epoch": 3,
        "args": {"lr": 0.1, "model": "resnet50"},
        "optimizer": {"param_groups": [{"lr": "inf", "params": [0]}]},
        "dtype": "torch.float16",
    }
    info = container.arrays["state_dict/conv.weight"]
    assert info.path == ("state_dict", "conv.weight")


def test_as_torch_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict(), path
    )
    peer = torch.load(path, weights_only=True)
    compare(open_container(path), {k: samples.as_numpy(v) for k, v in peer.items()})


def test_torch_without_checksums(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.serialization.set_crc32_options(False)
    try:
        wanted = samples.torch_file(path)
    finally:
        torch.serialization.set_crc32_options(True)
    compare(open_container(path), wanted)


def test_facts_of_keras(tmp_path: Path) -> None:
    samples.keras_file(tmp_path / "a.keras")
    facts = open_container(tmp_path / "a.keras").facts
    assert (facts["config"], facts["metadata"]) == (samples.CONFIG, {"keras_version": "3.8.0"})
    assert facts["attributes"]["layers/conv1_conv"] == {"name": "conv1_conv"}
    samples.h5_file(tmp_path / "a.h5")
    facts = open_container(tmp_path / "a.h5").facts
    assert facts["model_config"] == samples.CONFIG
    assert facts["attributes"]["model_weights"] == {"layer_names": ["fc"]}
    assert facts["attributes"]["model_weights/fc"] == {"weight_names": ["fc/kernel:0"]}


def test_facts_of_onnx(tmp_path: Path) -> None:
    samples.onnx_file(tmp_path / "a.onnx")
    facts = open_container(tmp_path / "a.onnx").facts
    assert (facts["producer"], facts["graph"]) == ("pytorch", "net")
    assert facts["opset"][""] > 10
    (node,) = facts["nodes"]
    assert (node["op"], node["name"], node["attributes"]) == ("Conv", "", {"strides": [2, 2]})
    assert (node["inputs"], node["outputs"]) == (["x", "w"], ["y"])
    assert facts["inputs"] == [{"name": "x", "shape": [1, 3, 8, 8]}]
    assert facts["outputs"] == [{"name": "y", "shape": [1, 4, 4, 4]}]


def test_names_that_are_not_there(tmp_path: Path) -> None:
    samples.safetensors_file(tmp_path / "a.safetensors")
    container = open_container(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"has no array 'fc'; it has 11, e\.g\. "):
        container.read("fc")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x1f\x8b\x08", "gzip"),
        (b'{"weight_map": {}}', "JSON"),
        (bytes(257) + b"ustar\x0000", "tar archive"),
        (b"hello", "begins with b'hello'"),
    ],
)
def test_other_files(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        open_container(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_container(tmp_path / "net.pth")
    with pytest.raises(InputError, match="is a folder"):
        open_container(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(InputError, match="is not a regular file"):
        open_container(tmp_path / "pipe.pth")


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples.weights_file(tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'resnetkit\[keras\]'"):
        open_container(tmp_path / "a.h5")


def fresh(code: str, *arguments: object) -> str:
    """What a program prints that runs in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_opening_is_quick_and_light(tmp_path: Path) -> None:
    """100 MB: neither numpy nor torch is loaded, and no number is read."""
    path = tmp_path / "large.safetensors"
    weights = {str(i): np.zeros((1024, 1024), np.float32) for i in range(25)}
    safetensors.numpy.save_file(weights, path)
    torch.save(
        {name: torch.from_numpy(value) for name, value in weights.items()}, tmp_path / "a.pth"
    )
    code = (
        "import sys; from resnetkit.formats.opening import open_container\n"
        "assert len(open_container(sys.argv[1]).arrays) == 25\n"
        "assert not {'numpy', 'torch', 'safetensors', 'h5py'} & set(sys.modules)"
    )
    for name in ("large.safetensors", "a.pth"):
        begin = time.perf_counter()
        fresh(code, tmp_path / name)
        assert time.perf_counter() - begin < 2  # 0.1 s on an idle machine


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured as Linux counts")
@pytest.mark.parametrize("kind", ["safetensors", "torch", "torch-legacy", "pickle"])
def test_reading_holds_one_array(kind: str, tmp_path: Path) -> None:
    """A file of 300 MB in three arrays: never more than one of them, and the interpreter.

    Linux hands the ru_maxrss of the parent down to a child, so that the kernel's VmHWM is read.
    """
    path = tmp_path / "large"
    one = np.ones((25, 1024, 1024), np.float32)
    content = {str(i): one for i in range(3)}
    if kind == "safetensors":
        safetensors.numpy.save_file(content, path)
    elif kind == "pickle":
        with path.open("wb") as file:
            pickle.dump({k: v.copy() for k, v in content.items()}, file, 4)
    else:
        tensors = {name: torch.from_numpy(value.copy()) for name, value in content.items()}
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "torch")
    code = (
        "import re, sys, numpy; from resnetkit.formats.opening import open_container\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before, container = peak(), open_container(sys.argv[1])\n"
        "for name in container.arrays: assert container.read(name).sum() == 25 << 20\n"
        "print((peak() - before) / 1024)"
    )
    assert 95 <= float(fresh(code, path)) < 1.2 * 100
