"""Hostile files: nothing is executed, nothing beside the file is read, memory stays bounded."""

from __future__ import annotations

import json
import marshal
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import samples
import torch
from onnx import helper, numpy_helper

from resnetkit.errors import InputError
from resnetkit.formats.opening import open_container


def read_all(path: Path) -> None:
    container = open_container(path)
    for name in container.arrays:
        container.read(name)


def refused(path: Path, reason: str = "") -> None:
    """The file is refused in one line, where it is opened or where its arrays are read."""
    with pytest.raises(InputError, match=reason) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


class Call:
    """Pickled, it calls ``function`` with ``arguments``."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def payloads(canary: Path) -> dict[str, tuple[Call, str]]:
    code = f"open({str(canary)!r}, 'w')"
    return {
        "system": (Call(os.system, f"touch {canary}"), r"(posix|nt)\.system"),
        "eval": (Call(eval, code), r"builtins\.eval"),
        "exec": (Call(exec, code), r"builtins\.exec"),
        "getattr": (Call(getattr, os, "system"), r"builtins\.getattr"),
        "open": (Call(open, str(canary), "w"), r"io\.open"),
        "popen": (Call(subprocess.Popen, ["touch", str(canary)]), r"(subprocess|commands)\.Popen"),
        "load": (Call(np.load, str(canary), None, True), r"numpy\.load"),
        "memmap": (Call(np.memmap, str(canary), "u1", "w+", 0, 8), r"numpy\.memmap"),
        "torch": (Call(torch.load, str(canary)), r"torch\.serialization\.load"),
        "marshal": (Call(marshal.loads, b"x"), r"marshal\.loads"),
    }


NAMES = list(payloads(Path("canary")))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def pickled(call: Call, protocol: int) -> bytes:
    if call.function is getattr:  # a module cannot be pickled, but it can be asked for
        return b"cbuiltins\ngetattr\n(cposix\nsystem\nS'x'\ntR."
    return pickle.dumps({"model": {"w": call}}, protocol)


@pytest.mark.parametrize("name", NAMES)
def test_pickles_that_call(name: str, canary: Path, tmp_path: Path) -> None:
    call, asked = payloads(canary)[name]
    for protocol in range(6):
        path = tmp_path / "net.pkl"
        path.write_bytes(pickled(call, protocol))
        refused(path, asked)
    assert not canary.exists()


def test_the_payload_would_work(canary: Path) -> None:
    pickle.loads(pickled(payloads(canary)["system"][0], 2))
    assert canary.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["system", "eval"])
def test_torch_files_that_call(name: str, zipped: bool, canary: Path, tmp_path: Path) -> None:
    call, asked = payloads(canary)[name]
    path = tmp_path / "net.pth"
    content = {"state_dict": {"w": torch.ones(2)}, "x": call}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    refused(path, asked)
    assert not canary.exists()


def test_the_program_of_torchscript_is_never_loaded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as file:
        file.writestr("net/data.pkl", pickle.dumps({}, 2))
        file.writestr("net/constants.pkl", pickle.dumps((), 2))
        file.writestr("net/code/__torch__.py", "raise SystemExit")
    container = open_container(tmp_path / "net.pt")
    assert (container.kind, dict(container.arrays)) == ("torchscript", {})


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.:FutureWarning", "ignore:.torch.jit.:DeprecationWarning"
)
def test_a_real_torchscript_program(tmp_path: Path) -> None:
    """torch.jit packs its code, which is passed over; the tensors are read by their names."""
    path, module = tmp_path / "net.pt", torch.nn.Linear(2, 2)
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 2)), path)
    container = open_container(path)
    assert container.kind == "torchscript"
    assert (container.read("weight") == module.weight.detach().numpy()).all()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt"
NEST = 200_000


def array_of(dtype: bytes, shape: bytes, data: bytes) -> bytes:
    kind = b"cnumpy\ndtype\n(U" + bytes([len(dtype)]) + dtype + b"tR"
    return b"\x80\x04" + ARRAY + b"R(K\x01" + shape + kind + b"\x89" + data + b"tb."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (array_of(b"f4", b"K\x01\x85", b"]N\x61"), "unknown form"),
        (array_of(b"f4", b"J\xff\xff\xff\x7f\x85", b"C\x04" + bytes(4)), "holds 4 for it"),
        (array_of(b"f4", b"J\xff\xff\xff\xff\x85", b"C\x04" + bytes(4)), "no usable shape"),
        (array_of(b"f4", b"\x8a\x10" + b"\x7f" * 16 + b"\x85", b"C\x00"), "no usable shape"),
        (b"\x80\x04cnumpy\nndarray\n(K\x01\x85tR.", r"calls numpy\.ndarray"),
        # False sizes and counts.
        (b"\x80\x04B\xff\xff\xff\xff.", "truncated"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "truncated"),
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.", "truncated"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "truncated"),
        (b"\x80\x02T\xff\xff\xff\x7f.", "truncated"),
        (b"\x80\x04\x8b\xff\xff\xff\x7f.", "integer of"),
        (b"\x80\x04\x8b" + (1 << 20).to_bytes(4, "little") + b"\x01" * (1 << 20) + b".", "integer"),
        (b"(lp0\nL" + b"9" * 100_000 + b"L\n.", "damaged"),
        # A memo index that makes Python's own reader allocate 32 GB.
        (b"\x80\x02}r\xff\xff\xff\x7f0j\xff\xff\xff\x6f.", "damaged"),
        # Sharing that has no end when it is followed, and keys that take forever to hash.
        (b"\x80\x02]q\x00" + b"(h\x00h\x00lq\x00" * 60 + b".", "nested deeper|repeats"),
        pytest.param(
            b"\x80\x02]q\x00" + b"(" + b"h\x00" * 1500 + b"lq\x00(" + b"h\x00" * 1500 + b"l.",
            "repeats",
            marks=pytest.mark.slow,
        ),
        (b"\x80\x02]q\x00h\x00a.", "nested deeper"),
        (b"\x80\x02}q\x00h\x00K\x01h\x00su.", "damaged"),
        (b"\x80\x04" + b"]" * NEST + b"a" * (NEST - 1) + b".", "nested deeper"),
        (b"\x80\x04)" + b"\x85" * NEST + b".", "nested deeper"),
        pytest.param(
            b"\x80\x04" + b"(" * NEST + b"t" * NEST + b".",
            "damaged|nested",
            marks=pytest.mark.slow,
        ),
        (b"\x80\x04" + b"N" * 1_100_000 + b".", "more than 1000000 steps"),
        (
            b"\x80\x02ccollections\nOrderedDict\n0](" + b"K\x01K\x02\x86" * 2000 + b"eq\x01"
            b"ccollections\nOrderedDict\nq\x020" + b"h\x02h\x01\x85R0" * 20_000 + b"N.",
            "more than 1000000 steps",
        ),
        # What stands for objects elsewhere.
        (b"\x80\x02K\x01Q.", "outside it"),
        (b"\x80\x02\x82\x01.", "opcode"),
        (b"\x80\x05\x97.", "opcode"),
        (b"\x80\x04}X\x02\x00\x00\x00os\x8c\x06system\x93.", r"os\.system"),
        (b"\x80\x04cargparse\nNamespace\n)\x81K\x01b.", "unknown form"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_pickles_that_lie(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(path, reason)
        peak = tracemalloc.get_traced_memory()[1] >> 20
    finally:
        tracemalloc.stop()
    assert peak < 150, f"{peak} MB"


def torch_zip(path: Path, description: bytes, storage: bytes = bytes(16), how: int = 0) -> None:
    with zipfile.ZipFile(path, "w", compression=how) as file:
        file.writestr("net/data.pkl", description)
        file.writestr("net/data/0", storage)


def tensor_of(count: bytes, offset: bytes, shape: bytes, strides: bytes) -> bytes:
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu" + count + b"tQ"
    return (
        b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + offset
        + shape
        + strides
        + b"\x89}tRs."
    )


HUGE = b"\x8a\x08" + (1 << 40).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides", "reason"),
    [
        (HUGE, b"K\x00", b"K\x04\x85", b"K\x01\x85", "declares 1099511627776 numbers"),
        (b"K\x04", b"K\x00", HUGE + b"\x85", b"K\x01\x85", "reaches beyond"),
        (b"K\x04", b"K\x00", HUGE + b"\x85", b"K\x00\x85", "reaches beyond"),
        (b"K\x04", b"K\x02", b"K\x04\x85", b"K\x01\x85", "reaches beyond"),
        (b"K\x04", b"J\xff\xff\xff\xff", b"K\x01\x85", b"K\x01\x85", "reaches beyond"),
        (b"K\x04", b"K\x00", b"K\x02\x85", b"J\xff\xff\xff\xff\x85", "no usable shape"),
        (b"K\x04", b"K\x00", b"K\x02\x85", b"K\x01K\x01\x86", "reaches beyond"),
        (b"J\xff\xff\xff\xff", b"K\x00", b"K\x00\x85", b"K\x01\x85", "declares -1"),
    ],
)
def test_tensors_beyond_their_storage(
    count: bytes, offset: bytes, shape: bytes, strides: bytes, reason: str, tmp_path: Path
) -> None:
    torch_zip(tmp_path / "net.pth", tensor_of(count, offset, shape, strides))
    refused(tmp_path / "net.pth", reason)


def test_zip_bombs(tmp_path: Path) -> None:
    good = tensor_of(b"K\x04", b"K\x00", b"K\x04\x85", b"K\x01\x85")
    torch_zip(tmp_path / "good.pth", good)
    assert open_container(tmp_path / "good.pth").read("w").tolist() == [0, 0, 0, 0]
    torch_zip(tmp_path / "bomb.pth", good, bytes(50 << 20), zipfile.ZIP_DEFLATED)
    refused(tmp_path / "bomb.pth", "compressed entry")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", bytes(50 << 20))
    refused(tmp_path / "bomb.keras", "compressed entry")
    # A stored entry that claims gigabytes.
    content = (tmp_path / "good.pth").read_bytes()
    at = content.rindex(b"PK\x01\x02")
    false = struct.pack("<II", 0xF0000000, 0xF0000000)
    (tmp_path / "big.pth").write_bytes(content[: at + 20] + false + content[at + 28 :])
    refused(tmp_path / "big.pth", "truncated")


def test_keras_configuration_stays_a_text(canary: Path, tmp_path: Path) -> None:
    samples.weights_file(tmp_path / "w.h5")
    code = marshal.dumps(compile(f"open({str(canary)!r}, 'w')", "x", "exec")).hex()
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as file:
        file.writestr("config.json", json.dumps({"class_name": "Lambda", "function": code}))
        file.write(tmp_path / "w.h5", "model.weights.h5")
    assert open_container(tmp_path / "net.keras").facts["config"]["function"] == code
    assert not canary.exists()
    with zipfile.ZipFile(tmp_path / "deep.keras", "w") as file:
        file.writestr("config.json", "[" * 1_000_000)
        file.write(tmp_path / "w.h5", "model.weights.h5")
    refused(tmp_path / "deep.keras", "damaged config.json")


def hdf5_files(secret: Path) -> dict[str, tuple[Callable[[h5py.File], object], str]]:
    def external_storage(file: h5py.File) -> None:
        file.create_dataset("w", (8,), "u1", external=[(str(secret), 0, 8)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((8,), "u1")
        layout[:] = h5py.VirtualSource(str(secret), "w", (8,))
        file.create_virtual_dataset("w", layout)

    def cycle(file: h5py.File) -> None:
        file.create_group("a")["self"] = file["/"]

    return {
        "external link": (
            lambda f: f.__setitem__("w", h5py.ExternalLink(str(secret), "/w")),
            "link to another file",
        ),
        "soft link": (lambda f: f.__setitem__("w", h5py.SoftLink("/x")), "link to another place"),
        "external storage": (external_storage, "in another file"),
        "virtual": (virtual, "in another file"),
        "cycle": (cycle, "too many groups"),
        "unwritten": (lambda f: f.create_dataset("w", (1 << 40,), "f4"), "declares"),
        "chunked": (
            lambda f: f.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 20,)),
            "declares",
        ),
        "compressed": (
            lambda f: f.create_dataset("w", (1 << 45,), "f4", chunks=(8,), compression="gzip"),
            "declares",
        ),
    }


@pytest.mark.parametrize("name", hdf5_files(Path("secret")))
def test_hdf5_that_points_or_lies(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["w"] = np.arange(8, dtype=np.uint8)
    make, reason = hdf5_files(secret)[name]
    with h5py.File(tmp_path / "net.h5", "w") as file:
        make(file)
    refused(tmp_path / "net.h5", reason)


def test_the_process_of_hdf5_can_open_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from resnetkit.formats.hdf5_subprocess import confine; confine()\n"
        "for mode in 'rw':\n"
        "    try: open(sys.argv[1], mode)\n"
        "    except OSError as error: print(error.strerror)"
    )
    path = tmp_path / "secret"
    path.touch()
    arguments = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Too many open files"] * 2


def onnx_model(tmp_path: Path, tensor: onnx.TensorProto) -> Path:
    graph = helper.make_graph([], "net", [], [], [tensor])
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "weights.bin"])
def test_onnx_in_other_files(place: str, tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(samples.numbers(2, 2), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", place
    refused(onnx_model(tmp_path, tensor), "keeps 'w' in another file")


@pytest.mark.parametrize(
    ("dims", "reason"),
    [([1 << 40], "holds 16 for it"), ([-1], "no usable shape"), ([1] * 100, "no usable shape")],
)
def test_onnx_with_false_shapes(dims: list[int], reason: str, tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(samples.numbers(2, 2), "w")
    del tensor.dims[:]
    tensor.dims.extend(dims)
    refused(onnx_model(tmp_path, tensor), reason)
    tensor = helper.make_tensor("w", onnx.TensorProto.INT64, [2], [1, 2])
    tensor.dims[0] = dims[0]
    refused(onnx_model(tmp_path, tensor), "holds 2|no usable|has 2 numbers")


def entry(begin: int, end: int, *shape: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": entry(0, 8, 2), "b": entry(4, 16, 3)}, "overlap"),
        ({"a": entry(0, 4, 1), "b": entry(8, 16, 2)}, "overlap or leave holes"),
        ({"a": entry(0, 8, 2)}, "8 bytes after its last array"),
        ({"a": entry(0, 1 << 40, 1 << 38)}, "truncated"),
        ({"a": entry(0, 16, 5)}, "gives 'a' the bytes"),
        ({"a": entry(16, 0, 4)}, "gives 'a' the bytes"),
        ({"a": entry(-4, 12, 4)}, "no usable shape"),
        ({"a": entry(0, 16, -4)}, "no usable shape"),
        ({"a": entry(0, 16, True)}, "no usable shape"),
        ({"a": entry(0, 16, *[1] * 100)}, "no usable shape"),
        ({"a": entry(0, 16, 4, dtype="O")}, "'O'; supported are BOOL"),
        ({"a": [1]}, "that is not an array"),
        ({"a": entry(0, 16, 4), "\ud800": entry(16, 16, 0)}, "not a string"),
        ({"a": entry(0, 16, 4), "__metadata__": {"x": 1}}, "metadata"),
        ([1], r"known|truncated"),
    ],
)
def test_safetensors_that_lie(header: object, reason: str, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    refused(path, reason)


@pytest.mark.parametrize(
    ("length", "text", "reason"),
    [
        (1 << 39, b"{}", "header of"),
        (1 << 20, b"{}", "truncated"),
        (100_000, b'{"a":' + b"[" * 99_995, "damaged header"),
        (8, b'{"a": \xff}', "damaged header"),
        (7008, b'{"a": ' + b"9" * 7001 + b"}", "damaged header"),
    ],
)
def test_safetensors_with_false_headers(
    length: int, text: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", length) + text)
    refused(path, reason)
