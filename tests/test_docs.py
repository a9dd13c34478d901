"""Every command and every piece of Python in README and docs is run, and prints what is printed.

A ``console`` block holds commands (``$ resnetkit ...``) and their output. A line ``...`` in the
output stands for any lines, ``...`` within a line for any text. A ``python`` block is run as it is.
The blocks of a page run in order in one temporary folder.

``RESNETKIT_UPDATE_DOCS=1 pytest tests/test_docs.py`` writes the true output into the pages, except
where it has ``...``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

from photographs import write_classes
from resnetkit.images.digits import digits

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UPDATE = bool(os.environ.get("RESNETKIT_UPDATE_DOCS"))


def run(command: str, folder: Path) -> str:
    words = shlex.split(command)
    if words[0] == "resnetkit":
        words[:1] = [sys.executable, "-m", "resnetkit"]
    elif words[0] in ("cat", "ls"):
        pass
    else:
        raise AssertionError(f"the pages only show resnetkit, cat and ls, and this is {words[0]!r}")
    environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1, 2), f"{command}: {done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return "\n".join(line.rstrip() for line in (done.stdout + done.stderr).splitlines())


def matches(expected: str, actual: str) -> bool:
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*?") + r"\n"
        for line in expected.splitlines()
    )
    return re.fullmatch(pattern, actual + "\n" if actual else "") is not None


def console(block: str, folder: Path) -> str:
    """Run a block's commands; the block as it is, or with the true output when updating."""
    parts = re.split(r"(?m)^\$ (.*)\n", block)
    assert parts[0] == "", f"output before the first command: {parts[0]!r}"
    written = ""
    for command, expected in zip(parts[1::2], parts[2::2], strict=True):
        actual = run(command, folder)
        if UPDATE and "..." not in expected:
            expected = f"{actual}\n" if actual else ""  # noqa: PLW2901
        assert matches(expected.rstrip("\n"), actual), f"$ {command}\n{actual}"
        written += f"$ {command}\n{expected}"
    return written


def write_seven(folder: Path) -> None:
    """A held-out digit as a picture."""
    source = digits()
    seven = next(e for e in source.parts["test"] if source.classes[e.label] == "7")
    folder.mkdir()
    Image.fromarray(seven.image).save(folder / "seven.png")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.name == "train.md":
        write_classes(tmp_path / "pictures", 18)
    elif page.name == "checkpoints.md":
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "resnet50.pth")
    elif page.name == "README.md":
        write_seven(tmp_path / "pictures")
    text = page.read_text()
    names: dict[str, object] = {"__name__": page.stem}

    def check(match: re.Match[str]) -> str:
        kind, block = match.groups()
        if kind == "python":
            exec(compile(block, str(page), "exec"), names)
            return match[0]
        return f"```console\n{console(block, tmp_path)}```"

    assert BLOCK.search(text), f"{page.name} shows nothing"
    updated = BLOCK.sub(check, text)
    if UPDATE:
        page.write_text(updated)


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
