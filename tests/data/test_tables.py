"""Tables of paths and labels, and IDX files: read, and refused with one line."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from resnetkit.data.datasets import idx
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import split
from resnetkit.errors import InputError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "all.csv", "Label,path\ncat,a/1.jpg\n10,b.png\n9,c.png\ncat,d.png\n")
    source = open_dataset(path)
    assert source.classes == ("9", "10", "cat"), "numbers by value, then words"
    assert [(e.name, e.label) for e in source.flat] == [
        ("a/1.jpg", 2),
        ("b.png", 1),
        ("c.png", 0),
        ("d.png", 2),
    ]
    assert source.flat[0].image == tmp_path / "a" / "1.jpg"
    assert source.parts == {}


def test_parts_and_a_class_list(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "dog\ncat\nowl\n")
    text = "file\tclass\tsplit\n1.png\tcat\ttrain\n2.png\tdog\tTrain\n3.png\tdog\tval\n"
    source = open_dataset(write(tmp_path / "t.tsv", text))
    assert source.classes == ("dog", "cat", "owl")
    assert {p: [e.label for e in found] for p, found in source.parts.items()} == {
        "train": [1, 0],
        "validation": [0],
    }


def test_parquet(tmp_path: Path) -> None:
    rows = {"image_path": ["x.png", "y.png"], "target": [7, 3]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "t.parquet")
    source = open_dataset(tmp_path / "t.parquet")
    assert source.classes == ("3", "7")
    assert [(e.name, e.label) for e in source.flat] == [("x.png", 1), ("y.png", 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "has no rows"),
        ("path,kind\n1.png,a\n", r"no column label; its columns are path, kind"),
        ("path,label\n1.png,a\n2.png,\n", "line 3, has no label"),
        ("path,label\n1.png,a\n2.png,a\n", "has one class"),
        ("path,label,split\n1.png,a,train\n2.png,b,extra\n", "line 3, has the split extra"),
        (
            "path,label,split\n1.png,a,train\n2.png,b,train\n3.png,c,val\n",
            "gives 3.png the label c, which is not in train; it has a, b",
        ),
        ('path,label\n"1.png,a\n', "has no label"),
    ],
)
def test_tables_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(write(tmp_path / "t.csv", text))
    assert "\n" not in str(caught.value)


def test_other_tables_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe.png,a\n")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing PAR1")
    for name, message in (
        ("t.csv", "in UTF-8"),
        ("t.parquet", "cannot be read"),
        ("n.csv", "does not"),
    ):
        with pytest.raises(InputError, match=message):
            open_dataset(tmp_path / name)
    write(tmp_path / "classes.txt", "a\nb\n")
    with pytest.raises(InputError, match=r"label c, which is not in classes\.txt; it has a, b"):
        open_dataset(write(tmp_path / "t.csv", "path,label\n1.png,c\n"))


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim])
    return head + b"".join(side.to_bytes(4, "big") for side in array.shape) + array.tobytes()


def write_idx(folder: Path, *, name: str = "{}-{}-idx{}-ubyte", zipped: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(3)
    for word, count in (("train", 40), ("t10k", 10)):
        arrays = {
            "images": draw.integers(0, 256, (count, 9, 8), dtype=np.uint8),
            "labels": np.arange(count, dtype=np.uint8) % 4,
        }
        for kind, array in arrays.items():
            path = folder / name.format(word, kind, array.ndim)
            data = idx_bytes(array)
            path.with_name(path.name + ".gz" * zipped).write_bytes(
                gzip.compress(data) if zipped else data
            )
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "name", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "emnist-{}-{}-idx{}-ubyte"]
)
def test_idx(zipped: bool, name: str, tmp_path: Path) -> None:
    if name.startswith("emnist"):
        name = name.replace("{}-{}", "letters-{}-{}", 1)
    source = open_dataset(write_idx(tmp_path / "m", name=name, zipped=zipped))
    assert source.classes == ("0", "1", "2", "3")
    assert source.shape == (1, 9, 8)
    assert {part: len(found) for part, found in source.parts.items()} == {"train": 40, "test": 10}
    first = source.parts["train"][5]
    expected = np.random.default_rng(3).integers(0, 256, (40, 9, 8), dtype=np.uint8)[5]
    assert np.array_equal(first.image, expected)
    assert first.label == 1
    parts = split(source, validation=0.2, test=0.2, seed=0)
    assert {part: len(found) for part, found in parts.items()} == {
        "train": 32,
        "validation": 8,
        "test": 10,
    }


def test_idx_class_names(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "m")
    write(folder / "classes.txt", "shirt\nshoe\nbag\ncoat\n")
    assert open_dataset(folder).classes == ("shirt", "shoe", "bag", "coat")
    write(folder / "classes.txt", "shirt\nshoe\n")
    with pytest.raises(InputError, match=r"the label 3, and classes\.txt has 2 names"):
        open_dataset(folder)


def test_idx_files_that_are_refused(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "m")
    images, labels = (folder / f"train-{k}-ubyte" for k in ("images-idx3", "labels-idx1"))
    whole, numbers = images.read_bytes(), labels.read_bytes()
    for content, message in (
        (whole[:-1], "has 2879 bytes for 40x9x8 values"),
        (whole[:6], "is not an IDX file"),
        (b"\0\0\x0d\x03" + whole[4:], "is not an IDX file"),
        (idx_bytes(np.zeros((39, 9, 8), np.uint8)), "39 images and .* 40 labels"),
    ):
        images.write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_dataset(folder)
    images.unlink()
    images.with_name(images.name + ".gz").write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(folder)
    labels.write_bytes(numbers)


def test_fashion_mnist_has_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by the digest of its labels; the images do not matter, nor do names given by hand."""
    folder = write_idx(tmp_path / "m")
    digest = hashlib.sha256((np.arange(40, dtype=np.uint8) % 4).tobytes()).hexdigest()
    monkeypatch.setitem(idx._PUBLISHED, digest, ("shirt", "shoe", "bag", "coat"))
    assert open_dataset(folder).classes == ("shirt", "shoe", "bag", "coat")
    write(folder / "classes.txt", "a\nb\nc\nd\n")
    assert open_dataset(folder).classes == ("a", "b", "c", "d")
    assert all(len(names) == 10 for key, names in idx._PUBLISHED.items() if key != digest)
