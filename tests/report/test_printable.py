"""Names from files are shown as characters, whatever is in them, and stay exact as data."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch

import resnetkit
from resnetkit.bundle.bundle import Bundle
from resnetkit.cli.main import main
from resnetkit.errors import printable
from resnetkit.preprocess import Preprocess

#: An escape that clears a terminal, a line break, a bidirectional mark, a formula, and a tag.
HOSTILE = ("\x1b[2J\x1b]0;title\x07", "a\nb\rc", "\u202egnp.exe", "=1+1", "<b>&amp;")


def bundle(classes: tuple[str, ...], folder: Path) -> Path:
    torch.manual_seed(0)
    module = resnetkit.build(
        "resnet20", depths=(1,), widths=(8,), stem_widths=(8,), num_classes=len(classes)
    )
    path = folder / "net.safetensors"
    Bundle.from_module(module, preprocess=Preprocess(size=16), classes=classes).save(path)
    return path


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (16, 16), (200, 10, 10)).save(path)
    return path


def is_plain(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def test_the_terminal_gets_characters_and_json_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image = bundle(HOSTILE, tmp_path), picture(tmp_path / "\x1b[31mred\n.png")
    assert main(["predict", str(path), str(image)]) == 0
    table = capsys.readouterr()
    assert is_plain(table.out)
    assert r"\x1b[2J" in table.out
    assert main(["predict", str(path), str(image), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {guess["label"] for guess in found["predictions"]} == set(HOSTILE)
    assert main(["predict", str(path), str(image), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["class"] for row in rows} == {*HOSTILE[:3], "'=1+1", HOSTILE[4]}
    for words in (
        ["predict", str(path), "no\x1b[2J.png"],
        ["predict", "\u202ex", "y"],
        ["\x1b[2J"],
    ):
        assert main(words) == 2
        assert is_plain(capsys.readouterr().err)


def test_measuring_shows_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = ("\x1b[2Jred", "\u202ered", "$x_1$ 猫")
    path = bundle(classes, tmp_path)
    for name in classes:
        picture(tmp_path / "data" / name / "1.png")
    out = tmp_path / "plots"
    assert main(["evaluate", str(path), str(tmp_path / "data"), "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert is_plain(shown.out)
    assert is_plain(shown.err)
    assert (out / "confusion.png").exists()
    page = tmp_path / "page.html"
    words = ["evaluate", str(path), str(tmp_path / "data"), "--format", "html", "--out", str(page)]
    assert main(words) == 0
    assert "\x1b" not in page.read_text()
    assert "\u202e" not in page.read_text()


@pytest.mark.skipif(sys.platform == "darwin", reason="APFS has no such names")
def test_class_folders_whose_names_are_no_utf_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"caf\xe9", b"th\xe9"):
        for number in range(6):
            picture(
                Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/" + name)) / f"{number}.png"
            )
    run = tmp_path / "run"
    words = ["train", str(tmp_path / "data"), "--out", str(run), "--epochs", "1", "--size", "32",
             "--depths", "1", "--widths", "8"]  # fmt: skip
    assert main(words) == 0
    assert is_plain(capsys.readouterr().out)
    assert resnetkit.load(run / "best.safetensors").classes == ("caf\udce9", "th\udce9")
    assert (run / "report.html").exists()
    assert main(["evaluate", str(run / "best.safetensors"), str(tmp_path / "data")]) == 0


def test_a_terminal_of_another_coding(tmp_path: Path) -> None:
    path, image = bundle(("猫", "süß"), tmp_path), picture(tmp_path / "a.png")
    words = [sys.executable, "-m", "resnetkit", "predict", str(path), str(image)]
    done = subprocess.run(
        words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u732b" in done.stdout


def test_printable() -> None:
    assert printable("plain 猫 ü") == "plain 猫 ü"
    assert printable("a\x1b\n\u202e\udce9") == r"a\x1b\n\u202e\udce9"
