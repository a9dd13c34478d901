"""Runs that die: killed at any moment, by signals, by a full disk, by a loss that is no number.

A run that goes on ends in the very weights of the run that nothing happened to.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

import resnetkit
from forking import Forks
from resnetkit.errors import InputError
from resnetkit.training import checkpoint, run_folder
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.epoch_log import read_log
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from resnetkit.training.run_folder import LAST, NAN, RECIPE
from resnetkit.training.step.optimization_step import (
    DivergedError,
    NotFiniteError,
    StepOptions,
    train_step,
)

SMALL = "--model resnet20 --depths 1,1 --widths 8,16 --stem-widths 8 --size 8".split()
CHOICES = [*SMALL, "--epochs", "3", "--batch-size", "64", "--seed", "4", "--threads", "1"]
NETWORK = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
STATE, BEFORE = run_folder.STATES


@pytest.fixture(scope="module")
def whole(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The run that nothing happens to, and how long it takes."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    forks.run("train", "--out", folder.with_name("warm"), *CHOICES)
    began = time.monotonic()
    assert forks.run("train", "--out", folder, *CHOICES, "--checkpoint-minutes", 0) == 0
    return folder, time.monotonic() - began


def same(one: Path, other: Path) -> bool:
    for name in ("best.safetensors", LAST):
        first, second = (safetensors.torch.load_file(folder / name) for folder in (one, other))
        if first.keys() != second.keys() or not all(
            torch.equal(first[key], second[key]) for key in first
        ):
            return False
    scores = [
        [(r.loss, r.accuracy, r.validation_loss, r.best) for r in read_log(folder)]
        for folder in (one, other)
    ]
    return scores[0] == scores[1]


def words(folder: Path, minutes: float) -> list[object]:
    """Go on with the run, or start it where it was killed before there was one."""
    if (folder / RECIPE).exists():
        return ["train", "--resume", folder, "--checkpoint-minutes", minutes]
    return ["train", "--out", folder, *CHOICES, "--checkpoint-minutes", minutes]


def half_written(folder: Path) -> list[str]:
    return [p.name for p in folder.glob(".*")] if folder.exists() else []


def killed_to_the_end(
    forks: Forks, folder: Path, seconds: float, draw: random.Random, kills: int, minutes: float
) -> tuple[int, int]:
    """A run killed so many times, then left alone; the kills, and those in the middle of a file."""
    done = writing = 0
    while True:
        process = forks.start(*words(folder, minutes))
        if done < kills:
            time.sleep(draw.uniform(0, seconds))
            forks.kill(process)
        code = forks.end()
        if code == 0:
            return done, writing
        assert code == -signal.SIGKILL, forks.errors
        done += 1
        writing += bool(half_written(folder))


@pytest.mark.slow
def test_killed_three_times(forks: Forks, whole: tuple[Path, float], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed_to_the_end(forks, folder, whole[1], random.Random(1), 3, 0)
    assert same(folder, whole[0])
    assert not half_written(folder)
    assert not (folder / STATE).exists()


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0, 0.001, 10])
def test_killed_anywhere(
    minutes: float, forks: Forks, whole: tuple[Path, float], tmp_path: Path
) -> None:
    draw, kills, writing = random.Random(int(1000 * minutes)), 0, 0
    while kills < 24:
        folder = tmp_path / f"run{kills}"
        more, during = killed_to_the_end(forks, folder, whole[1], draw, 8, minutes)
        kills, writing = kills + more, writing + during
        assert same(folder, whole[0])
    print(f"{kills} kills, {writing} of them while a file was written")


def test_killed_while_a_checkpoint_is_written(
    forks: Forks, whole: tuple[Path, float], tmp_path: Path
) -> None:
    folder, caught = tmp_path / "run", 0
    for number in range(2):
        process = forks.start(*words(folder, 0))
        seen = 0
        while seen < 3 + number:
            seen += any(name.startswith(f".{STATE}") for name in half_written(folder))
        forks.kill(process)
        assert forks.end() == -signal.SIGKILL
        caught += bool(half_written(folder))
    assert caught, "no process was killed in the middle of a checkpoint"
    assert forks.run(*words(folder, 0)) == 0, forks.errors
    assert same(folder, whole[0])


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        (signal.SIGINT, 130),
    ],
)
def test_a_signal_is_answered_with_a_checkpoint(
    number: int, code: int, forks: Forks, whole: tuple[Path, float], tmp_path: Path
) -> None:
    # Between two epochs all is on the disk already; it is a checkpoint within one that counts.
    for attempt in range(5):
        folder = tmp_path / f"run{attempt}"
        process = forks.start(*words(folder, 10))
        while not (folder / "log.jsonl").exists():
            time.sleep(0.005)
        time.sleep(0.05)
        before = (folder / STATE).stat().st_mtime_ns if (folder / STATE).exists() else 0
        forks.kill(process, number)
        assert forks.end() == code
        assert "Traceback" not in forks.errors
        assert f"--resume {folder}" in forks.errors.splitlines()[0]
        document = checkpoint.load_state(folder, Callback().warn).document
        if document["batch"]:
            break
    assert document["batch"] > 0, "no signal was answered within an epoch"
    assert (folder / STATE).stat().st_mtime_ns > before
    assert forks.run(*words(folder, 10)) == 0
    epoch, images = len(document["rows"]) + 1, document["score"]["images"]
    assert f"continuing in epoch {epoch}, after {images} images" in forks.printed
    assert same(folder, whole[0])


@pytest.mark.slow
def test_a_full_disk_loses_nothing(forks: Forks, whole: tuple[Path, float], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = forks.start(*words(folder, 0))
    while not (folder / BEFORE).exists():
        time.sleep(0.005)
    forks.kill(process)
    forks.end()
    # It may have been killed between the two renames; then there is only the one before.
    known = {p.name: p.read_bytes() for p in folder.iterdir() if p.name in run_folder.STATES}
    for limit in (2000, len(known[BEFORE]) - 100):
        assert forks.run(*words(folder, 0), limit=limit) == 2
        *page, problem = forks.errors.splitlines()
        assert all("report.html" in line for line in page), "training can do without its page"
        assert len(page) < 2, page
        assert "cannot write" in problem
        assert f"--resume {folder}" in problem
        assert {name: (folder / name).read_bytes() for name in known} == known
        assert not half_written(folder)
    assert forks.run(*words(folder, 0)) == 0
    assert same(folder, whole[0])


class After(Callback):
    """Dies after so many batches, as by a bug, and keeps what it is told."""

    def __init__(self, batches: int = 0) -> None:
        self.left, self.said = batches, list[str]()

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def warn(self, text: str) -> None:
        self.said.append(text)


EACH_STEP = RunOptions(checkpoint_minutes=0)


RECIPE_OF_DEAD = make_recipe(model=NETWORK, size=8, epochs=1, batch_size=128, seed=5, threads=1)


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "died"
    with pytest.raises(KeyboardInterrupt):
        run_recipe(RECIPE_OF_DEAD, folder, After(5), run_options=EACH_STEP)
    return folder


@pytest.fixture(scope="module")
def ended(died: Path) -> Path:
    folder = died.with_name("ended")
    shutil.copytree(died, folder)
    resume(folder)
    return folder


@pytest.fixture
def dead(died: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(died, tmp_path / "run"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "gone"])
def test_a_damaged_state_is_passed_over(damage: str, dead: Path, ended: Path) -> None:
    folder = dead
    path = folder / STATE
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-9], "flipped": content, "emptied": b""}[damage])
    callback = After()
    result = resume(folder, callback)
    assert [f"{path} is damaged" in text for text in callback.said] == [True] * (damage != "gone")
    assert all(f"the one before, {BEFORE}" in text for text in callback.said)
    assert same(folder, ended)
    assert result.test is not None


def test_two_damaged_states_are_one_line(dead: Path) -> None:
    folder = dead
    for name in run_folder.STATES:
        (folder / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"is damaged .* no other; train again"):
        resume(folder)


def test_the_state_of_another_network_is_refused(dead: Path) -> None:
    folder = dead
    text = (folder / RECIPE).read_text()
    edited = re.sub(r"(\nwidths = \[\s*8,\s*)16\b", r"\g<1>24", text)
    assert edited != text
    (folder / RECIPE).write_text(edited)
    with pytest.raises(InputError, match="is of another network, resnet20"):
        resume(folder)


def test_one_process_has_the_folder(dead: Path) -> None:
    folder = dead
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another process trains into"):
        resume(folder)
    os.close(other)
    resume(folder)


def test_overwriting_takes_a_run_and_nothing_else(dead: Path) -> None:
    folder = dead
    recipe = make_recipe(model=NETWORK, size=8, epochs=1, batch_size=128)
    with pytest.raises(InputError, match="overwrite"):
        run_recipe(recipe, folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt, which is not a file of a run"):
        run_recipe(recipe, folder, overwrite=True)
    (folder / "notes.txt").unlink()
    run_recipe(recipe, folder, overwrite=True)
    assert len(read_log(folder)) == 1
    assert not (folder / STATE).exists()


def spoiled(module: torch.nn.Module, inputs: torch.Tensor, *rest: object, **more: object) -> object:
    """The real step, given infinite pixels at one batch."""
    spoiled.calls += 1
    if spoiled.calls in spoiled.at:
        inputs = inputs * float("inf")
    return train_step(module, inputs, *rest, **more)


def test_nan_names_the_images_and_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE_OF_DEAD
    monkeypatch.setattr("resnetkit.training.trainer.train_step", spoiled)
    spoiled.calls, spoiled.at = 0, {4}
    folder = tmp_path / "run"
    with pytest.raises(DivergedError, match=r"epoch 1, batch 4: digits/\d+, .* and 125 more") as e:
        run_recipe(recipe, folder)
    assert "\n" not in str(e.value)
    assert "skip_nan" in str(e.value)
    listed = [n.strip() for n in (folder / NAN).read_text().splitlines()[1:]]
    assert len(listed) == 128
    kept = checkpoint.load_state(folder, Callback().warn)
    assert kept.document["batch"] == 3
    assert all(value.isfinite().all() for value in kept.part("model").values())
    callback = After()
    spoiled.calls = 3
    resume(folder, callback, run_options=RunOptions(skip_nan=True))
    assert ["skipped: the loss became nan" in text for text in callback.said] == [True]
    spoiled.calls = 0
    run_recipe(recipe, tmp_path / "skips", After(), run_options=RunOptions(skip_nan=True))
    assert same(folder, tmp_path / "skips")
    spoiled.calls, spoiled.at = 0, set(range(1, 99))
    with pytest.raises(DivergedError, match="no batch of epoch 1 could be trained on"):
        run_recipe(recipe, tmp_path / "none", After(), run_options=RunOptions(skip_nan=True))


def test_a_step_that_is_not_made_changes_nothing() -> None:
    torch.manual_seed(0)
    module = resnetkit.build(NETWORK, num_classes=10)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    inputs, labels = torch.rand(8, 3, 16, 16), torch.arange(8)
    train_step(module, inputs, labels, optimizer, F.cross_entropy, StepOptions())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    momentum = {n: v.clone() for n, v in checkpoint.optimizer_arrays(module, optimizer).items()}
    with pytest.raises(NotFiniteError, match="loss became nan"):
        train_step(module, inputs * float("nan"), labels, optimizer, F.cross_entropy, StepOptions())
    hook = module.conv1.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFiniteError, match="gradient became"):
        train_step(module, inputs, labels, optimizer, F.cross_entropy, StepOptions())
    hook.remove()
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kept = checkpoint.optimizer_arrays(module, optimizer)
    assert all(torch.equal(momentum[name], kept[name]) for name in momentum)
    train_step(module, inputs, labels, optimizer, F.cross_entropy, StepOptions())
    assert not torch.equal(before["conv1.weight"], module.state_dict()["conv1.weight"])


@pytest.mark.parametrize("minutes", [-1.0, float("nan")])
def test_minutes_that_are_refused(minutes: float) -> None:
    with pytest.raises(InputError, match="checkpoint_minutes"):
        RunOptions(checkpoint_minutes=minutes)
