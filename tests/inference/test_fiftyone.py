"""Predictions for FiftyOne."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import PIL.Image
import pytest
import torch

import resnetkit
from resnetkit.cli.main import main

READER = """
import json, sys
import fiftyone.utils.data as data
labels, pictures = sys.argv[1:]
found = {}
importer = data.FiftyOneImageClassificationDatasetImporter
with importer(labels_path=labels, data_path=pictures) as read:
    for path, _, one in read:
        found[path] = None if one is None else [one.label, one.confidence]
print(json.dumps(found))
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    module = resnetkit.build("resnet20", num_classes=3)
    resnetkit.Bundle.from_module(module, classes=("a", "é", '"')).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two of the same name, one in a folder, and one that is broken."""
    folder = tmp_path / "pictures"
    (folder / "ünder").mkdir(parents=True)
    for number, name in enumerate(("a.png", "a.jpg", "ünder/b.png")):
        PIL.Image.new("RGB", (32, 32), (90 * number, 0, 99)).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def predicted(bundle: Path, pictures: Path) -> Path:
    out = bundle.with_name("labels.json")
    # Exit code 1: one picture is broken.
    assert main(["predict", str(bundle), str(pictures), "--format", "fiftyone", "--out", str(out),
                 "--engine", "torch"]) == 1  # fmt: skip
    return out


def wanted(bundle: Path, pictures: Path) -> dict[str, list[object] | None]:
    predictions = resnetkit.predict(bundle, pictures, engine="torch")
    return {p.name: None if p.problem else [p.label, p.probability] for p in predictions}


def test_labels(
    bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = json.loads(predicted(bundle, Path("pictures")).read_text())["labels"]
    found = {name: one and [one["label"], one["confidence"]] for name, one in labels.items()}
    assert found == wanted(bundle, pictures)
    assert len(found) == 4
    assert found[str(pictures / "broken.png")] is None
    with pytest.raises(resnetkit.InputError, match="classes, not embeddings"):
        resnetkit.predict_to_file(
            bundle, pictures, tmp_path / "e.json", format="fiftyone", embeddings=True
        )


def test_nothing_is_valid_json(bundle: Path, tmp_path: Path) -> None:
    source: list[str] = []
    resnetkit.predict_to_file(bundle, source, tmp_path / "o.json", format="fiftyone")
    assert json.loads((tmp_path / "o.json").read_text()) == {"labels": {}}


@pytest.mark.slow
def test_fiftyone_reads_them(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """FiftyOne has a gigabyte, so that it gets an environment of its own."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "fiftyone"],
        check=True,
    )
    labels = predicted(bundle, pictures)
    done = subprocess.run(
        [python, "-c", READER, labels, pictures], capture_output=True, text=True, check=False,
        env={"FIFTYONE_DO_NOT_TRACK": "1", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == wanted(bundle, pictures)
