"""Runs: the same twice, the same after an interruption, and those that cannot go on."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import resnetkit
from photographs import write_classes
from resnetkit.errors import InputError
from resnetkit.evaluation.evaluation import evaluate
from resnetkit.report.console.lines import rule
from resnetkit.report.console.training import show_result
from resnetkit.report.pages.run_page import run_page, setting
from resnetkit.training.callbacks import Callback
from resnetkit.training.checkpoint import load_state, save_state
from resnetkit.training.epoch_log import (
    EpochLog,
    best_of,
    is_best,
    is_finished,
    read_log,
    standard_error,
    write_log,
)
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from resnetkit.training.run_comparison import compare_runs
from resnetkit.training.run_folder import read_recipe
from resnetkit.training.step.optimization_step import DivergedError

TINY = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))


class Interrupted(Callback):
    """Ctrl-C after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Warned(Callback):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def tiny(**choices: object) -> Recipe:
    return make_recipe(model=TINY, size=8, **{"epochs": 3, "batch_size": 128, "seed": 5, **choices})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "deep" / "run"
    run_recipe(tiny(), folder)
    return folder


def test_run_folder(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "best.safetensors",
        "last.safetensors",
        "log.jsonl",
        "recipe.toml",
        "split.json",
    ]
    recipe = read_recipe(finished)
    # What `auto` came to is written down.
    assert recipe.runtime.precision != "auto"
    assert recipe == tiny().override(precision=recipe.runtime.precision)
    rows = read_log(finished)
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert rows[-1].loss < rows[0].loss
    best = resnetkit.load(finished / "best.safetensors")
    assert best.classes == tuple("0123456789")
    assert best.preprocess == tiny().preprocess
    assert best.origin["epoch"] == best_of(rows).epoch
    assert best.measured["validation"]["accuracy"] == best_of(rows).validation_accuracy
    assert best.measured["test"]["images"] == best.origin["images"]["test"] == 359
    low, high = best.measured["test"]["intervals"]["accuracy"]
    assert low < best.measured["test"]["accuracy"] < high
    assert sum(best.origin["images"].values()) == 1797


def test_the_bundle_alone_measures_the_same(finished: Path) -> None:
    best = resnetkit.load(finished / "best.safetensors")
    for part in ("validation", "test"):
        again = evaluate(finished / "best.safetensors", "digits", split=part).evaluation
        assert again.accuracy == best.measured[part]["accuracy"]
        assert again.loss == pytest.approx(best.measured[part]["loss"], rel=1e-4)


def test_same_recipe_same_weights(finished: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)
    run_recipe(tiny(), tmp_path / "again")
    assert same(tmp_path / "again" / "last.safetensors", finished / "last.safetensors")
    run_recipe(tiny(seed=6), tmp_path / "other")
    assert not same(tmp_path / "other" / "last.safetensors", finished / "last.safetensors")


