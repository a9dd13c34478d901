"""The pixels of torchvision where asked for: `predict --exact`, and always in `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch

import resnetkit
from resnetkit.cli.main import main
from resnetkit.data.decoding.decode import pixels_of
from resnetkit.evaluation.evaluation import evaluate
from resnetkit.inference.engines.selection import open_engine
from resnetkit.inference.predictor import FEW

CLASSES = ("coffee", "rocket")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = resnetkit.build(
        "resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,), num_classes=2
    )
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    facts = resnetkit.Preprocess(size=32, resize_to=36)
    resnetkit.Bundle.from_module(module.eval(), preprocess=facts, classes=CLASSES).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough to be scaled down when they are decoded the fast way."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in CLASSES:
        (folder / name).mkdir()
        picture = PIL.Image.fromarray(getattr(skimage.data, name)())
        for number in range(FEW // 2):
            turned = picture.rotate(number).resize((321, 243))
            turned.save(folder / name / f"{number:02}.jpg", quality=90)
    return folder


def test_predict_with_and_without_exact(
    bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted(pictures.rglob("*.jpg"))
    assert len(images) == FEW
    wanted = [p.probability for p in resnetkit.load(bundle).predict(images, engine="torch")]
    words = ["predict", str(bundle), str(pictures), "--engine", "torch", "--batch-size", "16"]

    def apart(*more: str) -> float:
        assert main([*words, "--format", "json", *more]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["image"] for row in rows] == [str(path) for path in images]
        found = [row["predictions"][0]["probability"] for row in rows]
        return float(np.abs(np.subtract(found, wanted)).max())

    exact, fast = apart("--exact"), apart()
    assert exact < 1e-6
    assert 1e-5 < fast < 0.05, "another way to the pixels, and nearly the same ones"


def test_evaluate_is_exact(bundle: Path, pictures: Path) -> None:
    opened = resnetkit.load(bundle)
    images = sorted(pictures.rglob("*.jpg"))
    given = np.stack([pixels_of(path, opened.preprocess) for path in images])
    logits = torch.from_numpy(open_engine(opened, "torch").answer(given))
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in images])
    wanted = float(torch.nn.functional.cross_entropy(logits.double(), labels))
    found = evaluate(bundle, pictures, engine="torch").evaluation
    assert found.loss == pytest.approx(wanted, abs=1e-6)
    assert found.accuracy == float((logits.argmax(1) == labels).double().mean())
