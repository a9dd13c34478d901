"""Files of predictions: every format, and no row lost or repeated after a kill at any moment."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from resnetkit.data.listing import ImageEntry
from resnetkit.errors import InputError
from resnetkit.inference.prediction import ClassScore, Prediction
from resnetkit.inference.results import resumable_file
from resnetkit.inference.results.formats import Format, open_format
from resnetkit.inference.results.resumable_file import ResumableFile

ODD = ("a\nb.png", 'comma,"quote".png', os.fsdecode(b"\xff\xfe.png"), "ünï.png")


Answer = Callable[[Iterable[ImageEntry]], Iterable[Prediction]]


def listed(count: int) -> list[ImageEntry]:
    return [
        ImageEntry(name=ODD[n] if n < len(ODD) else f"{n:05}.png", image=b"") for n in range(count)
    ]


def answer(images: Iterable[ImageEntry], *, embeddings: bool = False) -> Iterator[Prediction]:
    """Every seventh is unreadable; the others say their name's length."""
    for image in images:
        size = len(image.name)
        if image.name[-5:-4] == "7":
            yield Prediction(name=image.name, problem="broken")
        elif embeddings:
            yield Prediction(name=image.name, embedding=np.array([size, 0.1, 1e-9], np.float32))
        else:
            scores = (
                ClassScore(label=f"c{size}", probability=0.75),
                ClassScore(label="é", probability=0.25),
            )
            yield Prediction(name=image.name, scores=scores)


def embed(images: Iterable[ImageEntry]) -> Iterator[Prediction]:
    return answer(images, embeddings=True)


def write(file: ResumableFile, images: list[ImageEntry], function: Answer = answer) -> int:
    with file:
        for prediction in function(file.remaining(images)):
            file.append(prediction)
        file.finish()
        return file.unreadable


def written(path: Path, kind: str, count: int, *, embeddings: bool = False) -> Path:
    output = "embeddings" if embeddings else "logits"
    layout = open_format(kind, output, 3)
    function = embed if embeddings else answer
    unreadable = write(ResumableFile(path, layout, {"a": 1}), listed(count), function)
    assert unreadable == sum(image.name[-5:-4] == "7" for image in listed(count))
    assert not {".part", ".progress"} & {file.suffix for file in path.parent.iterdir()}
    return path


