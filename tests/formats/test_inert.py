"""Pickles are data: what stands beside the weights is inert, what only attacks use is refused."""

from __future__ import annotations

import collections
import datetime
import functools
import os
import pickle
import random
import sys
import time
import tracemalloc
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from resnetkit.errors import InputError
from resnetkit.formats.opening import open_container
from resnetkit.formats.unpickler.denylist import is_attack
from resnetkit.formats.unpickler.opcodes import STEPS

WEIGHTS = {"conv.weight": torch.arange(8.0).reshape(2, 4), "conv.bias": torch.ones(2)}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that is there while a file is written, and not while it is read."""
    module = types.ModuleType("a_lab")
    monkeypatch.setitem(sys.modules, "a_lab", module)
    return module


def made_in(lab: types.ModuleType, kind: type) -> type:
    there = type(kind.__name__, (kind,), {"__module__": lab.__name__})
    setattr(lab, kind.__name__, there)
    return there


class Config:
    def __init__(self) -> None:
        self.lr, self.me, self.table = 0.1, self, {("a", 1): 2}


class Settings(dict):
    pass


class Steps(list):
    pass


class Colour(str):
    pass


def test_objects_beside_the_weights_are_names(
    lab: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = [made_in(lab, kind) for kind in (Config, Settings, Steps, Colour)]
    steps = kinds[2]([1, 2])
    steps.extra = 3
    beside = {
        "config": kinds[0](),
        "settings": kinds[1](lr=0.1, inner={"deep": kinds[0]()}),
        "steps": steps,
        "colour": kinds[3]("red"),
        "date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "path": Path("/somewhere"),
        "counts": collections.defaultdict(int, a=1),
        "queue": collections.deque([1, 2]),
        "partial": functools.partial(kinds[0], 1),
        "texts": np.array(["a", "b"], dtype=object),
        "words": np.array(["a", "b"]),
        "when": np.datetime64("2024-01-02"),
        "random": np.random.RandomState(0).get_state(),
        "rng": torch.get_rng_state(),
        "keys": {("a", 1): 1, frozenset([1]): 2, 3: 4},
        "scheduler": torch.optim.lr_scheduler.StepLR(
            torch.optim.SGD([nn.Parameter(torch.ones(1))]), 1
        ),
    }
    for protocol in (2, 4):
        for zipped in (True, False):
            path = tmp_path / f"{protocol}{zipped}.pth"
            torch.save({"state_dict": WEIGHTS, **beside}, path, pickle_protocol=protocol,
                       _use_new_zipfile_serialization=zipped)  # fmt: skip
    monkeypatch.delitem(sys.modules, "a_lab")
    before = set(sys.modules)
    for path in tmp_path.iterdir():
        container = open_container(path)
        for name, value in WEIGHTS.items():
            assert np.array_equal(container.read(f"state_dict/{name}"), value.numpy())
        assert container.facts["config"] == "a_lab.Config"
        assert container.facts["counts"] == {"a": 1}
        assert container.facts["keys"]["3"] == 4
    assert "a_lab" not in set(sys.modules) - before


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_module_is_its_state_dict(lab: types.ModuleType, tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.head = nn.Linear(4, 2, bias=False)
            self.register_buffer("kept", torch.ones(2))
            self.register_buffer("hidden", torch.ones(3), persistent=False)

    net = made_in(lab, Net)()
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        torch.save({"net": net, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
        container = open_container(path)
        state = net.state_dict()
        assert list(container.arrays) == [f"net/{name}" for name in state]
        for name, value in state.items():
            assert np.array_equal(container.read(f"net/{name}"), value.numpy())
        settings = container.modules["net"]
        assert settings["body.0"]["class"] == "torch.nn.modules.conv.Conv2d"
        assert settings["body.0"]["stride"] == [1, 1]
        assert settings["body.1"]["eps"] == 1e-5


class Call:
    """Pickled, it calls ``function`` with ``arguments``, or gives ``state`` to what that makes."""

    def __init__(self, function: Any, *arguments: object, state: object = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.parts


def attacks(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Files that would run something, with the name that has to be in the message."""
    touch = f"touch {canary}".encode()
    nested = {"a": [{"b": (Call(os.system, touch.decode()),)}]}
    memoised = Call(os.system, touch.decode())
    return {
        "nested": (pickle.dumps(nested, 4), "posix.system"),
        "memoised": (pickle.dumps([memoised, memoised], 4), "posix.system"),
        "inside a state": (
            pickle.dumps(Call(Config, state={"x": memoised}), 2).replace(b"tests.", b""),
            "posix.system",
        ),
        "by parts on the stack": (
            b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x8c" + bytes([len(touch)]) + touch
            + b"\x85R.",
            "posix.system",
        ),
        "from the memo": (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.", "os.system"),
        "as an instance": (b"(S'true'\nios\nsystem\n.", "os.system"),
        "as an object": (b"(cos\nsystem\nS'true'\no.", "os.system"),
        "as a new object": (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85\x81.", "os.system"),
        "with keywords": (b"\x80\x04cos\nsystem\n)}\x92.", "os.system"),
        "python 2": (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
        "an attribute": (b"cbuiltins\ngetattr\n(ca_lab\nConfig\nS'x'\ntR.", "builtins.getattr"),
        "below a module": (b"cos.path\njoin\n.", "os.path.join"),
        "dotted": (b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.", "builtins.exec"),
        "a program": (b"ctypes\nCodeType\n.", "types.CodeType"),
        "a module's loader": (b"cimportlib\nimport_module\n(S'os'\ntR.", "importlib.import_module"),
        "an opener": (b"cio\nopen\n(S'x'\ntR.", "io.open"),
        "another pickle": (b"cpickle\nloads\n(S'x'\ntR.", "pickle.loads"),
        "torch's": (b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.", "_load_from_bytes"),
        "an extension": (b"\x80\x02\x82\x01.", "opcode"),
        "elsewhere": (b"\x80\x02X\x01\x00\x00\x00xQ.", "outside it"),
        "by a name elsewhere": (b"Pabc\n.", "opcode"),
    }  # fmt: skip


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_what_only_an_attack_asks_for_is_refused(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    content, asked = attacks(canary)[name]
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_container(path)
    assert asked in str(caught.value) or "not a known weight file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not canary.exists()


def test_names_that_are_harmless_are_no_attacks() -> None:
    names = """torch.nn.modules.conv.Conv2d torchvision.models.resnet.ResNet pathlib.PosixPath
        datetime.datetime collections.deque functools.partial builtins.int models.resnet.ResNet
        omegaconf.dictconfig.DictConfig torch.optim.sgd.SGD timm.models.resnet.ResNet osgeo.gdal
        numpy.random._pickle.__randomstate_ctor torch.jit._pickle.build_intlist systems.Net
        fastai.learner.Learner copyreg._reconstructor argparse.Namespace"""
    for name in names.split():
        assert not is_attack(name), name


#: What was refused before anything else than arrays was read, and is nothing now.
HARMLESS = {
    "objects": b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt"
    b"R(K\x01K\x01\x85cnumpy\ndtype\n(U\x02O8tR\x89]N\x61tb.",
    "a scalar": b"\x80\x04cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02O8tRC\x01xtR.",
    "a buffer": b"\x80\x04cnumpy.core.numeric\n_frombuffer\n(C\x08" + bytes(8) + b"cnumpy\ndtype\n"
    b"(U\x02O8tRK\x01\x85U\x01CtR.",
    "half an array": b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C"
    b"\x01btR.",
    "a class": b"(i__main__\nPayload\n.",
    "a state of a list": b"\x80\x04]}b.",
    "a state of a dict": b"\x80\x04}K\x01K\x02\x86b.",
    "a key that is a tower of tuples": b"\x80\x02}" + b")" + b"2\x86" * 60 + b"Ns.",
    "a call of what was called": b"\x80\x02ca\nB\n)R)R)R.",
    "a set of sets": b"\x80\x04\x8f(\x8f\x8f\x90.",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_array_is_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(HARMLESS[name])
    assert dict(open_container(path).arrays) == {}


def seeds(folder: Path) -> list[bytes]:
    values: list[object] = [
        {"model": {"w": np.arange(6.0).reshape(2, 3), "b": np.float32(2)}, "epoch": 3},
        {"o": Call(Config, 1), "n": Call(collections.OrderedDict, [("a", 1)]), "s": {1, "x"}},
        [Call(datetime.datetime, 2024, 1, 2), (1.5, None, b"x" * 40), "text" * 20],
    ]
    found = [pickle.dumps(value, protocol) for value in values for protocol in range(6)]
    torch.save(WEIGHTS, folder / "x.pth", _use_new_zipfile_serialization=False)
    return [*found, (folder / "x.pth").read_bytes()]


def check_mutated(count: int, seed: int, folder: Path) -> None:
    """Every mutation is read or refused in a line: no crash, no import, memory and time bounded."""
    chance, originals = random.Random(seed), seeds(folder)
    opcodes = b"".join(STEPS) + b"."
    path, modules = folder / "net.pkl", set(sys.modules)
    refused = 0
    for _ in range(count):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 6)):
            at, how = chance.randrange(len(data)), chance.random()
            if how < 0.4:
                data[at] = chance.randrange(256)
            elif how < 0.7:
                data[at] = chance.choice(opcodes)
            elif how < 0.85:
                del data[at : at + chance.randint(1, 8)]
            else:
                data[at:at] = bytes(chance.choice(opcodes) for _ in range(chance.randint(1, 6)))
            if not data:
                data = bytearray(b".")
        path.write_bytes(data)
        begin = time.perf_counter()
        try:
            container = open_container(path)
            for name in container.arrays:
                container.read(name)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
        assert time.perf_counter() - begin < 5
    assert refused > count // 10
    assert not {
        m for m in set(sys.modules) - modules if not m.startswith(("resnetkit", "encodings"))
    }


def test_mutated_pickles(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        check_mutated(1000, 1, tmp_path)
        peak = tracemalloc.get_traced_memory()[1] >> 20
    finally:
        tracemalloc.stop()
    assert peak < 150, f"{peak} MB"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_twenty_thousand_mutated_pickles(seed: int, tmp_path: Path) -> None:
    check_mutated(5000, 100 + seed, tmp_path)
