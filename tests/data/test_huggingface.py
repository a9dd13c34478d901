"""Folders that Hugging Face's ``datasets`` has written: read as it reads them, and refused."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from datasets import disable_progress_bars as quiet
from pyarrow import parquet

from resnetkit.cli.main import main
from resnetkit.data.datasets.dataset import Dataset as LabelledImages
from resnetkit.data.datasets.huggingface import images_of
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.errors import InputError

quiet()
NAMES = ["cat", "dog", "owl"]
FEATURES = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
LISTED = b'{"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}'


def pictures(count: int, seed: int = 0) -> list[PIL.Image.Image]:
    """One colour for each class, so that a small network learns them, and noise."""
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, 60, (count, 20, 24, 3))
    colours = 180 * np.eye(3, dtype=int)[np.arange(count) % 3]
    return [PIL.Image.fromarray(p) for p in (noise + colours[:, None, None]).astype(np.uint8)]


def made(count: int, seed: int = 0, features: Features = FEATURES, **columns: list[Any]) -> Dataset:
    image, *rest = features
    values = columns or {rest[0]: [number % 3 for number in range(count)]}
    return Dataset.from_dict({image: pictures(count, seed), **values}, features=features)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def check_same(source: LabelledImages, expected: dict[str, Dataset]) -> None:
    parts = {part: list(found) for part, found in source.parts.items()}
    if source.flat:
        parts["flat"] = list(source.flat)
    assert set(parts) == set(expected)
    for part, theirs in expected.items():
        assert [e.label for e in parts[part]] == theirs["label"]
        for ours, row in zip(parts[part], theirs, strict=True):
            assert isinstance(ours, Packed), "its place in the file, not its bytes"
            with PIL.Image.open(io.BytesIO(ours.image)) as picture:
                assert np.array_equal(picture, row["image"])


def test_a_dataset_on_the_disk(tmp_path: Path) -> None:
    whole = made(10)
    whole.save_to_disk(tmp_path / "one")
    whole.save_to_disk(tmp_path / "three", num_shards=3)
    shuffled = whole.shuffle(seed=1).select(range(6))
    shuffled.save_to_disk(tmp_path / "some")
    for name, theirs in (("one", whole), ("three", whole), ("some", shuffled)):
        source = open_dataset(tmp_path / name)
        assert source.classes == ("cat", "dog", "owl")
        check_same(source, {"flat": theirs})
    assert source.flat[0].name == "data-00000-of-00001.arrow/000000"


def test_splits(tmp_path: Path) -> None:
    splits = {"train": made(9), "validation": made(3, 1), "test": made(6, 2)}
    DatasetDict(splits).save_to_disk(tmp_path / "d")
    check_same(open_dataset(tmp_path / "d"), splits)
    unlabelled = made(4, 2, image=pictures(4), label=[-1] * 4)
    DatasetDict({"train": splits["train"], "test": unlabelled}).save_to_disk(tmp_path / "e")
    check_same(open_dataset(tmp_path / "e"), {"train": splits["train"]})
    assert len(list(images_of(tmp_path / "e"))) == 13, "what has no label can be predicted"


@pytest.mark.parametrize("inside", ["", "data/"])
def test_parquet(inside: str, tmp_path: Path, cache: Path) -> None:
    place = tmp_path / "p" / inside
    place.mkdir(parents=True)
    splits = {"train": made(210), "test": made(6, 1)}
    for name, part in splits.items():
        part.to_parquet(place / f"{name}-00000-of-00001.parquet", batch_size=100)
    check_same(open_dataset(tmp_path / "p"), splits)
    written = {path: path.stat().st_mtime_ns for path in (cache / "parquet").iterdir()}
    check_same(open_dataset(tmp_path / "p"), splits)
    again = {path: path.stat().st_mtime_ns for path in (cache / "parquet").iterdir()}
    assert len(written) == 2
    assert again == written, "unpacked once"
    splits["test"] = made(3, 5)
    splits["test"].to_parquet(place / "test-00000-of-00001.parquet")
    check_same(open_dataset(tmp_path / "p"), splits)
    flat = open_dataset(place / "train-00000-of-00001.parquet")
    check_same(flat, {"flat": splits["train"]})


def test_labels_without_names(tmp_path: Path) -> None:
    numbered = Features({"img": Image(), "target": Value("int32")})
    made(6, features=numbered).save_to_disk(tmp_path / "n")
    assert open_dataset(tmp_path / "n").classes == ("0", "1", "2")
    (tmp_path / "n" / "classes.txt").write_text("cat\ndog\nowl\n")
    assert open_dataset(tmp_path / "n").classes == ("cat", "dog", "owl")
    words = Features({"image": Image(), "label": Value("string")})
    made(4, features=words, label=["b", "a", "b", "c"]).save_to_disk(tmp_path / "w")
    source = open_dataset(tmp_path / "w")
    assert source.classes == ("a", "b", "c")
    assert [example.label for example in source.flat] == [1, 0, 1, 2]


def test_images_that_are_files(tmp_path: Path) -> None:
    """A row may name a file instead of having its bytes."""
    folder = tmp_path / "f"
    folder.mkdir()
    pictures(1)[0].save(folder / "a.png")
    rows = [{"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": "/far/b.png"}]
    parquet.write_table(pyarrow.table({"image": rows, "label": [0, 1]}), folder / "t.parquet")
    first, second = open_dataset(folder).flat
    assert first.image == folder / "a.png"
    assert (second.name, second.image) == ("t.parquet/000001/b.png", b"x")


def test_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run, packed = (str(tmp_path / name) for name in ("data", "run", "packed"))
    DatasetDict({"train": made(48), "test": made(12, 1)}).save_to_disk(data)
    choices = "--model resnet20 --depths 1 --widths 8 --stem-widths 8 --size 16 --batch-size 8"
    assert main(["train", data, *choices.split(), "--epochs", "2", "--out", run]) == 0
    assert (
        main(["evaluate", f"{run}/best.safetensors", data, "--engine", "torch", "--format", "json"])
        == 0
    )
    out = capsys.readouterr().out
    figures = json.loads(out[out.index("{") :])
    assert figures["images"] == 12
    assert figures["accuracy"] == 1
    assert (
        main(
            [
                "predict",
                f"{run}/best.safetensors",
                data,
                *"--engine torch --topk 1 --format csv".split(),
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 61
    assert f"{data}/train/data-00000-of-00001.arrow/000001" in lines[2]
    assert "dog" in lines[2]
    assert main(["shards", data, packed]) == 0
    shards = open_dataset(packed)
    assert {part: len(found) for part, found in shards.parts.items()} == {"train": 48, "test": 12}
    assert shards.classes == ("cat", "dog", "owl")


def broken_end(folder: Path) -> None:
    file = folder / "train" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:-100])


def broken_middle(folder: Path) -> None:
    file = folder / "train" / "data-00000-of-00001.arrow"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + data[-8:])


def broken_start(folder: Path) -> None:
    file = folder / "train" / "data-00000-of-00001.arrow"
    file.write_bytes(b"nothing" + file.read_bytes()[7:])


def empty_split(folder: Path) -> None:
    made(9).select([]).save_to_disk(folder / "validation")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')


def climbing(folder: Path) -> None:
    (folder / "dataset_dict.json").write_text('{"splits": ["../train"]}')


def other_column(folder: Path) -> None:
    made(9).rename_column("label", "kind").cast_column("kind", Value("float32")).save_to_disk(
        folder / "train"
    )


def other_image(folder: Path) -> None:
    made(9).remove_columns("image").save_to_disk(folder / "train")


def with_label(number: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "dataset_dict.json").unlink()
        file = folder / "all.parquet"
        made(3, features=Features({"image": Image(), "label": Value("int64")}),
             label=[0, 1, number]).to_parquet(file)  # fmt: skip
        table = parquet.read_table(file)
        parquet.write_table(table.replace_schema_metadata({b"huggingface": LISTED}), file)

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_end, "data-00000-of-00001.arrow is truncated; get it again"),
        (broken_middle, "cannot be read"),
        (broken_start, "cannot be read"),
        (lambda f: (f / "train" / "data-00000-of-00001.arrow").unlink(), "train lacks data-00000"),
        (lambda f: (f / "train" / "state.json").unlink(), "train has no state.json"),
        (lambda f: (f / "train" / "state.json").write_text("{"), "cannot be parsed"),
        (lambda f: (f / "dataset_dict.json").write_text("{}"), "names no splits"),
        (climbing, "names no splits"),
        (
            lambda f: (f / "dataset_dict.json").write_text('{"splits": ["extra"]}'),
            "has the split extra; allowed are train, validation and test",
        ),
        (empty_split, "has no rows in its validation split"),
        (other_column, "has no column of labels; its columns are image, kind"),
        (other_image, "has no image column; its columns are label"),
        (with_label(2), "has the label 2, which is not in the class list; it has 2 from 0: a, b"),
        (with_label(-1), "000002 of .* has the label -1, which is not in the class list"),
    ],
)
def test_broken_folders(
    damage: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    DatasetDict({"train": made(9)}).save_to_disk(data)
    damage(data)
    assert main(["train", str(data), "--out", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    with pytest.raises(InputError, match=message):
        open_dataset(data)
    assert not run.exists()


def test_broken_parquet(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "p" / "train-0.parquet"
    file.parent.mkdir()
    made(300).to_parquet(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-50])
    with pytest.raises(InputError, match=r"train-0\.parquet cannot be read"):
        open_dataset(file.parent)
    file.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(InputError, match=r"train-0\.parquet cannot be read"):
        open_dataset(file.parent)
    assert not list((cache / "parquet").iterdir()), "nothing half unpacked"


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(3).save_to_disk(tmp_path / "d")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"requires pyarrow, .* install .resnetkit\[parquet\]"):
        open_dataset(tmp_path / "d")
