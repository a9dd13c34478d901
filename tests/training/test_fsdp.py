"""Weights divided over two processes: the run of whole ones, and files of the same form."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from filelock import FileLock
from launching import free_port, torchrun
from test_data_parallel import EVERYTHING, SMALL, Said, apart, tiny

import resnetkit
from resnetkit.errors import InputError
from resnetkit.training.callbacks import RunOptions
from resnetkit.training.checkpoint import load_state
from resnetkit.training.epoch_log import read_log
from resnetkit.training.fsdp import OLDEST, check_version
from resnetkit.training.run import resume, run_recipe

#: Batches of which the last leaves a process without images; two of them are measured.
FULL = f"{EVERYTHING} --batch-size 1166 --optimizer"
CASES = {
    "sgd": f"{FULL} sgd",
    "lamb": f"{FULL} lamb",
    "bf16": "--batch-size 290 --lr 0.02 --precision bf16",
    "bf16-all": f"{EVERYTHING} --batch-size 290 --grad-accum-steps 2 --precision bf16",
    "pieces": "--batch-size 290 --grad-accum-steps 3 --freeze 1 --lr 0.02 --class-weights balanced",
}

#: The largest difference of a weight: the same bits, and where bf16 rounds sums in another order.
LIMITS = {"bf16": 1e-30, "bf16-all": 1e-3}


def both(folder: Path, orders: list[tuple[str, list[Any], str]]) -> dict[str, list[dict[str, Any]]]:
    """The answers of two processes to ``orders``, see ``workers.py``."""
    lines = [(name, ["train", *map(str, words)], around) for name, words, around in orders]
    (folder / "orders.json").write_text(json.dumps(lines))
    started = torchrun(
        *("--nproc-per-node", 2, "--master-port", free_port()),
        *(Path(__file__).with_name("workers.py"), folder / "orders.json", folder),
    )
    _, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    return {
        name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
        for name, _, _ in orders
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "divided"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, list[dict[str, Any]]]:
    """The answers of two processes; the first worker that asks waits for all runs."""
    kept = place / "found.json"
    with FileLock(place / "found.lock"):
        if not kept.exists():
            kept.write_text(json.dumps(done(place)))
    return json.loads(kept.read_text())


def done(place: Path) -> dict[str, list[dict[str, Any]]]:
    orders: list[tuple[str, list[Any], str]] = []
    for name, words in CASES.items():
        given = ["digits", *SMALL, "--epochs", 2, *words.split(), "--out"]
        orders.append((f"{name}-whole", [*given, place / f"{name}-whole"], "nothing"))
        orders.append((f"{name}-fsdp", [*given, place / f"{name}-fsdp", "--fsdp"], "nothing"))
    given = ["digits", *SMALL, "--epochs", 2, *FULL.split(), "adamw", "--batch-size", 128]
    begun = [*given, "--fsdp", "--out"]
    stops = ("stopped", "alone", "divided", "whole")
    orders += [(name, [*begun, place / name], "terminated") for name in stops]
    orders.append(("divided-on", ["--resume", place / "divided", "--fsdp"], "nothing"))
    orders.append(("whole-on", ["--resume", place / "whole"], "nothing"))
    orders.append(("straight", [*given, "--fsdp", "--out", place / "straight"], "nothing"))
    orders.append(("nan", [*given, "--fsdp", "--skip-nan", "--out", place / "nan"], "nan"))
    compiled = [*given, "--fsdp", "--compile", "--out", place / "compiled"]
    orders.append(("compiled", compiled, "nothing"))
    return both(place, orders)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_run_of_whole_weights(
    name: str, found: dict[str, list[dict[str, Any]]], place: Path
) -> None:
    """Averages, norms over all processes, clipping, a process without images, validation."""
    one, two = (place / f"{name}-{kind}" for kind in ("whole", "fsdp"))
    for folder in (one, two):
        assert [answer["code"] for answer in found[folder.name]] == [0, 0], found[folder.name]
    for file in ("best.safetensors", "last.safetensors"):
        assert apart(one / file, two / file) < LIMITS.get(name, 1e-4)
    whole, divided = (resnetkit.load(folder / "last.safetensors") for folder in (one, two))
    assert whole.network == divided.network
    for row, other in zip(read_log(one), read_log(two), strict=True):
        assert row.loss == pytest.approx(other.loss, rel=max(LIMITS.get(name, 0), 1e-4))
        assert row.validation_loss == pytest.approx(other.validation_loss, rel=1e-3)
        assert row.validation_accuracy == pytest.approx(other.validation_accuracy, abs=2 / 269)


@pytest.mark.slow
def test_a_state_is_whole(found: dict[str, list[dict[str, Any]]], place: Path) -> None:
    assert [answer["code"] for answer in found["stopped"]] == [143, 143], found["stopped"]
    state = load_state(place / "stopped", Said().warn)
    assert state is not None
    module = resnetkit.load(place / "straight" / "last.safetensors").module()
    for name, parameter in module.named_parameters():
        for key in (f"model.{name}", f"average.module.{name}", f"optimizer.exp_avg.{name}"):
            assert state.arrays[key].shape == parameter.shape, key


@pytest.mark.slow
def test_a_run_goes_on_divided_or_not(found: dict[str, list[dict[str, Any]]], place: Path) -> None:
    """In the middle of an epoch, to the weights of a run that was not stopped."""
    for name in ("straight", "divided-on", "whole-on"):
        assert [answer["code"] for answer in found[name]] == [0, 0], found[name]
    callback = Said()
    resume(place / "alone", callback, run_options=RunOptions(fsdp=True))
    assert any("fsdp has no effect on a single process" in text for text in callback.said), (
        callback.said
    )
    straight = place / "straight" / "last.safetensors"
    for name in ("divided", "whole", "alone"):
        assert apart(straight, place / name / "last.safetensors") < 1e-4, name
    # The same bits where nothing is divided otherwise.
    one, two = (
        safetensors.torch.load_file(path) for path in (straight, place / "divided" / straight.name)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_what_is_wrong_in_one_process(found: dict[str, list[dict[str, Any]]], place: Path) -> None:
    assert [answer["code"] for answer in found["nan"]] == [0, 0], found["nan"]
    (line,) = "".join(answer["err"] for answer in found["nan"]).splitlines()
    assert "skipped: the loss became nan in epoch 1, batch 2: digits/" in line
    assert [answer["code"] for answer in found["compiled"]] == [2, 2]
    (line,) = "".join(answer["err"] for answer in found["compiled"]).splitlines()
    assert "divided by --fsdp cannot be compiled; leave --fsdp or --compile out" in line
    assert not (place / "compiled").exists()


def test_a_single_process_keeps_all(tmp_path: Path) -> None:
    callback = Said()
    run_recipe(tiny(batch_size=128), tmp_path / "run", callback, run_options=RunOptions(fsdp=True))
    assert callback.said == ["fsdp has no effect on a single process, which keeps all weights"]
    with pytest.raises(InputError, match="cannot be compiled; leave fsdp or compile out"):
        run_recipe(
            tiny(batch_size=128, compile=True),
            tmp_path / "other",
            callback,
            run_options=RunOptions(fsdp=True),
        )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("version", ["2.6.0+cu124", "2.8.0"])
def test_an_old_torch_is_refused(version: str) -> None:
    """2.6 fails between CPUs, and 2.7 and 2.8 train to other weights."""
    check_version(f"{OLDEST}.0+cpu")
    check_version("2.14.1")
    with pytest.raises(
        InputError, match=f"fsdp requires torch {OLDEST} or later, and this is {re.escape(version)}"
    ):
        check_version(version)


def test_a_run_looks_at_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnetkit.training.fsdp.OLDEST", "99.1")
    with pytest.raises(InputError, match=r"fsdp requires torch 99\.1"):
        run_recipe(
            tiny(batch_size=128), tmp_path / "run", Said(), run_options=RunOptions(fsdp=True)
        )
    assert not (tmp_path / "run").exists()


#: The share of weights and moments that a process has, of a network with wide layers.
MEASURED = """
import os, sys
from pathlib import Path
from unittest.mock import patch
import resnetkit
from resnetkit.cli.main import main
from resnetkit.training import trainer

