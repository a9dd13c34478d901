"""Folders of pictures as people have them, and what is said of what is passed over."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import PIL.Image
import pytest

from photographs import write_classes
from resnetkit.cli.main import main
from resnetkit.data.datasets.dataset import PART_OF, Dataset
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import split
from resnetkit.errors import InputError

THREE = ("one", "two", "zero")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (8, 8), "red").save(path)


def classes(root: Path, names: tuple[str, ...] = THREE, count: int = 4) -> Path:
    for name in names:
        for number in range(count):
            picture(root / name / f"{number}.png")
    return root


def counts(source: Dataset) -> dict[str, int]:
    return {part: len(found) for part, found in source.parts.items()}


PARTS = [
    ("Train", "Test"), ("train", "valid", "test"), ("training", "validation"), ("TRAIN", "DEV"),
    ("train", "eval"), ("Training", "Testing"), ("train", "val"), ("train",),
]  # fmt: skip


@pytest.mark.parametrize("names", PARTS)
def test_parts_by_any_name(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        classes(tmp_path / name)
    source = open_dataset(tmp_path)
    assert source.classes == THREE
    assert counts(source) == {PART_OF[name.lower()]: 12 for name in names}
    parts = split(source, validation=0.25, test=0.25, seed=0)
    has_validation = any(PART_OF[name.lower()] == "validation" for name in names)
    assert len(parts["train"]) == (12 if has_validation else 9)
    assert len(parts["validation"]) == (12 if has_validation else 3)


@pytest.mark.parametrize("other", ["extra", "annotations", "images"])
def test_a_folder_beside_parts_is_a_question(other: str, tmp_path: Path) -> None:
    for name in ("train", "valid", other):
        classes(tmp_path / name)
    with pytest.raises(InputError, match=f"two ways.*{other}") as raised:
        open_dataset(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("inner", [("one", "two"), None])
def test_folders_of_folders_are_a_question(inner: tuple[str, ...] | None, tmp_path: Path) -> None:
    classes(tmp_path / "a", inner or ("cat", "dog"))
    classes(tmp_path / "b", inner or ("car", "bus"))
    with pytest.raises(InputError, match="two ways") as raised:
        open_dataset(tmp_path)
    assert str(tmp_path / "a") in str(raised.value)


def test_images_may_lie_deeper_where_it_is_plain(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        picture(tmp_path / name / "images" / "1.png")
    assert open_dataset(tmp_path).classes == ("blue", "red")
    picture(tmp_path / "green" / "1.png")
    picture(tmp_path / "green" / "2024" / "1.png")
    assert open_dataset(tmp_path).classes == ("blue", "green", "red")


@pytest.mark.parametrize("around", ["my-pictures", "data/images", "Flowers"])
def test_an_unpacked_archive_is_gone_through(around: str, tmp_path: Path) -> None:
    classes(tmp_path / around)
    picture(tmp_path / "__MACOSX" / around / "zero" / "1.png")
    source = open_dataset(tmp_path)
    assert (source.classes, len(source.flat)) == (THREE, 12)
    assert any(str(tmp_path / around) in note for note in source.notes)
    assert source.flat[0].name == f"{around}/one/0.png"


def test_parts_in_an_unpacked_archive(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        classes(tmp_path / "archive" / name)
    assert counts(open_dataset(tmp_path)) == {"train": 12, "validation": 12}


def test_litter_is_no_class_and_no_picture(tmp_path: Path) -> None:
    classes(tmp_path)
    for name in (".DS_Store", "zero/.DS_Store", "one/Thumbs.db", "two/desktop.ini", "zero/._1.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for folder in (".ipynb_checkpoints", "__MACOSX/zero", "@eaDir", "$RECYCLE.BIN", "one/@eaDir"):
        picture(tmp_path / folder / "1.png")
    source = open_dataset(tmp_path)
    assert (source.classes, len(source.flat), source.notes) == (THREE, 12, ())


def test_empty_class_folders_are_left_out_and_said(tmp_path: Path) -> None:
    (classes(tmp_path / "flat") / "nothing").mkdir()
    source = open_dataset(tmp_path / "flat")
    assert source.classes == THREE
    assert "nothing" in " ".join(source.notes)
    for part in ("train", "val"):
        classes(tmp_path / "parts" / part)
    for file in (tmp_path / "parts/val/one").iterdir():
        file.unlink()
    source = open_dataset(tmp_path / "parts")
    assert counts(source) == {"train": 12, "validation": 8}
    assert "one" in " ".join(source.notes)


def test_every_ending_that_is_read_counts_and_others_are_said(tmp_path: Path) -> None:
    classes(tmp_path)
    for name, kind in (("a.jfif", "JPEG"), ("b.JPE", "JPEG"), ("c.avif", "AVIF"), ("h.mpo", "MPO"),
                       ("d.jp2", "JPEG2000"), ("e.ppm", "PPM"), ("f.tga", "TGA"),
                       ("g.ico", "ICO")):  # fmt: skip
        PIL.Image.new("RGB", (16, 16)).save(tmp_path / "zero" / name, kind)
    (tmp_path / "one" / "notes.txt").write_text("no picture")
    (tmp_path / "one" / "movie.MP4").write_bytes(bytes(64))
    (tmp_path / "two" / "README").write_text("no picture")
    source = open_dataset(tmp_path)
    assert len(source.flat) == 20
    (note,) = source.notes
    assert "3 files" in note
    assert "1 .mp4" in note
    assert "1 .txt" in note
    assert "1 without a suffix" in note


def test_a_test_folder_without_classes_measures_nothing(tmp_path: Path) -> None:
    """As Kaggle gives it out."""
    classes(tmp_path / "train")
    picture(tmp_path / "test" / "1.png")
    source = open_dataset(tmp_path)
    assert counts(source) == {"train": 12}
    assert "predict" in " ".join(source.notes)


def test_parts_without_classes_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        picture(tmp_path / part / "1.png")
    with pytest.raises(InputError, match="no class folders in them"):
        open_dataset(tmp_path)


def test_names_that_look_alike_are_explained(tmp_path: Path) -> None:
    name = "Äpfel"
    classes(tmp_path / "train", (unicodedata.normalize("NFC", name), "b"))
    classes(tmp_path / "val", (unicodedata.normalize("NFD", name), "b"))
    with pytest.raises(InputError, match="NFC and NFD"):
        open_dataset(tmp_path)


def test_linked_class_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    classes(tmp_path / "real")
    root = classes(tmp_path / "data", ("one", "two"))
    (root / "zero").symlink_to(tmp_path / "real" / "zero")
    (root / "one" / "more").symlink_to(tmp_path / "real" / "one")
    (root / "one" / "round").symlink_to(root / "one")
    source = open_dataset(root)
    assert source.classes == THREE
    assert len(source.flat) == 16


@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_pictures_train_with_no_flag(count: int, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", count, classes=("brick", "coffee"))
    arguments = ["train", str(data), "--model", "resnet20", "--size", "16", "--epochs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0


def test_what_is_left_out_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_classes(tmp_path / "around" / "data", 4, classes=("brick", "coffee"))
    (data / "brick" / "movie.mp4").touch()
    (data / "nothing").mkdir()
    arguments = ["train", str(tmp_path / "around"), "--model", "resnet20", "--size", "16"]
    assert main([*arguments, "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    for words in ("class folders are those in", "1 .mp4", "nothing"):
        assert words in said
    bundle = str(tmp_path / "run" / "best.safetensors")
    for command in (["evaluate", bundle, str(data)], ["predict", bundle, str(data)]):
        assert main(command) == 0
        assert "1 .mp4" in capsys.readouterr().err