@pytest.mark.parametrize("batches", [3, 14, 29])
def test_resumed_run_ends_in_the_same_weights(batches: int, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_recipe(tiny(), folder, Interrupted(batches))
    assert not list(folder.glob(".*")), "a temporary file was left"
    result = resume(folder)
    assert [row.epoch for row in result.rows] == [1, 2, 3]
    for name in ("best.safetensors", "last.safetensors"):
        assert same(folder / name, finished / name)
    assert resume(folder).test.accuracy == result.test.accuracy


def test_an_epoch_that_was_half_written_is_trained_again(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_recipe(tiny(), folder, Interrupted(14))
    log = folder / "log.jsonl"
    row = json.loads(log.read_text().splitlines()[0])
    log.write_text(log.read_text() + json.dumps({**row, "epoch": 2, "best": True}) + "\n")
    resume(folder)
    assert same(folder / "best.safetensors", finished / "best.safetensors")


def test_divergence_is_one_line_and_keeps_what_was_good(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"epoch 1, batch \d: .*lr below 1e\+20") as caught:
        run_recipe(tiny(lr=1e20, epochs=2), tmp_path / "run")
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_a_folder_that_is_not_empty_is_left_alone(finished: Path, tmp_path: Path) -> None:
    before = (finished / "best.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"resnetkit\.resume"):
        run_recipe(tiny(), finished)
    assert (finished / "best.safetensors").read_bytes() == before
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="out"):
            run_recipe(tiny(), place)


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run"):
        resume(tmp_path)


def test_changed_images_cannot_be_resumed(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 6, classes=("brick", "coffee"))
    recipe = make_recipe(data, TINY, size=16, epochs=2, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "run", Interrupted(1))
    (data / "brick" / "01.jpg").write_bytes((data / "brick" / "02.jpg").read_bytes())
    with pytest.raises(InputError, match="not those"):
        resume(tmp_path / "run", Warned())


def test_copies_in_two_parts_are_told(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 3, classes=("brick", "coffee"))
    for name in ("brick", "coffee"):
        for number in (1, 2):
            (data / name / f"0{number}.jpg").write_bytes((data / name / "00.png").read_bytes())
    callback = Warned()
    run_recipe(make_recipe(data, TINY, size=16, epochs=1, batch_size=2), tmp_path / "run", callback)
    assert [text.split(" image")[0] for text in callback.warnings] == ["2 validation", "2 test"]


def a_row(epoch: int, right: int, images: int, *, best: bool) -> EpochLog:
    return EpochLog(epoch=epoch, lr=0.1, loss=1.0, accuracy=0.5, validation_loss=0.4,
               validation_accuracy=right / images, validation_images=images, seconds=1.0,
               rate=1.0, best=best)  # fmt: skip


def rows_of(answers: list[int], images: int) -> list[EpochLog]:
    """The rows of a run that answers so many validation images right after each epoch."""
    rows: list[EpochLog] = []
    for epoch, right in enumerate(answers, 1):
        best = is_best(rows, right / images, images)
        rows.append(a_row(epoch, right, images, best=best))
    return rows


def test_a_lucky_early_epoch_is_not_kept() -> None:
    # Like the run of digits that kept epoch 5 of 20: one lucky image more than later epochs.
    rows = rows_of([180, 240, 262, 266, 269, 265, 268, 268, 268], 269)
    assert best_of(rows).epoch == 9


def test_an_epoch_that_is_truly_worse_is_not_kept() -> None:
    assert best_of(rows_of([100, 250, 240, 200], 269)).epoch == 2
    assert best_of(rows_of([5, 9, 4], 10)).epoch == 2


@given(st.integers(1, 400), st.data())
def test_the_best_is_the_last_within_two_standard_errors(images: int, data: st.DataObject) -> None:
    answers = data.draw(st.lists(st.integers(0, images), min_size=1, max_size=30))
    rows = rows_of(answers, images)
    highest = max(answers)
    # The variance of the mean of `images` answers by Laplace's rule, in exact arithmetic.
    share = Fraction(highest + 1, images + 2)
    variance = share * (1 - share) / images
    within = [
        n
        for n, right in enumerate(answers)
        if Fraction(highest - right, images) ** 2 <= 4 * variance
    ]
    assert best_of(rows).epoch == within[-1] + 1
    assert 0 < standard_error(highest / images, images) <= 0.5


def test_patience_ends_with_epochs_that_are_not_kept() -> None:
    rows = [a_row(n, 1, 2, best=best) for n, best in enumerate([True, False, True, False, False])]
    assert [is_finished(rows[:n], 9, 2) for n in range(6)] == [False] * 5 + [True]
    assert not is_finished(rows, 9)
    assert not is_finished(rows, 6)
    assert is_finished(rows, 5)


def test_a_run_out_of_patience_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_classes(tmp_path / "data", 4, classes=("brick", "coffee"))
    recipe = make_recipe(data, TINY, size=16, epochs=5, batch_size=2, patience=1)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "run", Interrupted(5))  # in the third epoch of two batches
    state = load_state(tmp_path / "run", Warned().warn)
    assert state is not None
    assert len(state.document["rows"]) == 2
    state.document["rows"][-1]["best"] = False
    save_state(tmp_path / "run", state)
    write_log(tmp_path / "run", [EpochLog(**row) for row in state.document["rows"]])
    result = resume(tmp_path / "run", Warned())
    assert [row.best for row in result.rows] == [True, False]
    assert compare_runs(tmp_path).runs[0].finished
    show_result(result)
    assert "ended after 2 of 5 epochs: none of the last 1 was the best" in capsys.readouterr().out
    about = setting("run", recipe.network, recipe.preprocess, recipe=recipe, about={})
    page = run_page(about, recipe, list(result.rows), result.evaluation)
    assert "finished after 2 of 5 epochs" in page


def test_the_run_and_its_report_say_why_an_epoch_was_kept() -> None:
    rows = rows_of([200, 268, 264, 266, 240], 269)
    assert best_of(rows).epoch == 4
    assert rule(rows) == (
        "the last within two standard errors (1.04 %) of the highest validation accuracy, "
        "99.63 % in epoch 2"
    )


def test_without_test_images_those_of_validation_are_measured(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 4, classes=("brick", "coffee"))
    result = run_recipe(
        make_recipe(data, TINY, size=16, epochs=1, batch_size=2, test=0.0),
        tmp_path / "run",
        Warned(),
    )
    assert (result.part, result.test) == ("validation", None)
    assert result.evaluation.images == result.counts["validation"] > 0
    assert result.evaluation.accuracy == result.best.validation_accuracy
    assert "test" not in resnetkit.load(tmp_path / "run" / "best.safetensors").measured