real = trainer.Trainer._finish_epoch
def finish(self, row):
    held = [p.to_local() if self.run_options.fsdp else p for p in self.module.parameters()]
    states = [v for s in self.optimizer.state.values() for v in s.values() if v.ndim]
    held += [v.to_local() if self.run_options.fsdp else v for v in states]
    size = sum(v.untyped_storage().nbytes() for v in held)
    Path(sys.argv[1], os.environ["RANK"]).write_text(str(size))
    real(self, row)
with patch.object(trainer.Trainer, "_finish_epoch", finish):
    raise SystemExit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_process_has_half_of_the_weights_and_moments(tmp_path: Path) -> None:
    script = tmp_path / "measured.py"
    script.write_text(MEASURED)
    sizes = {}
    for kind in ("", "--fsdp"):
        folder = tmp_path / f"sizes{kind}"
        folder.mkdir()
        started = torchrun(
            *("--nproc-per-node", 2, "--master-port", free_port(), script, folder, "train"),
            *("digits", *SMALL, "--widths", "64,128", "--optimizer", "adamw", "--epochs", 1),
            *("--batch-size", 580, "--lr", 0.001, "--out", tmp_path / f"run{kind}"),
            *([kind] if kind else []),
        )
        _, errors = started.communicate(timeout=300)
        assert started.returncode == 0, errors
        sizes[kind] = [int((folder / str(rank)).read_text()) for rank in (0, 1)]
    whole = sizes[""][0]
    assert all(size == pytest.approx(whole / 2, rel=0.05) for size in sizes["--fsdp"]), sizes
