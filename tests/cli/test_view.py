"""`resnetkit view`: a page to keep, a page that is opened, and one with pictures."""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import sys
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

import resnetkit
from photographs import photograph
from resnetkit.cli.main import main
from resnetkit.errors import parsed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, as far as it is looked at: its best bundle."""
    torch.manual_seed(0)
    module = resnetkit.build("resnet20", num_classes=3)
    preprocess = resnetkit.Preprocess(size=24, resize_to=28)
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    resnetkit.Bundle.from_module(module, preprocess=preprocess, classes=("a", "b", "c")).save(
        folder / "best.safetensors"
    )
    return folder


def document(page: Path) -> dict[str, Any]:
    [data] = re.findall(r'id="data">([^<]+)<', page.read_text())
    return parsed(zlib.decompress(base64.b64decode(data), -15))


def test_pictures_are_in_the_page(run: Path, tmp_path: Path) -> None:
    pictures = [tmp_path / "one.png", tmp_path / "two.jpg"]
    for name, picture in zip(("coffee", "rocket"), pictures, strict=True):
        PIL.Image.fromarray(photograph(name)).save(picture)
    page = tmp_path / "page.html"
    assert main(["view", str(run), *map(str, pictures), "--out", str(page)]) == 0
    found = document(page)
    assert found["live"] is False
    assert found["input"] == [3, 24, 24]
    bundle = resnetkit.load(run / "best.safetensors")
    assert found["looks"] == [resnetkit.inspect.look(bundle, picture) for picture in pictures]


def test_a_network_is_opened_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["view", "resnet18", "--input", "64"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.is_relative_to(tmp_path)
    assert opened == [path.as_uri()]
    assert document(path)["looks"] == []


def test_a_bundle_is_served_until_ctrl_c(run: Path, tmp_path: Path) -> None:
    note = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(note)!r}, 'w').write(sys.argv[1])\n"
    )
    browser.chmod(0o755)
    command = [sys.executable, "-m", "resnetkit", "view", str(run)]
    environment = {"BROWSER": f"{browser} %s", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            [url] = re.fullmatch(r"(http://127\.0\.0\.1:\d+/view), until Ctrl-C\n", line).groups()
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert b'id="data"' in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
    assert note.read_text() == url


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["resnet18", "x.png"], "resnet18 is a network without weights, which pictures need"),
        (["RUN", "x.png"], "x.png: there is no such file"),
        (["RUN", "x.png", "--input", "64"], "pictures go through the network as it is; leave"),
        (["RUN", "x.png", "--stem", "deep"], "pictures go through the network as it is; leave"),
    ],
)
def test_bad_input(
    arguments: list[str], line: str, run: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    page = tmp_path / "page.html"
    given = [str(run) if one == "RUN" else one for one in arguments]
    assert main(["view", *given, "--out", str(page)]) == 2
    assert line in capsys.readouterr().err
    assert not page.exists()
