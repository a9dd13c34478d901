"""What is written while a run goes on: the page after each epoch, and TensorBoard's points once."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.report.callbacks.live_report import watched
from resnetkit.report.console.training import Printed
from resnetkit.training.callbacks import Callback, Callbacks
from resnetkit.training.epoch_log import EpochLog, read_log
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe

SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
RECIPE = make_recipe(model=SMALL, size=8, epochs=3, batch_size=256)
SIX = 6


class Stopped(Callback):
    """Ctrl-C after so many batches; keeps what the page says after each epoch, and warnings."""

    def __init__(self, folder: Path, batches: int = -1) -> None:
        self.page, self.left = folder / "report.html", batches
        self.states: list[str] = []
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def epoch(self, row: EpochLog) -> None:
        # It is told before the page is written: this is the page of the epoch before.
        self.states.append(self.page.read_text().split(" epochs are done")[0].split(": ")[-1])


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_page_and_points_of_a_run_that_is_stopped_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = Stopped(folder, SIX + 3)
    callback = watched(first, folder, tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(RECIPE, folder, callback)
    assert first.states == ["0 of 3"]
    assert "1 of 3 epochs are done" in first.page.read_text()
    assert [step for step, _ in points(folder)["loss/training"]] == [1]

    # A point of an epoch that the run then lost, as where it was killed.
    lost = watched(Stopped(folder), folder, tensorboard=True)
    lost.open(folder)
    lost.start(RECIPE, {"train": 1}, read_log(folder) * 2)
    lost.close()
    assert len(points(folder)["loss/training"]) == 2

    second = Stopped(folder)
    callback = watched(second, folder, resumed=True)
    result = resume(folder, callback)
    assert second.states == ["1 of 3", "2 of 3"]
    page = second.page.read_text()
    assert "finished after 3 epochs" in page
    assert "Most confident mistakes" in page
    rows = read_log(folder)
    found = points(folder)
    assert found["loss/training"] == [(r.epoch, pytest.approx(r.loss)) for r in rows]
    assert found["accuracy/validation"] == [
        (r.epoch, pytest.approx(r.validation_accuracy)) for r in rows
    ]
    assert found["test/accuracy"] == [(result.best.epoch, pytest.approx(result.test.accuracy))]
    # A finished run can be asked for its points again.
    callback = watched(Stopped(folder), folder, tensorboard=True, resumed=True)
    resume(folder, callback)
    assert points(folder) == found


def test_a_run_has_points_only_if_asked(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_recipe(RECIPE, folder, watched(Stopped(folder, SIX), folder))
    assert not (folder / "tensorboard").exists()
    # The same in Python, without the page.
    result = resnetkit.train(
        "digits", SMALL, out=folder, overwrite=True, size=8, epochs=2, batch_size=256,
        callbacks=[resnetkit.TensorBoardCallback()],
    )  # fmt: skip
    assert [step for step, _ in points(folder)["loss/training"]] == [1, 2]
    low, _ = result.test.accuracy_interval
    assert points(folder)["test/accuracy low"] == [(result.best.epoch, pytest.approx(low))]


def test_callbacks_are_opened_and_closed(tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Callback):
        def open(self, folder: Path) -> None:
            told.append(f"open {folder.name}")

        def finish(self, result: resnetkit.training.Result) -> None:
            told.append(f"finish {result.best.epoch}")

        def close(self) -> None:
            told.append("close")

    class Failing(Callback):
        def close(self) -> None:
            raise OSError("a callback of the caller's")

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_recipe(RECIPE, folder, Callbacks(Stopped(folder, 1), Told()))
    assert told == ["open run", "close"]
    with pytest.raises(OSError, match="of the caller's"):
        resume(folder, Callbacks(Told(), Failing(), Told()))
    assert told[2:] == ["open run"] * 2 + ["finish 3"] * 2 + ["close"] * 2


def test_warnings_reach_the_first_and_those_that_show_them(tmp_path: Path) -> None:
    first, own = Stopped(tmp_path), Stopped(tmp_path)
    Callbacks(first, Callback(), own).warn("skipped")
    assert first.warnings == own.warnings == ["skipped"]
    with pytest.warns(UserWarning, match="skipped"):
        Callbacks(Callback(), own).warn("skipped")


def test_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["train", "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    errors = capsys.readouterr().err
    assert errors.splitlines() == [
        "resnetkit: TensorBoard logging requires tensorboard, which is not installed; "
        "pip install 'resnetkit[tensorboard]'"
    ]
    assert not (tmp_path / "run").exists()
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    teller = Stopped(tmp_path / "run")
    watched(teller, tmp_path / "run", resumed=True)
    assert "when the run is resumed with resnetkit[tensorboard]" in teller.warnings[0]


def test_a_page_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    teller = Stopped(folder)
    callback = watched(teller, folder)
    folder.mkdir()
    (folder / "report.html").mkdir()  # a folder cannot be replaced by a file
    callback.start(RECIPE, {"train": 9}, [])
    callback.start(RECIPE, {"train": 9}, [])
    assert len(teller.warnings) == 1
    assert "training continues without the page" in teller.warnings[0]


def test_overwriting_removes_points_and_page(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "tensorboard" / "events.out.tfevents.1.here.1.0").write_bytes(b"")
    (folder / "report.html").write_text("old")
    (folder / "recipe.toml").write_text("")
    with pytest.raises(InputError, match="overwrite"):
        run_recipe(RECIPE, folder)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(RECIPE, folder, Stopped(folder, 1), overwrite=True)
    assert not (folder / "tensorboard").exists()
    assert not (folder / "report.html").exists()


def test_the_live_line_tells_everything(capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("resnetkit.report.console.training.INTERVAL", -1.0)
    callback = Printed()
    callback.start(RECIPE, {"train": 500}, [])
    callback.so_far(1.25, 0.5, 0.125)
    callback.images(250)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("resnetkit: epoch 1: 250 of 500 images  loss 1.250  accuracy 50.0 %  ")
    assert "wait 12%" in line
    assert line.endswith("left")
    assert "images/s" in line
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with Printed() as callback:
        callback.start(RECIPE, {"train": 500}, [])
        callback.so_far(1.25, 0.5, 0.125)
        callback.images(250)
        callback._progress.refresh()
    shown = capsys.readouterr().err
    for words in ("50 %", "loss 1.250", "accuracy 50.0 %", "wait 12%", "images/s", "left"):
        assert words in shown


def test_the_live_line_of_a_distributed_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnetkit.report.console.training.INTERVAL", -1.0)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    callback = Printed()
    callback.start(RECIPE, {"train": 500}, [])
    callback.unreadable(2)
    callback.images(250)
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r" left  processes 3  restarts 1  unreadable 2  \S+ core hours$", line), line
