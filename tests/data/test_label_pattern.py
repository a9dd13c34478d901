"""Images in a flat folder, whose names tell their classes."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

import resnetkit
from resnetkit.cli.main import main
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.errors import InputError


def write(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (20, 20), (7 * number % 256, 90, 30)).save(path)


@pytest.mark.parametrize(
    ("pattern", "names", "classes"),
    [
        ("{label}_*", ["one_1.png", "two_1.png", "two_22.png"], {"one": 1, "two": 2}),
        ("{label}_*", ["great_dane_1.png", "pug_2.jpg"], {"great_dane": 1, "pug": 1}),
        ("{label}_*.jpg", ["a_1.jpg", "b_1.jpg", "b_2.png"], {"a": 1, "b": 1}),
        ("{label}.*", ["cat.0.jpg", "dog.1.jpg", "dog.10.jpg"], {"cat": 1, "dog": 2}),
        ("*-{label}", ["1-x.png", "2-y.png"], {"x": 1, "y": 1}),
        ("{label}?", ["a1.png", "b2.png"], {"a": 1, "b": 1}),
        ("{label}/{label}_*", ["a/a_1.png", "b/b_2.png", "b/a_3.png"], {"a": 1, "b": 1}),
        ("*/{label} (*)", ["x/Äpfel (1).png", "y/猫 (2).png"], {"Äpfel": 1, "猫": 1}),
    ],
)
def test_the_label_is_in_the_name(
    pattern: str, names: list[str], classes: dict[str, int], tmp_path: Path
) -> None:
    write(tmp_path, *names)
    source = open_dataset(f"{tmp_path}/{pattern}")
    assert source.classes == tuple(sorted(classes))
    found = [source.classes[example.label] for example in source.flat]
    assert {name: found.count(name) for name in source.classes} == classes
    left = len(names) - len(found)
    assert any(f"{left} image(s) do not match" in note for note in source.notes) == (left > 0)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a_1.png", "b_1.png", "odd.png", ".hidden_1.png")
    (tmp_path / "film_1.mp4").write_bytes(b"x")
    notes = " ".join(open_dataset(f"{tmp_path}/{{label}}_*").notes)
    assert "1 image(s) do not match {label}_* and are skipped: odd.png" in notes
    assert "1 .mp4" in notes


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{label}_*", "finds the class a alone"),
        ("{label}-*", "finds no class .* a_1.png does not match"),
        ("nowhere/{label}_*", "is not a folder"),
        ("{label}" + "_*" * 8, "more than 8 wildcards"),
    ],
)
def test_patterns_that_find_nothing(data: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path, "a_1.png", "a_2.png")
    with pytest.raises(InputError, match=reason):
        open_dataset(f"{tmp_path}/{data}")


def test_training_resuming_and_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "flat", *(f"{c}_{n}.png" for c in ("red", "blue") for n in range(6)))
    assert main(["train", "flat", "--out", "x"]) == 2
    assert "flat/{label}_*" in capsys.readouterr().err
    words = ["train", "flat", "--label-pattern", "{label}_*", "--epochs", "1", "--size", "32"]
    assert main([*words, "--depths", "1,1", "--widths", "8,8"]) == 0
    best = tmp_path / "runs" / "flat-resnet18" / "best.safetensors"
    assert resnetkit.load(best).classes == ("blue", "red")
    assert main(["train", "--resume", str(best.parent)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(best), "flat/{label}_*", "--format", "json"]) == 0
    assert main(["evaluate", str(best), "flat", "--label-pattern", "{label}_*"]) == 0
    assert main(["evaluate", str(best), "flat", "--label-pattern", "x_*"]) == 2
    assert "--label-pattern x_* has no {label}" in capsys.readouterr().err
