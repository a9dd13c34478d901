"""Every command and every piece of Python in README and docs is run, and prints what is printed.

A ``console`` block holds commands (``$ resnetkit ...``) and their output. A line ``...`` in the
output stands for any lines, ``...`` within a line for any text. A ``python`` block is run as it is.
The blocks of a page run in order in one temporary folder.

``RESNETKIT_UPDATE_DOCS=1 pytest tests/test_docs.py`` writes the true output into the pages, except
where it has ``...``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

import resnetkit
from forking import Forks
from hub_server import hub_serving, into
from object_storage import make_bucket, s3_serving, use
from photographs import write_classes
from resnetkit.data.datasets.digits import digits

ROOT = Path(__file__).parents[1]
#: Their commands take 10 to 35 seconds.
LONG = (
    *("README.md", "checkpoints.md", "export.md", "hub.md", "ray.md", "report.md"),
    *("inspect.md", "predict.md", "storage.md", "train.md"),
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UPDATE = bool(os.environ.get("RESNETKIT_UPDATE_DOCS"))


def run(command: str, folder: Path, forks: Forks) -> str:
    name, *words = shlex.split(command)
    if name == "resnetkit":
        environment = {"COLUMNS": "160", "NO_COLOR": "1", "RESNETKIT_CACHE": str(folder / "cache")}
        environment |= {key: os.environ[key] for key in os.environ if key.startswith("AWS_")}
        code = forks.run(*words, folder=folder, environment=environment)
        printed, errors = forks.printed, forks.errors
    elif name in ("cat", "ls"):
        done = subprocess.run(
            [name, *words], cwd=folder, capture_output=True, text=True, check=False
        )
        code, printed, errors = done.returncode, done.stdout, done.stderr
    else:
        raise AssertionError(f"the pages only show resnetkit, cat and ls, and this is {name!r}")
    assert code in (0, 1, 2), f"{command}: {errors}"
    assert "Traceback" not in errors, errors
    return "\n".join(line.rstrip() for line in (printed + errors).splitlines())


def matches(expected: str, actual: str) -> bool:
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*?") + r"\n"
        for line in expected.splitlines()
    )
    return re.fullmatch(pattern, actual + "\n" if actual else "") is not None


def console(block: str, folder: Path, forks: Forks) -> str:
    """Run a block's commands; the block as it is, or with the true output when updating."""
    parts = re.split(r"(?m)^\$ (.*)\n", block)
    assert parts[0] == "", f"output before the first command: {parts[0]!r}"
    written = ""
    for command, expected in zip(parts[1::2], parts[2::2], strict=True):
        actual = run(command, folder, forks)
        if UPDATE and "..." not in expected:
            expected = f"{actual}\n" if actual else ""  # noqa: PLW2901
        assert matches(expected.rstrip("\n"), actual), f"$ {command}\n{actual}"
        written += f"$ {command}\n{expected}"
    return written


def write_checkpoints(folder: Path) -> None:
    """Fresh networks as other programs leave them: a state dict, and a graph without norms."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50().state_dict(), folder / "resnet50.pth")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch's first exporter is deprecated, and widely used
        torch.onnx.export(
            torchvision.models.resnet18().eval(),
            (torch.zeros(1, 3, 224, 224),),
            folder / "resnet18.onnx",
            dynamo=False,
        )


def write_seven(folder: Path) -> None:
    """A held-out digit as a picture."""
    source = digits()
    seven = next(e for e in source.parts["test"] if source.classes[e.label] == "7")
    folder.mkdir()
    Image.fromarray(seven.image).save(folder / "seven.png")


def write_predictable(folder: Path) -> None:
    """A bundle with random weights, pictures, two shards, and a broken image."""
    torch.manual_seed(0)
    write_classes(folder / "pictures", 2)
    names = ("rose", "tulip", "lily")
    module = resnetkit.build("resnet18", num_classes=3).eval()
    facts = resnetkit.Preprocess(size=64)
    bundle = resnetkit.Bundle.from_module(module, preprocess=facts, classes=names)
    bundle.save(folder / "flowers.safetensors")
    photograph = (folder / "pictures/coffee/01.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(photograph[:900])
    for number, name in enumerate(("a.jpg", "b.jpg")):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as tar:
            tar.add(folder / "pictures/coffee/01.jpg", name)


def write_numbered(folder: Path) -> None:
    """Photographs in folders that are not named as the classes are, and which is which."""
    write_classes(folder / "photographs", 2, classes=("brick", "coffee"))
    for number, name in enumerate(("brick", "coffee"), 1):
        (folder / "photographs" / name).rename(folder / "photographs" / f"n{number}")
    (folder / "names.csv").write_text("folder,class\nn1,rose\nn2,tulip\n")


@pytest.fixture
def hub_forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forks]:
    """A stand-in of the Hub, here and for commands, which read its address when they start."""
    with hub_serving() as hub:
        into(hub, tmp_path, monkeypatch)
        with Forks(tmp_path) as found:
            yield found


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server with the bucket of the page, for commands."""
    with s3_serving() as address:
        use(monkeypatch, address)
        make_bucket(address, "flowers")
        yield


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.name in LONG else (), id=page.name)
        for page in PAGES
    ],
)
def test_page(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forks: Forks,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # Of Lightning and Ray: their own deprecations, and advice about this machine.
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", module=r"ray\.")
    if page.name == "hub.md":
        forks = request.getfixturevalue("hub_forks")
        write_predictable(tmp_path)
    elif page.name == "train.md":
        write_classes(tmp_path / "pictures", 18)
    elif page.name in ("inspect.md", "predict.md", "ray.md", "serve.md", "speed.md"):
        write_predictable(tmp_path)
    elif page.name == "storage.md":
        request.getfixturevalue("s3")
        write_classes(tmp_path / "pictures", 5, classes=("brick", "coffee"))
    elif page.name == "report.md":
        write_predictable(tmp_path)
        write_numbered(tmp_path)
    elif page.name == "checkpoints.md":
        write_checkpoints(tmp_path)
    elif page.name == "explain.md":
        torch.manual_seed(0)
        flowers = torchvision.models.resnet18(num_classes=3)
        torch.save(flowers.state_dict(), tmp_path / "flowers.pth")
    elif page.name in ("README.md", "export.md"):
        write_seven(tmp_path / "pictures")
    text = page.read_text()
    names: dict[str, object] = {"__name__": page.stem}

    def check(match: re.Match[str]) -> str:
        kind, block = match.groups()
        if kind == "python":
            exec(compile(block, str(page), "exec"), names)
            return match[0]
        return f"```console\n{console(block, tmp_path, forks)}```"

    assert BLOCK.search(text), f"{page.name} shows nothing"
    updated = BLOCK.sub(check, text)
    if UPDATE:
        page.write_text(updated)


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "figures").glob("*.svg")))
def test_figures_are_what_the_command_draws(path: Path, tmp_path: Path, forks: Forks) -> None:
    run(f"resnetkit explain {path.stem} --format svg --out {path.name}", tmp_path, forks)
    if UPDATE:
        path.write_text((tmp_path / path.name).read_text())
    assert (tmp_path / path.name).read_text() == path.read_text()