def clean(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


NAMES = [image.name for image in listed(600)]


def test_csv(tmp_path: Path) -> None:
    text = written(tmp_path / "o.csv", "csv", 600).read_text()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(dict.fromkeys(row["image"] for row in rows)) == [clean(name) for name in NAMES]
    assert rows[0] == {
        "image": ODD[0], "rank": "1", "class": "c7", "probability": "0.750000", "problem": ""
    }  # fmt: skip
    broken = [row for row in rows if row["problem"]]
    assert broken
    assert all(row["problem"] == "broken" and row["rank"] == "" for row in broken)


def test_csv_of_embeddings(tmp_path: Path) -> None:
    text = written(tmp_path / "o.csv", "csv", 20, embeddings=True).read_text()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["image", "problem", "0", "1", "2"]
    assert np.float32(rows[1][3]) == np.float32(0.1)
    assert rows[1 + 7][1:] == ["broken", "", "", ""]


@pytest.mark.parametrize("count", [0, 1, 600])
def test_json(count: int, tmp_path: Path) -> None:
    rows = json.loads(written(tmp_path / "o.json", "json", count).read_text())
    lines = written(tmp_path / "o.jsonl", "jsonl", count).read_text().splitlines()
    assert rows == [json.loads(line) for line in lines]
    assert [row["image"] for row in rows] == NAMES[:count]
    if count > 7:
        assert rows[7] == {"image": NAMES[7], "predictions": [], "problem": "broken"}


def test_parquet(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(written(tmp_path / "o.parquet", "parquet", 600))
    rows = table.to_pylist()
    assert [row["image"] for row in rows] == [clean(name) for name in NAMES]
    assert rows[1]["classes"] == [f"c{len(ODD[1])}", "é"]
    assert rows[1]["probabilities"] == [0.75, 0.25]
    assert rows[7]["problem"] == "broken"
    empty = pyarrow.parquet.read_table(written(tmp_path / "e.parquet", "parquet", 0))
    assert empty.num_rows == 0


def test_numbers(tmp_path: Path) -> None:
    array = np.load(written(tmp_path / "o.npy", "npy", 600, embeddings=True))
    names = [json.loads(x) for x in (tmp_path / "o.npy.jsonl").read_text().splitlines()]
    assert [row["image"] for row in names] == NAMES
    assert (array.shape, array.dtype) == ((600, 3), np.float32)
    unreadable = ["problem" in row for row in names]
    assert np.isnan(array[:, 0]).tolist() == unreadable
    assert array[0].tolist() == np.array([7, 0.1, 1e-9], np.float32).tolist()
    table = pyarrow.parquet.read_table(
        written(tmp_path / "o.parquet", "parquet", 600, embeddings=True)
    )
    found = np.array([row or [np.nan] * 3 for row in table["embedding"].to_pylist()], np.float32)
    assert np.array_equal(found, array, equal_nan=True)


class StopError(Exception):
    """Something goes wrong in the middle."""


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_goes_on_where_it_stopped(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(tmp_path / f"whole.{kind}", kind, 500).read_bytes()
    monkeypatch.setattr(resumable_file, "INTERVAL", 0)
    monkeypatch.setattr(resumable_file, "ROWS", 7)
    path = tmp_path / f"o.{kind}"
    asked: list[str] = []

    def faulty(images: Iterable[ImageEntry]) -> Iterator[Prediction]:
        for count, prediction in enumerate(answer(images)):
            asked.append(prediction.name)
            if count == 100:
                raise StopError
            yield prediction

    layout = open_format(kind, "logits", 0)
    for _ in range(4):
        with pytest.raises(StopError):
            write(ResumableFile(path, layout, {"a": 1}), listed(500), faulty)
        assert not path.exists()
    with pytest.raises(InputError, match="another a"):
        ResumableFile(path, layout, {"a": 2})
    with pytest.raises(InputError, match="differ from those when"):
        write(ResumableFile(path, layout, {"a": 1}), listed(500)[1:])
    assert json.loads(Path(f"{path}.progress").read_bytes())["state"]["images"] == 400
    write(ResumableFile(path, layout, {"a": 1}), listed(500), faulty)
    assert asked == NAMES[:101] + NAMES[100:201] + NAMES[200:301] + NAMES[300:401] + NAMES[400:500]
    if kind == "parquet":
        assert pyarrow.parquet.read_table(path) == pyarrow.parquet.read_table(
            tmp_path / f"whole.{kind}"
        )
    else:
        assert path.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"o.{kind}", f"whole.{kind}"]


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    layout: Format = open_format("csv", "logits", 0)
    first = ResumableFile(tmp_path / "o.csv", layout, {"a": 1})
    with pytest.raises(InputError, match="another process"):
        ResumableFile(tmp_path / "o.csv", layout, {"a": 1})
    write(first, listed(3))


def test_a_folder_or_device_is_refused_before_anything_is_answered(tmp_path: Path) -> None:
    (tmp_path / "o.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("o.csv", "pipe.csv"):
        with pytest.raises(InputError, match="give a file name"):
            ResumableFile(tmp_path / name, open_format("csv", "logits", 0), {"a": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.csv", "pipe.csv"]


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_classes_whose_folder_is_no_utf8(kind: str, tmp_path: Path) -> None:
    def odd(images: Iterable[ImageEntry]) -> Iterator[Prediction]:
        for image in images:
            guess = ClassScore(label=os.fsdecode(b"caf\xe9"), probability=1.0)
            yield Prediction(name=image.name, scores=(guess,))

    path = tmp_path / f"o.{kind}"
    write(ResumableFile(path, open_format(kind, "logits", 0), {}), listed(1), odd)
    assert b"caf\\udce9" in path.read_bytes()


#: A process that writes slowly, and records after every few rows.
SCRIPT = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from inference import test_resumable_file as t
from resnetkit.inference.results import resumable_file as recording
recording.INTERVAL, recording.ROWS = 0.02, 7
def slow(images):
    for prediction in t.answer(images):
        time.sleep(0.0005)
        yield prediction
layout = t.open_format(sys.argv[2], "logits", 0)
t.write(t.ResumableFile(Path(sys.argv[1]), layout, {{"a": 1}}), t.listed(600), slow)
"""


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_killed_at_random_points(kind: str, tmp_path: Path) -> None:
    whole = written(tmp_path / f"whole.{kind}", kind, 600)
    path, script = tmp_path / f"o.{kind}", tmp_path / "script.py"
    places = [p for p in sys.path if p] + [str(Path(__file__).parents[1])]
    script.write_text(SCRIPT.format(path=places))
    draw = random.Random(kind)  # where it is killed; when that is depends on the machine
    kills = 0
    while not path.exists():
        process = subprocess.Popen([sys.executable, str(script), str(path), kind])
        record = path.with_name(path.name + ".progress")
        before = record.stat().st_mtime_ns if record.exists() else 0
        while process.poll() is None:
            # Kill it some time after it has begun to record.
            if record.exists() and record.stat().st_mtime_ns != before:
                time.sleep(draw.random() * 0.3)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        kills += process.wait() == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL)
        assert kills < 60
    assert kills >= 2
    # A kill after the file got its name leaves the record, which the next run clears away.
    layout = open_format(kind, "logits", 0)
    if path.with_name(path.name + ".progress").exists():
        write(ResumableFile(path, layout, {"a": 1}), listed(600))
    if kind == "parquet":
        assert pyarrow.parquet.read_table(path) == pyarrow.parquet.read_table(whole)
    else:
        assert path.read_bytes() == whole.read_bytes()
