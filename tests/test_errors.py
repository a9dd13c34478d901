"""Documents from files that anybody may have written: each field has a type and a range."""

from __future__ import annotations

import copy
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resnetkit
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import walk
from resnetkit.bundle.bundle import DOCUMENT, Bundle
from resnetkit.cli.main import main
from resnetkit.data.datasets.splits import load_record
from resnetkit.errors import InputError
from resnetkit.formats import safetensors_writer
from resnetkit.formats.opening import open_container
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.results.journal import Journal
from resnetkit.preprocess import Preprocess
from resnetkit.training.checkpoint import State, load_state, save_state
from resnetkit.training.epoch_log import read_log
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe

HUGE = 10**400
#: What stands in the place of a field.
VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 2, 3, 20.5, 1e308, HUGE, 20_000, 100_000, "", "1", "x", "batch"]
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def bundle() -> Bundle:
    torch.manual_seed(0)
    module = resnetkit.build(
        "resnet20", depths=(1, 1), widths=(8, 8), stem_widths=(8,), num_classes=2
    )
    return Bundle.from_module(module, preprocess=Preprocess(size=16), classes=("a", "b"))


BUNDLE = bundle()
CARD = {
    **json.loads(BUNDLE.document()), "precision": "fp32", "output": "logits", "batch": None,
    "cuts": False,
}  # fmt: skip
SPLIT = {
    "data": "x", "classes": ["a", "b"],
    "parts": {"train": {"a/1": "d"}, "validation": {"b/1": "e"}, "test": {}},
}  # fmt: skip
ROW = {
    "epoch": 1, "lr": 0.1, "loss": 1.0, "accuracy": 0.5, "validation_loss": 1.0,
    "validation_accuracy": 0.5, "seconds": 1.0, "rate": 10.0, "best": True, "waited": 0.1,
    "validation_images": 10,
}  # fmt: skip
STATE = {
    "network": resnetkit.network("resnet20").to_dict(), "batch": 3, "skipped": 0,
    "score": {"total": 1.5, "right": 2, "images": 4}, "seconds": 1.0, "waited": 0.1,
    "rows": [ROW], "threads": 2, "processes": 1,
}  # fmt: skip
JOURNAL = {
    "version": 1, "run": {"model": "m"}, "bytes": 5, "state": {"images": 1, "names": "d"},
    "complete": False,
}  # fmt: skip


def from_bundle(document: dict[str, Any], folder: Path) -> None:
    path = folder / "net.safetensors"
    header = {**BUNDLE.metadata(), DOCUMENT: json.dumps(document)}
    safetensors_writer.write(path, dict(BUNDLE.numbers), header)
    resnetkit.load(path)


def from_network(document: dict[str, Any], _: Path) -> None:
    network = Network.from_dict(document)
    walk(network, (network.options.in_chans, 64, 64))


def from_split(document: dict[str, Any], folder: Path) -> None:
    (folder / "split.json").write_text(json.dumps(document))
    load_record(folder)


def from_log(document: dict[str, Any], folder: Path) -> None:
    (folder / "log.jsonl").write_text(json.dumps(document) + "\n")
    read_log(folder)


def from_state(document: dict[str, Any], folder: Path) -> None:
    for path in folder.glob("state*"):
        path.unlink()
    save_state(folder, State(arrays={}, document=document))
    load_state(folder, lambda _: None)


def from_journal(document: dict[str, Any], folder: Path) -> None:
    (folder / "x.jsonl.part").write_bytes(b"12345678")
    (folder / "x.jsonl.progress").write_text(json.dumps(document))
    with Journal(folder / "x.jsonl", {"model": "m"}, {"images": 0, "names": ""}):
        pass


