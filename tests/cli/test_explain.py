"""explain, catalog and compare as a person calls them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from resnetkit.architecture import registry
from resnetkit.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_explain_prints_the_table(capsys) -> None:
    code, out, err = run(capsys, "explain", "resnet50_deep", "--input", "473", "--level", "stage")
    assert (code, err) == (0, "")
    assert out.startswith("resnet50_deep at 3x473x473: 25.68 M parameters, 24.77 GMACs")
    for wanted in ("128x119x119", "256x119x119", "512x60x60", "1024x30x30", "2048x15x15"):
        assert wanted in out
    assert "the head cannot process 2048x9x9" in out
    assert "1 MAC = one multiply-add" in out


@pytest.mark.parametrize("format_", ["table", "tree", "markdown", "csv", "json", "svg", "html"])
def test_every_format_prints_and_writes_the_same(capsys, tmp_path: Path, format_: str) -> None:
    words = ("explain", "resnet18", "--format", format_, "--formulas", "--level", "layer")
    code, printed, _ = run(capsys, *words)
    assert code == 0
    target = tmp_path / "page"
    assert run(capsys, *words, "--out", str(target)) == (0, "", "")
    assert target.read_text() == printed
    assert list(tmp_path.iterdir()) == [target]
    if format_ == "json":
        assert json.loads(printed)["name"] == "resnet18"
    if format_ == "svg":
        assert ElementTree.fromstring(printed).tag.endswith("svg")


@pytest.mark.parametrize(
    ("ending", "format_"),
    [("txt", "table"), ("md", "markdown"), ("csv", "csv"), ("json", "json"), ("SVG", "svg"),
     ("html", "html")],
)  # fmt: skip
def test_the_ending_is_the_format(capsys, tmp_path: Path, ending: str, format_: str) -> None:
    target = tmp_path / f"page.{ending}"
    assert run(capsys, "explain", "resnet20", "--out", str(target)) == (0, "", "")
    assert target.read_text() == run(capsys, "explain", "resnet20", "--format", format_)[1]
    words = ("explain", "resnet20", "--format", "tree", "--out", str(target))
    code, _, err = run(capsys, *words)
    assert code == (0 if ending == "txt" else 2)
    assert err == "" if ending == "txt" else "give a file that ends in .txt, or" in err


def test_an_input_may_be_a_height_and_width(capsys) -> None:
    for given in ("96x160", "3x96x160"):
        out = run(capsys, "explain", "resnet20", "--input", given)[1]
        assert out.startswith("resnet20 at 3x96x160")


def test_options_are_flags(capsys) -> None:
    words = "explain resnet50 --output-stride 8 --num-classes none --squeeze-excitation 16".split()
    words += "--norm-epsilon 1e-3 --conv-bias --depths 1,1,1,1 --format json".split()
    code, out, _ = run(capsys, *words)
    assert code == 0
    options = json.loads(out)["options"]
    assert options["output_stride"] == 8
    assert options["num_classes"] is None
    assert options["squeeze_excitation"] == 16
    assert options["norm_epsilon"] == 1e-3
    assert options["conv_bias"] is True
    assert options["depths"] == [1, 1, 1, 1]


def test_catalog_lists_everything(capsys) -> None:
    code, out, _ = run(capsys, "catalog", "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert [row["name"] for row in rows] == list(registry.names())
    assert set(rows[0]) == {"name", "parameters", "macs", "input", "about", "source"}
    code, out, _ = run(capsys, "catalog")
    lines = out.splitlines()
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in registry.names())
    assert f"{len(rows)} networks" in lines[-1]


def test_compare(capsys) -> None:
    code, out, _ = run(capsys, "compare", "resnet50", "resnet50_v1")
    assert code == 0
    assert "12 of 175 layers differ" in out
    code, out, _ = run(capsys, "compare", "resnet50", "resnet50_v1", "--format", "json")
    assert json.loads(out)["options"] == {"stride_on": ["3x3", "1x1"]}
    code, out, _ = run(capsys, "compare", "resnet50", "resnet50")
    assert "\nidentical: no option and none of the 175 layers differs\n" in out


def test_compare_as_a_page_and_in_a_file(capsys, tmp_path: Path) -> None:
    words = ("compare", "resnet50", "resnet50_v1")
    _, printed, _ = run(capsys, *words)
    assert run(capsys, *words, "--out", str(tmp_path / "c.txt")) == (0, "", "")
    assert (tmp_path / "c.txt").read_text() == printed
    assert run(capsys, *words, "--out", str(tmp_path / "c.json")) == (0, "", "")
    assert len(json.loads((tmp_path / "c.json").read_text())["layers"]) == 12
    assert run(capsys, *words, "--out", str(tmp_path / "c.html")) == (0, "", "")
    page = (tmp_path / "c.html").read_text()
    assert page == run(capsys, *words, "--format", "html")[1]
    assert "12 of 175 layers differ" in page
    assert page.count("<tr") == 10 + 2 + 13
    assert page.count('class="differs"') == 4, "three numbers and an option"
    assert re.findall("(?:src|href)=.*", page) == ['href="data:,">'], (
        "only its icon, which is empty"
    )
    assert not re.search("url\\(|@import", page)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("explain resnet5O", "did you mean resnet"),
        ("explain resnet50 --input 3x2x2x2", "not a size; give e.g. 473, 480x640 (height, width)"),
        ("compare resnet18 resnet34 --out c.svg", "c.svg has no known ending; give .txt, .json, "),
        (
            "compare resnet18 resnet34 --out c.txt --format json",
            "and --format is json; give a file that ends in .json, or leave --format out",
        ),
        ("explain resnet50_notes --input 2", "too small for resnet50_notes: at conv2"),
        ("explain resnet50 --output-stride 5", "it must be one of 32, 16, 8"),
        ("explain resnet50 --depths 3,x", "not a list of whole numbers"),
        ("explain resnet50 --num-classes few", "not a whole number or none"),
        ("explain resnet50 --format bmp", "invalid choice: 'bmp'"),
        ("explain resnet50 --format pdf", "pdf is binary and cannot be printed; give --out, a fil"),
        ("explain resnet50 --out net.jpg", "net.jpg has no known ending; give .txt, .md, .csv, "),
        ("explain resnet50 --out net", "net has no known ending; give .txt"),
        ("explain resnet50 --out net.png --format svg", "net.png ends in .png, and --format is sv"),
        ("explain resnet50 --format html --out /nonexistent/page.html", "cannot write"),
        ("explain", "required: NETWORK"),
        ("explain resnet50 --leve block", "unrecognized arguments"),
        ("compare resnet50", "required: SECOND"),
        ("explane resnet50", "did you mean explain?"),
    ],
)
def test_bad_input_is_one_line(capsys, words: str, reason: str) -> None:
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert err.startswith("resnetkit: ")
    assert err.count("\n") == 1
    assert reason in err


def test_overview_version_and_help(capsys) -> None:
    for words in ((), ("--help",), ("-h",)):
        code, out, _ = run(capsys, *words)
        assert code == 0
        assert all(name in out for name in ("explain", "train", "predict"))
    assert run(capsys, "--version")[1].startswith("resnetkit 0.")
    with pytest.raises(SystemExit) as done:
        main(["explain", "--help"])
    assert done.value.code == 0
    assert "--output-stride" in capsys.readouterr().out


def test_python_m_and_a_reader_that_leaves() -> None:
    command = [sys.executable, "-m", "resnetkit", "catalog"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_terminal_gets_colour_and_a_pipe_none() -> None:
    command = [sys.executable, "-m", "resnetkit", "explain", "resnet18", "--level", "stage"]
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "\x1b[" not in piped
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=child, env=environment) as process:
        os.close(child)
        seen = b""
        while chunk := _read(parent):
            seen += chunk
        assert process.wait() == 0
    os.close(parent)
    assert b"\x1b[" in seen
    assert b"total" in seen


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports the closed terminal as an error
        return b""
