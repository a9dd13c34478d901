"""Tables on a terminal stay within its width, and lose nothing unsaid."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import PIL.Image
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

import resnetkit
from resnetkit.architecture import text
from resnetkit.architecture.explanation import explain
from resnetkit.report.console.fitting import fitted, wrapped

WORDS = st.text("abc ,->12", max_size=40)


def on_terminal(columns: int, *words: str, folder: Path | None = None) -> str:
    """What a command prints on a terminal so wide, without colours."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    seen = b""
    command = [sys.executable, "-m", "resnetkit", *words]
    with subprocess.Popen(
        command, stdout=terminal, env={**environment, "TERM": "xterm"}, cwd=folder
    ) as process:
        os.close(terminal)
        while chunk := _read(controller):
            seen += chunk
        assert process.wait() == 0
    os.close(controller)
    shown = seen.decode().replace("\r\n", "\n")
    assert "\x1b[31m" not in shown, "nothing is wrong, so nothing is red"
    return re.sub(r"\x1b\[[\d;]*m", "", shown)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports the closed terminal as an error
        return b""


@given(
    st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), min_size=2, max_size=6),
    st.integers(24, 120),
)
def test_no_line_is_wider_and_what_is_left_out_is_named(
    rows: list[tuple[str, ...]], width: int
) -> None:
    rows = [("one", "two", "three", "four"), *rows]
    table = fitted(rows, {0, 1}, width, wraps={0, 1}, expendable=("four", "three"))
    assert all(len(line) <= width for row in table.rows for line in row)
    assert {*table.left_out} <= {"three", "four"}
    kept = [n for n, name in enumerate(rows[0]) if name not in table.left_out]
    for row, lines in zip(rows, table.rows, strict=True):
        found, wanted = ("".join(sorted("".join(words).split())) for words in (lines, row))
        letters = sorted("".join("".join(row[n].split()) for n in kept))
        assert sorted("".join("".join(lines).split())) == letters, (found, wanted)


def test_without_a_terminal_it_is_the_table_of_the_text() -> None:
    rows = [("name", "number"), ("a b c", "1")]
    assert [line for row in fitted(rows, {0}, None).rows for line in row] == text.aligned(rows, {0})
    assert wrapped("a b c", None) == ["a b c"]
    assert wrapped("aa bb cc dd", 9) == ["aa bb cc", "dd"]


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize(
    "words",
    [
        "explain resnet50",
        "explain resnet50 --level stage",
        "explain seresnet50 --level layer --formulas",
        "explain resnet50 --format tree --level layer",
        "compare resnet50 resnet50_v1",
        "catalog",
    ],
)
def test_commands_stay_within_the_terminal(columns: int, words: str) -> None:
    shown = on_terminal(columns, *words.split())
    assert max(map(len, shown.splitlines())) <= columns
    assert f"left out in {columns} columns: " in shown or words == "catalog"


def test_the_numbers_are_those_of_the_table() -> None:
    shown = on_terminal(80, "explain", "resnet18")
    assert "left out in 80 columns: field, stride" in shown
    for row in explain("resnet18").rows("block"):
        assert re.search(rf"{row.path} .* {row.parameters:,} +{row.macs:,}\n", shown), row.path
    narrow = on_terminal(60, "explain", "resnet18")
    assert "left out in 60 columns: stage, MACs, field, stride" in narrow
    assert re.search(r"\ntotal +1000  11,689,512\n", narrow)


def test_a_wide_terminal_shows_what_is_piped() -> None:
    words = ("explain", "resnet18", "--formulas")
    command = [sys.executable, "-m", "resnetkit", *words]
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert on_terminal(240, *words) == piped
    assert len(max(piped.splitlines(), key=len)) > 160


def test_identify_stays_within_the_terminal(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "net.pth")
    shown = on_terminal(80, "identify", "net.pth", folder=tmp_path)
    table = shown.partition("\nwarnings")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "left out in 80 columns: sources" in table
    wide = on_terminal(200, "identify", "net.pth", folder=tmp_path)
    assert "torchvision/models/resnet.py: torch's default" in wide


@pytest.mark.parametrize("format_", ["table", "tree", "markdown", "csv", "json", "svg", "html"])
def test_every_format_is_printed_where_only_ascii_is(format_: str) -> None:
    command = [sys.executable, "-m", "resnetkit", "explain", "resnet20", "--format", format_]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert not re.search(r"\\[xu][0-9a-f]{2}", done.stdout), "nothing is escaped"
    if format_ == "tree":
        assert "\n|- stage0 " in done.stdout
        assert "\n   `- fc " in done.stdout
    if format_ == "svg":
        assert "3&#215;32&#215;32" in done.stdout


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of twelve classes with long names, and an image of each."""
    folder = tmp_path_factory.mktemp("classifier")
    names = [f"Grevillea robusta var. {number}" for number in range(12)]
    module = resnetkit.build("resnet20", num_classes=12, depths=(1, 1, 1))
    bundle = resnetkit.Bundle.from_module(
        module, preprocess=resnetkit.Preprocess(size=32, resize_to=32), classes=names
    )
    bundle.save(folder / "b.safetensors")
    for number, name in enumerate(names):
        (folder / "pictures" / name).mkdir(parents=True)
        image = PIL.Image.new("RGB", (32, 32), (20 * number, 99, 255 - 20 * number))
        image.save(folder / "pictures" / name / "one.png")
    return folder


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (40, "the most frequent confusions"),
        (80, "columns the predicted ones, by their numbers"),
        (400, "confusion: rows are the true classes, columns the predicted ones\n"),
    ],
)
def test_evaluate_stays_within_the_terminal(columns: int, words: str, classifier: Path) -> None:
    shown = on_terminal(columns, "evaluate", "b.safetensors", "pictures", folder=classifier)
    assert max(map(len, shown.splitlines())) <= columns
    assert words in shown.replace("\n", " " if columns == 80 else "\n")
    assert ("left out in 40 columns: " in shown) is (columns == 40)
    if columns == 80:
        assert re.search(r"(?m)^12 Grevillea robusta var\. 11( +\d+){12}$", shown)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [50, 80])
def test_bench_stays_within_the_terminal(columns: int, classifier: Path) -> None:
    words = "bench b.safetensors --engines torch,openvino-bf16 --batch-sizes 1 --rounds 1"
    shown = on_terminal(columns, *words.split(), "--seconds", "0.01", folder=classifier)
    assert max(map(len, shown.splitlines())) <= columns
    assert ("left out in 50 columns: precision" in shown) is (columns == 50)
    assert "to torch: the rate relative to torch" in shown.replace("\n", " ")
