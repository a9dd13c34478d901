"""Folders of class folders, digits, and how they are split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import PARTS, SplitRecord, load_record, split, stratified
from resnetkit.errors import InputError


def put(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return root


def test_flat_folder(tmp_path: Path) -> None:
    put(tmp_path, "cat/b.JPG", "cat/deep/a.png", "bird/c.webp", ".git/d.png", "cat/.hidden.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    source = open_dataset(tmp_path)
    assert source.classes == ("bird", "cat")
    assert [(e.name, e.label) for e in source.examples] == [
        ("bird/c.webp", 0),
        ("cat/b.JPG", 1),
        ("cat/deep/a.png", 1),
    ]


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_divided_folder(validation: str, tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "train/b/1.png", f"{validation}/b/2.png", "test/a/3.png")
    source = open_dataset(tmp_path)
    assert source.classes == ("a", "b")
    names = {part: [e.name for e in found] for part, found in source.parts.items()}
    assert names == {
        "train": ["train/a/1.png", "train/b/1.png"],
        "validation": [f"{validation}/b/2.png"],
        "test": ["test/a/3.png"],
    }
    drawn = split(source, validation=0.5, test=0.5, seed=0) if validation == "val" else None
    assert drawn is None or {part: [e.name for e in drawn[part]] for part in PARTS} == names


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "plane/2.png")
    assert open_dataset(tmp_path).classes == ("plane", "train")


def test_validation_is_drawn_from_train_where_there_is_none(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{c}/{n}.png" for c in "ab" for n in range(4)), "test/a/9.png")
    parts = split(open_dataset(tmp_path), validation=0.25, test=0.4, seed=1)
    assert {part: len(found) for part, found in parts.items()} == {
        "train": 6,
        "validation": 2,
        "test": 1,
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no class folders"),
        (["loose.png"], "no class folders"),
        (["only/1.png"], "one class folder"),
        (["a/1.png", "b/1.txt"], "b has none"),
        (["train/a/1.png", "train/b/1.png", "val/c/1.png"], "class folder.s. c"),
        (["train/a/1.png", "val/a/1.png"], "one class folder"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "validation/a/1.png"], "both val and"),
    ],
)
def test_folders_that_cannot_be_used(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")


def test_digits_are_always_split_alike() -> None:
    source = open_dataset("digits")
    assert {part: len(found) for part, found in source.parts.items()} == {
        "train": 1169,
        "validation": 269,
        "test": 359,
    }
    again = split(source, validation=0.15, test=0.2, seed=77)
    for part in PARTS:
        assert [e.name for e in again[part]] == [e.name for e in source.parts[part]]
    assert min(Counter(e.label for e in source.parts["test"]).values()) >= 34
    image = source.examples[0].image
    assert image.shape == (8, 8)
    assert max(e.image.max() for e in source.examples) == 255


labels = st.lists(st.integers(3, 40), min_size=1, max_size=5).flatmap(
    lambda counts: st.permutations([label for label, n in enumerate(counts) for _ in range(n)])
)


@given(labels, st.floats(0.01, 0.49), st.floats(0.01, 0.49), st.integers(0, 2**31))
def test_split_is_complete_and_stratified(
    drawn: list[int], validation: float, test: float, seed: int
) -> None:
    places = stratified(drawn, validation=validation, test=test, seed=seed)
    assert places == stratified(drawn, validation=validation, test=test, seed=seed)
    assert len(places) == len(drawn)
    for label, count in Counter(drawn).items():
        parts = Counter(part for part, of in zip(places, drawn, strict=True) if of == label)
        assert set(parts) == set(PARTS)
        assert sum(parts.values()) == count
        for part, share in (("validation", validation), ("test", test)):
            assert abs(parts[part] - share * count) <= 1.5


def test_seed_changes_the_split() -> None:
    drawn = [0, 1] * 30
    one, other = (stratified(drawn, validation=0.2, test=0.2, seed=seed) for seed in (0, 1))
    assert one != other


@pytest.mark.parametrize(("validation", "test"), [(1.0, 0.0), (0.6, 0.4), (-0.1, 0.1)])
def test_shares_that_leave_nothing(validation: float, test: float) -> None:
    with pytest.raises(InputError, match="shares"):
        stratified([0] * 9, validation=validation, test=test, seed=0)


def test_too_few_images_of_a_class(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png")
    source = open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"class b .* 2 usable"):
        split(source, validation=0.2, test=0.2, seed=0)
    assert len(split(source, validation=0.2, test=0, seed=0)["test"]) == 0


def test_record_knows_images_by_content(tmp_path: Path) -> None:
    put(tmp_path / "data", *(f"{c}/{n}.png" for c in "ab" for n in range(3)))
    examples = open_dataset(tmp_path / "data").examples
    digests = {e.name: e.digest() for e in examples}
    parts = {"train": examples[:3], "validation": examples[3:4], "test": examples[4:]}
    record = SplitRecord(
        data="data",
        classes=("a", "b"),
        parts={p: {e.name: digests[e.name] for e in found} for p, found in parts.items()},
    )
    record.save(tmp_path)
    assert load_record(tmp_path) == record
    assert load_record(tmp_path / "data") is None
    assert record.part_of(examples, "test") == examples[4:]
    moved = tmp_path / "data" / "b" / "copy.png"
    moved.write_bytes((tmp_path / "data" / examples[0].name).read_bytes())
    assert record.trained_on(open_dataset(tmp_path / "data").examples) == [
        *(e.name for e in examples[:3]),
        "b/copy.png",
    ]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text('{"data": "x"')
    with pytest.raises(InputError, match="cannot be parsed"):
        load_record(tmp_path)
