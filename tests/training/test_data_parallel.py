"""Two processes under torchrun: they see what one sees, make the same steps, and end together."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from filelock import FileLock
from launching import free_port, torchrun
from workers import at_step, first_gradients, infinite, one_step_in_float64

import resnetkit
from photographs import write_classes
from resnetkit.data.datasets.readability import FILE as BAD
from resnetkit.errors import InputError
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.checkpoint import load_state
from resnetkit.training.distributed import Processes
from resnetkit.training.epoch_log import read_log
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from resnetkit.training.run_folder import NAN, STATES

SMALL = (
    "--model resnet20 --depths 1,1 --widths 8,16 --stem-widths 8 --size 8 --threads 1 "
    "--precision fp32"
).split()
NETWORK = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
#: All that is drawn, weighed or averaged over a batch. Of 1169 images, in batches of 290 the last
#: is of 9, and in batches of 1166 of 3, which one process takes alone.
EVERYTHING = (
    "--sync-bn --mixup 0.4 --cutmix 1 --drop-path 0.3 --ema-decay 0.5 --clip-grad 0.5 --lr 0.02"
)
WEIGHED = "--sync-bn --class-weights balanced --drop-path 0.3 --lr 0.02"
CHOICES: dict[str, Any] = {
    "sync_bn": True,
    "mixup": 0.4,
    "cutmix": 1.0,
    "drop_path": 0.3,
    "ema_decay": 0.5,
    "clip_grad": 0.5,
    "lr": 0.02,
}


class Said(Callback):
    def __init__(self, batches: int = 0) -> None:
        self.said, self.left = list[str](), batches

    def warn(self, text: str) -> None:
        self.said.append(text)

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def one(recipe: Recipe, folder: Path, *, skip_nan: bool = False) -> Path:
    """The run of a single process."""
    run_recipe(recipe, folder, Said(), run_options=RunOptions(skip_nan=skip_nan))
    return folder


def tiny(**choices: Any) -> Recipe:
    return make_recipe(
        model=NETWORK,
        size=8,
        **{"epochs": 1, "threads": 1, "seed": 0, "precision": "fp32", **choices},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "together"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, list[dict[str, Any]]]:
    """What two processes have done, run after run: the answers of rank 0 and 1.

    It takes half a minute, so the first worker that asks does it for all.
    """
    kept = place / "found.json"
    with FileLock(place / "found.lock"):
        if not kept.exists():
            kept.write_text(json.dumps(done(place)))
    return json.loads(kept.read_text())


def done(place: Path) -> dict[str, list[dict[str, Any]]]:
    data = write_classes(place / "data", 12, classes=("brick", "coffee"))
    (data / "brick" / "03.jpg").write_bytes(b"no image")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(
            tiny(batch_size=128),
            place / "begun",
            Said(5),
            run_options=RunOptions(checkpoint_minutes=0),
        )
    pictures = [str(data), "--max-bad", "0.2", "--size", 16, "--batch-size", 4]
    orders: dict[str, tuple[list[object], str]] = {
        "short": (["digits", "--batch-size", 290, *EVERYTHING.split()], "nothing"),
        "idle": (["digits", "--batch-size", 1166, *EVERYTHING.split()], "nothing"),
        "exact": (["digits", "--batch-size", 290, *EVERYTHING.split()], "float64"),
        "weighed": (
            [
                "digits",
                "--batch-size",
                290,
                *WEIGHED.split(),
            ],
            "nothing",
        ),
        "apart": (
            ["digits", "--batch-size", 128, "--grad-accum-steps", 2, "--epochs", 2],
            "nothing",
        ),
        "odd": (["digits", "--batch-size", 65], "nothing"),
        "nan": (["digits", "--batch-size", 128], "nan"),
        "left": (["digits", "--batch-size", 128, "--skip-nan"], "nan"),
        "synced": (["digits", "--batch-size", 290, "--skip-nan", *EVERYTHING.split()], "nan"),
        "full": (["digits", "--batch-size", 128, "--checkpoint-minutes", 0], "full"),
        "stopped": (["digits", "--batch-size", 128], "terminated"),
        "late": (["digits", "--batch-size", 128], "late"),
        "unread": (pictures, "unread"),
        "begun": (["--resume", place / "begun"], "nothing"),
    }
    lines = []
    for name, (words, around) in orders.items():
        more = [] if "--resume" in words else [*SMALL, "--epochs", 1, "--out", place / name]
        # The last of two values is taken.
        lines.append((name, ["train", words[0], *map(str, [*more, *words[1:]])], around))
    (place / "orders.json").write_text(json.dumps(lines))
    started = torchrun(
        *("--nproc-per-node", 2, "--master-port", free_port()),
        *(Path(__file__).with_name("workers.py"), place / "orders.json", place),
    )
    _, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    return {
        name: [json.loads((place / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
        for name in orders
    }


def steps(answers: list[dict[str, Any]]) -> dict[tuple[int, int], list[str]]:
    """The images of each step, of rank 0 and then of rank 1."""
    joined: dict[tuple[int, int], list[str]] = {}
    for answer in answers:
        for epoch, batch, names in answer["seen"]:
            joined.setdefault((epoch, batch), []).extend(names)
    return joined


@pytest.mark.slow
def test_every_image_once_in_the_batches_of_one_process(
    found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    joined = steps(found["apart"])
    assert sorted(joined) == [(epoch, batch) for epoch in (0, 1) for batch in range(10)]
    train_names = json.loads((place / "apart" / "split.json").read_text())["parts"]["train"]
    for epoch in (0, 1):
        names = Counter(name for at, found in joined.items() if at[0] == epoch for name in found)
        assert names == Counter(list(train_names))
    # The order is that of one process.
    from resnetkit.training import trainer

    seen, real = dict[tuple[int, int], list[str]](), trainer.Trainer.step

    def step(self: Any, epoch: int, batch: Any) -> int:
        seen[epoch, self.batch] = [example.name for example in batch.examples]
        return real(self, epoch, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", step)
        one(tiny(batch_size=128, epochs=2), place / "alone")
    assert seen == joined
    assert [len(names) for _, _, names in found["apart"][1]["seen"][:10]] == [64] * 9 + [8]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch"), [("short", 290), ("idle", 1166)])
def test_the_same_weights_as_one_process(
    name: str, batch: int, found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    """Gradients, norms, mixed images, skipped blocks, averages and metrics."""
    assert [answer["code"] for answer in found[name]] == [0, 0], found[name]
    compare(tiny(batch_size=batch, **CHOICES), place / name)
    sizes = [[len(names) for _, _, names in answer["seen"]] for answer in found[name]]
    last = {"short": (5, 4), "idle": (3, 0)}[name]
    assert tuple(rank[-1] for rank in sizes) == last


@pytest.mark.slow
def test_the_same_gradients_as_one_process(
    found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    """In float64, and to its rounding: mixed images, skipped blocks, norms and clipping."""
    assert [answer["code"] for answer in found["exact"]] == [130, 130], found["exact"]
    kept = first_gradients(place / "exact.gradients")
    with kept, one_step_in_float64(), pytest.raises(KeyboardInterrupt):
        one(tiny(batch_size=290, **CHOICES), place / "exact-alone")
    assert apart(place / "exact.gradients", place / "exact-0.gradients") < 1e-9


@pytest.mark.slow
def test_class_weights_count_over_the_whole_batch(
    found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    assert [answer["code"] for answer in found["weighed"]] == [0, 0]
    recipe = tiny(batch_size=290, sync_bn=True, class_weights="balanced", drop_path=0.3, lr=0.02)
    compare(recipe, place / "weighed")


def vector(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    values = [tensors[name].double().flatten() for name in sorted(tensors)]
    return torch.cat([value for value in values if value.numel() > 1])


def apart(first: Path, second: Path) -> float:
    """How far apart two files of tensors are, as a share of how long they are."""
    one, two = (safetensors.torch.load_file(path) for path in (first, second))
    assert one.keys() == two.keys()
    return float((vector(one) - vector(two)).norm() / vector(one).norm())


def compare(recipe: Recipe, together: Path, *, skip_nan: bool = False) -> None:
    """A run of two processes with one of a single process."""
    alone = together.with_name(f"{together.name}-alone")
    one(recipe, alone, skip_nan=skip_nan)
    # Rounding in float32 is carried on, and a ReLU that it turns makes a difference of its own.
    assert apart(alone / "last.safetensors", together / "last.safetensors") < 1e-4
    (one_row,), (two_row,) = read_log(alone), read_log(together)
    assert one_row.loss == pytest.approx(two_row.loss, rel=1e-4)
    assert one_row.accuracy == pytest.approx(two_row.accuracy, abs=2 / 1169)
    assert one_row.validation_accuracy == pytest.approx(two_row.validation_accuracy, abs=1 / 269)
    assert one_row.validation_loss == pytest.approx(two_row.validation_loss, rel=1e-4)
    tests = [resnetkit.load(p / "best.safetensors").measured["test"] for p in (alone, together)]
    assert tests[0]["images"] == tests[1]["images"] == 359
    assert tests[0]["loss"] == pytest.approx(tests[1]["loss"], rel=1e-4)


@pytest.mark.slow
def test_only_rank_0_speaks_and_writes(found: dict[str, list[dict[str, Any]]], place: Path) -> None:
    first, second = found["apart"]
    assert "epoch 2/2" in first["out"]
    assert "written to" in first["out"]
    assert second["out"] + second["err"] + first["err"] == ""
    assert {p.name for p in (place / "apart").iterdir()} == {
        *("best.safetensors", "confusion.png", "curves.png", "last.safetensors"),
        *("log.jsonl", "recipe.toml", "report.html", "split.json"),
    }


def one_line(answers: list[dict[str, Any]], code: int) -> str:
    """The only line that was printed on stderr by both, which ended with ``code``."""
    assert [answer["code"] for answer in answers] == [code, code], answers
    (line,) = "".join(answer["err"] for answer in answers).splitlines()
    return line


@pytest.mark.slow
def test_what_is_wrong_in_one_process_ends_both_with_one_line(
    found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    line = one_line(found["odd"], 2)
    assert "--batch-size is 65" in line
    assert "e.g. 64 or 66" in line
    assert not (place / "odd").exists()
    line = one_line(found["nan"], 2)
    assert "loss became nan in epoch 1, batch 2: digits/" in line
    assert "and 125 more" in line
    names = [n.strip() for n in (place / "nan" / NAN).read_text().splitlines()[1:]]
    assert names == steps(found["nan"])[0, 1]
    line = one_line(found["full"], 2)
    assert "cannot write" in line
    assert f"--resume {place / 'full'}" in line


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batches"), [("left", 10), ("synced", 5)])
def test_a_batch_that_is_no_number_in_one_process_is_left_out_by_both(
    name: str, batches: int, found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    line = one_line(found[name], 0)
    assert "skipped: the loss became nan in epoch 1, batch 2: digits/" in line
    listed = [n.strip() for n in (place / name / NAN).read_text().splitlines()[1:]]
    assert listed == steps(found[name])[0, 1]
    assert len(steps(found[name])) == batches
    kept = safetensors.torch.load_file(place / name / "last.safetensors")
    assert all(value.isfinite().all() for value in kept.values())


@pytest.mark.slow
def test_the_same_weights_as_one_process_that_leaves_that_batch_out(
    found: dict[str, list[dict[str, Any]]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [answer["code"] for answer in found["synced"]] == [0, 0]
    monkeypatch.setattr("workers.RANK", 1)
    with at_step(2, 1, infinite):
        compare(tiny(batch_size=290, **CHOICES), place / "synced", skip_nan=True)


@pytest.mark.slow
def test_a_signal_to_one_ends_both_after_a_checkpoint(
    found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    first, second = found["stopped"]
    assert (first["code"], second["code"]) == (143, 143)
    assert second["err"] == ""
    assert f"--resume {place / 'stopped'}" in first["err"].splitlines()[0]
    assert len(first["seen"]) == 3
    callback = Said()
    result = resume(place / "stopped", callback)
    assert callback.said == [
        "the run had 2 process(es) and has 1 now; norms see 128 images at a time instead of 64"
    ]
    assert result.test is not None
    assert not any((place / "stopped" / name).exists() for name in STATES)


@pytest.mark.slow
def test_a_signal_after_all_were_asked_ends_both_a_step_later(
    found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    first, second = found["late"]
    assert (first["code"], second["code"], second["err"]) == (143, 143, "")
    assert f"--resume {place / 'late'}" in first["err"].splitlines()[0]
    assert (len(first["seen"]), len(second["seen"])) == (4, 4)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(found: dict[str, list[dict[str, Any]]]) -> None:
    first, second = found["begun"]
    assert "has 2 now; norms see 64 images at a time instead of 128" in first["err"]
    assert "after 512 images" in first["out"]
    assert min(batch for _, batch, _ in first["seen"]) == 4
    assert (first["code"], second["code"], second["err"]) == (0, 0, "")


@pytest.mark.slow
def test_images_that_one_process_cannot_read(
    found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    first, second = found["unread"]
    assert (first["code"], second["code"], second["err"]) == (0, 0, ""), found["unread"]
    text = (place / "unread" / BAD).read_text()
    assert text == "brick/03.jpg: not an image, or of an unsupported format\n"
    assert (
        first["err"]
        == "resnetkit: skipped brick/03.jpg: not an image, or of an unsupported format\n"
    )
    readable = Counter(name for names in steps(found["unread"]).values() for name in names)
    record = json.loads((place / "unread" / "split.json").read_text())
    assert readable == Counter(set(record["parts"]["train"]) - {"brick/03.jpg"})


@pytest.mark.parametrize(
    ("count", "world", "shares"),
    [(8, 2, [4, 4]), (9, 2, [5, 4]), (3, 2, [3, 0]), (5, 4, [3, 2, 0, 0]), (1, 2, [1, 0]),
     (7, 3, [3, 2, 2]), (0, 2, [0, 0]), (65, 4, [17, 16, 16, 16])],
)  # fmt: skip
def test_shares(count: int, world: int, shares: list[int]) -> None:
    parts = [Processes(rank=rank, world=world) for rank in range(world)]
    assert parts[0].shares(count) == shares
    assert [n for part in parts for n in part.share(range(count))] == list(range(count))


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ({"batch_size": 66}, "66 for 4 processes; it must be a multiple of 4.* e.g. 64 or 68"),
        ({"batch_size": 4}, "e.g. 8 or 12"),
        ({"batch_size": 64, "grad_accum_steps": 9}, "grad_accum_steps is 9 for 16 images"),
        ({"batch_size": 64, "device": "cuda:1"}, "is one GPU for 4 processes"),
        ({"batch_size": 64, "device": "cuda"}, r"4 processes and this machine has \d+ GPUs"),
    ],
)
def test_what_cannot_be_divided(choices: dict[str, Any], match: str) -> None:
    four = Processes(world=4, local=4)
    device = choices.pop("device", "cpu")
    recipe = tiny(**choices).override(device=device)
    with pytest.raises(InputError, match=match):
        four.check(recipe)
    Processes().check(recipe.override(device="cpu"))


def workers_of(agent: int) -> list[int]:
    """The processes that torchrun has started, in the order of ranks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == agent:
            found.append(int(path.parent.name))
    return sorted(found)