READERS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any], Path], object]]] = {
    "bundle": (json.loads(BUNDLE.document()), from_bundle),
    "network": (resnetkit.network("resnet18").to_dict(), from_network),
    "preprocess": (Preprocess(size=32).to_dict(), lambda d, _: Preprocess.from_dict(d)),
    "recipe": (make_recipe("digits").to_dict(), lambda d, _: Recipe.from_dict(d)),
    "card": (CARD, lambda d, f: Exported.read(f / "x.onnx", "onnx", json.dumps(d))),
    "split": (SPLIT, from_split),
    "log": (ROW, from_log),
    "state": (STATE, from_state),
    "journal": (JOURNAL, from_journal),
}


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every field, and to every item of every list."""
    found = [path] if path else []
    if isinstance(document, dict):
        pairs: list[tuple[Any, Any]] = list(document.items())
    elif isinstance(document, list):
        pairs = list(enumerate(document))
    else:
        pairs = []
    for key, value in pairs:
        found += places(value, (*path, key))
    return found


def test_an_unknown_name_in_one_line() -> None:
    """Names of fields come from files too."""
    original, read = READERS["recipe"]
    for document in ({**original, "a\nb": 1}, {**original, "augment": {"\n" * 9_000: None}}):
        with pytest.raises(InputError, match=r"has no field [a\\]") as found:
            read(document, Path())
        assert "\n" not in str(found.value)
        assert len(str(found.value)) < 3000


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_in_any_field(name: str, data: st.DataObject, tmp_path_factory: Any) -> None:
    """It is read or refused in one line, at once and in little memory."""
    original, read = READERS[name]
    document = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(places(document)))
        place = document
        for key in way:
            place = place[key]
        if isinstance(place, dict) and data.draw(st.integers(0, 9)) == 0:
            del place[last]
        else:
            place[last] = data.draw(VALUES)
        if not document:
            return
    begin = time.perf_counter()
    try:
        read(document, tmp_path_factory.getbasetemp())
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 3000
    assert time.perf_counter() - begin < 3


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("state", {"batch": "3"}, "its batch is '3'"),
        ("state", {"rows": [{**ROW, "epoch": 0}]}, "epoch is 0"),
        ("state", {"score": {"total": 1.5, "right": 2}}, "images is None"),
        ("state", {"threads": HUGE}, "threads is a number of more"),
        ("journal", {"bytes": -1}, "has no valid progress"),
        ("journal", {"state": {"images": "1", "names": "d"}}, "has no valid progress"),
        ("journal", {"complete": 1}, "has no valid progress"),
    ],
)
def test_what_a_run_would_stumble_over_later(
    name: str, change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    original, read = READERS[name]
    with pytest.raises(InputError, match=reason):
        read({**original, **change}, tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_the_documents_themselves_are_read(name: str, tmp_path: Path) -> None:
    original, read = READERS[name]
    read(original, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 20_000, "resize": "squash", "resize_to": None}, "1 to 4,096"),
        ({"size": 20.5}, "size is 20.5"),
        ({"resize_to": 100_000}, "1 to 8,192"),
        ({"mean": ["a", "b", "c"]}, "mean is a tuple|mean is a list"),
        ({"mean": [HUGE, 0, 0]}, "mean is"),
        ({"std": [0, 1, 1]}, "std is"),
        ({"divisor": 0}, "divisor is 0"),
    ],
)
def test_a_preprocessing_that_would_take_gigabytes(change: dict, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=reason):
            Preprocess.from_dict({**Preprocess(size=32).to_dict(), **change})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "document", ["[" * 200_000, '{"a":' * 100_000, "{", "3", '"x"', "[]", "{}", "\x00", "9" * 5000]
)
def test_headers_that_are_no_documents(document: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.safetensors"
    header = {**BUNDLE.metadata(), DOCUMENT: document}
    safetensors_writer.write(path, dict(BUNDLE.numbers), header)
    for words in (["predict", str(path), "x.png"], ["identify", str(path)]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_header_of_very_many_tensors_is_quick(tmp_path: Path) -> None:
    def write(name: str, shape: list[int], count: int) -> Path:
        nbytes = 4
        entries = {
            name.format(i): {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": [nbytes * i, nbytes * (i + 1)],
            }
            for i in range(count)
        }
        text = json.dumps(entries).encode()
        path = tmp_path / "many.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(nbytes * count))
        return path

    for name, count in (("x{}.weight", 100_000), ("layer1.{}.conv1.weight", 20_001)):
        path = write(name, [1], count)
        assert len(open_container(path).arrays) == count
        begin = time.perf_counter()
        assert main(["identify", str(path)]) == 2
        assert time.perf_counter() - begin < 20, "some 3 s where nothing else runs"
    assert main(["identify", str(write("m{}.layer1.0.conv1.weight", [1, 1, 1, 1], 5_000))]) == 2
