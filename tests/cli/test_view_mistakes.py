"""`resnetkit view RUN --mistakes`: what is shown of a mistake, and links from the report."""

from __future__ import annotations

import base64
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import resnetkit
from resnetkit.cli.main import main
from resnetkit.data import open_dataset
from resnetkit.data.datasets.splits import load_record
from resnetkit.errors import InputError, parsed
from resnetkit.evaluation import mistake_pictures
from resnetkit.evaluation.mistake_pictures import SOME


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is often mistaken."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = "train digits --model resnet20 --depths 1,1 --widths 16,32 --size 8 --epochs 1"
    assert main([*command.split(), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def measurement(run: Path) -> resnetkit.evaluation.Measurement:
    return resnetkit.evaluate(run / "best.safetensors", "digits")


def document(page: Path) -> dict[str, Any]:
    [data] = re.findall(r'id="data">([^<]+)<', page.read_text())
    return parsed(zlib.decompress(base64.b64decode(data), -15))


def test_a_mistake_has_both_classes_and_a_picture_of_each(
    run: Path, measurement: resnetkit.evaluation.Measurement
) -> None:
    pictures = mistake_pictures(measurement, 24)
    bundle = resnetkit.load(run / "best.safetensors")
    record = load_record(run)
    assert record is not None
    images = {sample.name: sample for sample in open_dataset("digits").examples}
    assert [one["name"] for one in pictures] == [
        one.name for one in measurement.evaluation.mistakes
    ]
    for picture, mistake in zip(pictures, measurement.evaluation.mistakes, strict=True):
        truth, guess = picture["mistake"]["truth"], picture["mistake"]["guess"]
        assert (truth["label"], guess["label"]) == (mistake.truth, mistake.guess)
        assert (truth["probability"], guess["probability"]) == (mistake.chance, mistake.confidence)
        assert picture["top"][0]["class"] == guess["class"]
        assert {truth["class"], guess["class"]} <= {one["class"] for one in picture["cams"]}
        for side in (truth, guess):
            if side["near"] is None:
                continue
            name = side["near"]["name"]
            assert name in record.parts["train"]
            assert 1 <= side["near"]["of"] <= SOME
            assert bundle.classes[images[name].label] == side["label"]
            (found,) = resnetkit.predict(bundle, images[name].image, topk=1)
            assert found.label == side["label"]
            vectors = resnetkit.embed(bundle, [mistake.image, images[name].image])
            one, other = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            assert side["near"]["similarity"] == pytest.approx(float(one @ other), abs=1e-4)
    assert sum(one["mistake"]["guess"]["near"] is not None for one in pictures) > 12
    unlikely = [
        one for one in pictures
        if one["mistake"]["truth"]["class"] not in {top["class"] for top in one["top"]}
    ]  # fmt: skip
    assert unlikely, "a true class that is not among the five has a map too"


def test_no_more_than_are_kept(measurement: resnetkit.evaluation.Measurement) -> None:
    with pytest.raises(InputError, match="count is 25; it must be from 1 to 24"):
        mistake_pictures(measurement, 25)


def test_training_pictures_are_those_of_the_folder(run: Path, tmp_path: Path) -> None:
    for number, sample in enumerate(open_dataset("digits").examples[:80]):
        pixels = np.asarray(sample.image).squeeze() * 15
        for part in ("train" if number < 60 else "test", "all"):
            folder = tmp_path / "data" / part / str(sample.label)
            folder.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    whole = (tmp_path / "data/all").rename(tmp_path / "whole")
    bundle = shutil.copy(run / "best.safetensors", tmp_path)
    page = tmp_path / "page.html"
    for data, known in ((tmp_path / "data", True), (whole, False)):
        command = ["view", str(bundle), "--mistakes", "--count", "5", "--data", str(data)]
        assert main([*command, "--out", str(page)]) == 0
        looks = document(page)["looks"]
        assert len(looks) == 5
        near = [look["mistake"][side]["near"] for look in looks for side in ("truth", "guess")]
        names = [one["name"] for one in near if one is not None]
        assert bool(names) == known
        assert all(name.startswith("train/") for name in names)


def test_the_report_tells_the_command_and_gets_links(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = run / "report.html"
    before = report.read_text()
    [command] = re.findall(r"<code>(resnetkit view [^<]+)</code>", before)
    assert command == "resnetkit view run --mistakes --out run/mistakes.html"
    monkeypatch.chdir(run.parent)
    assert main([*command.split()[1:], "--count", "3"]) == 0
    assert re.fullmatch(r"3 of \d+ mistakes on 359 images \(test\)\n", capsys.readouterr().err)
    names = [look["name"] for look in document(run / "mistakes.html")["looks"]]
    linked = re.findall(r'<a data-picture="([^"]+)" href="mistakes.html#picture=(\d)">',
                        report.read_text())  # fmt: skip
    assert linked[:3] == [(name, str(number)) for number, name in enumerate(names, 1)]
    assert set(linked) == set(linked[:3])
    # A page elsewhere changes nothing; the next one beside it replaces the links.
    text = report.read_text()
    assert (
        main(["view", "run", "--mistakes", "--count", "1", "--out", str(tmp_path / "a.html")]) == 0
    )
    assert report.read_text() == text
    assert main(["view", "run", "--mistakes", "--count", "1", "--out", "run/one.html"]) == 0
    assert set(re.findall(r'href="([^"]+picture[^"]+)"', report.read_text())) == {
        "one.html#picture=1"
    }
    assert re.sub(r' href="one.html[^"]*"', "", report.read_text()) == before
    (run / "one.html").unlink()
    # An overwritten run has no mistakes of the one before.
    copied = shutil.copytree(run, tmp_path / "run")
    resnetkit.train("digits", resnetkit.network("resnet20", depths=(1, 1), widths=(16, 32)),
                    out=copied, overwrite=True, size=8, epochs=1)  # fmt: skip
    assert not (copied / "mistakes.html").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["resnet18", "--mistakes"], "resnet18 is not of a run, whose data is known; give --data"),
        (["RUN", "x.png", "--mistakes"], "--mistakes shows no other pictures; leave x.png out"),
        (["RUN", "--mistakes", "--count", "0"], "--count is 0; it must be from 1 to 24"),
        (["RUN", "--mistakes", "--input", "64"], "pictures go through the network as it is"),
        (["RUN", "--split", "test"], "--split requires --mistakes"),
        (["RUN", "--mistakes", "--data", "none"], "none does not exist"),
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