def killed_and_finished(folder: Path, kills: int, rank: int) -> str:
    """A run one of whose processes is killed so many times; what was printed on stderr."""
    started = torchrun(
        *("--nproc-per-node", 2, "--max-restarts", kills, "--master-port", free_port()),
        *(
            "-m",
            "resnetkit",
            "train",
            "digits",
            *SMALL,
            "--batch-size",
            128,
            "--grad-accum-steps",
            2,
        ),
        *("--epochs", 2 + 2 * kills, "--checkpoint-minutes", 0, "--out", folder),
    )
    for number in range(kills):
        while started.poll() is None and len(rows_of(folder)) < 1 + 2 * number:
            time.sleep(0.005)
        assert started.poll() is None, started.communicate()
        os.kill(workers_of(started.pid)[rank], signal.SIGKILL)
    _, errors = started.communicate(timeout=600)
    assert started.returncode == 0, errors
    return errors


def rows_of(folder: Path) -> list[str]:
    log = folder / "log.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def check_whole(folder: Path, epochs: int) -> None:
    rows = read_log(folder)
    assert [row.epoch for row in rows] == list(range(1, epochs + 1))
    assert resnetkit.load(folder / "best.safetensors").measured["test"]["images"] == 359
    assert not any((folder / name).exists() for name in STATES)


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_the_run_goes_on(tmp_path: Path) -> None:
    errors = killed_and_finished(tmp_path / "run", 1, 1)
    said = [line for line in errors.splitlines() if line.startswith("resnetkit: ")]
    assert len(said) == 2, said
    assert "another process of this run has died" in said[0]
    assert said[1] == (
        f"resnetkit: torchrun has restarted the processes; resuming {tmp_path / 'run'}"
    )
    check_whole(tmp_path / "run", 4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_torchrun_ends_all_after_a_checkpoint(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    # Epochs of 292 steps, so that the signal comes in the middle of one.
    words = ("train", "digits", *SMALL, "--batch-size", 4, "--epochs", 3, "--out", folder)
    launch = ("--nproc-per-node", 2, "--master-port")
    started = torchrun(*launch, free_port(), "-m", "resnetkit", *words)
    while started.poll() is None and not rows_of(folder):
        time.sleep(0.005)
    time.sleep(read_log(folder)[0].seconds / 2)
    # A terminal sends Ctrl-C to torchrun alone, for it starts processes in sessions of their own.
    started.send_signal(number)
    _, errors = started.communicate(timeout=300)
    assert started.returncode != 0
    said = [line for line in errors.splitlines() if line.startswith("resnetkit: ")]
    assert said == [
        f"resnetkit: {folder} can be continued: torchrun ... -m resnetkit train --resume {folder}",
        f"resnetkit: {'interrupted' if number == signal.SIGINT else 'terminated'}",
    ]
    state = load_state(folder, Callback().warn)
    assert state is not None
    # After the last one where the epoch went faster than half of the first.
    assert 0 < state.document["batch"] <= 292
    assert len(read_log(folder)) == 1
    again = torchrun(*launch, free_port(), "-m", "resnetkit", "train", "--resume", folder)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    check_whole(folder, 3)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_again_and_again_the_weights_are_the_same(rank: int, tmp_path: Path) -> None:
    killed_and_finished(tmp_path / "killed", 4, rank)
    whole = torchrun(
        *("--nproc-per-node", 2, "--master-port", free_port()),
        *(
            "-m",
            "resnetkit",
            "train",
            "digits",
            *SMALL,
            "--batch-size",
            128,
            "--grad-accum-steps",
            2,
        ),
        *("--epochs", 10, "--out", tmp_path / "whole"),
    )
    whole.communicate(timeout=600)
    check_whole(tmp_path / "killed", 10)
    first, second = (
        safetensors.torch.load_file(tmp_path / name / "last.safetensors")
        for name in ("killed", "whole")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
