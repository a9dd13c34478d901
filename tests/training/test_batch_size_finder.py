"""``--batch-size auto``: what fits, what is fast, and where it is written down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor

import resnetkit
from resnetkit.cli.main import main
from resnetkit.training import batch_size_finder
from resnetkit.training.batch_size_finder import Trial, available_memory, find_batch_size
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run_folder import read_recipe
from resnetkit.training.step.dry_run import DryRun

TINY = resnetkit.network("resnet20", depths=(1,), widths=(8,), stem_widths=(8,))
CHOICES = "--model resnet20 --depths 1 --widths 8 --stem-widths 8 --size 8 --epochs 1".split()
GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_memory_that_is_free(tmp_path: Path) -> None:
    meminfo = {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:  8388608 kB\n"}
    assert available_memory(write(tmp_path / "a", meminfo)) == 8 * GIB
    group = {
        **meminfo,
        "proc/self/cgroup": "0::/jobs/one\n",
        "sys/fs/cgroup/jobs/one/memory.max": "max\n",
        "sys/fs/cgroup/jobs/one/memory.current": f"{GIB}\n",
        "sys/fs/cgroup/jobs/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/jobs/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/jobs/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }
    assert available_memory(write(tmp_path / "b", group)) == 2 * GIB, "that of the group above"
    outside = {
        **meminfo,
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/0f\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
    }
    assert available_memory(write(tmp_path / "c", outside)) == GIB, "version 1, in a container"
    assert available_memory(tmp_path / "nothing") > GIB / 4
    assert available_memory() > GIB / 4


def test_the_fastest_is_chosen() -> None:
    told: list[Trial] = []
    fitted = find_batch_size(make_recipe("digits", TINY, size=8), 600, on_progress=told.append)
    assert [trial.batch for trial in told] == [4, 8, 16, 32, 64][: len(told)]
    assert list(fitted.tried) == told
    rates = {trial.batch: trial.rate for trial in told}
    assert rates[fitted.batch] * 1.05 >= max(rates.values())
    assert all(rate * 1.05 < max(rates.values()) for b, rate in rates.items() if b < fitted.batch)
    assert fitted.batch > 4, "a batch of four is never the fastest with so small a network"
    assert find_batch_size(make_recipe("digits", TINY, size=8), 70).batch <= 8, (
        "eight steps an epoch"
    )


def test_it_is_measured_in_the_precision_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    real = DryRun.step

    def step(tried: DryRun, inputs: tuple[Tensor, Tensor], *, bf16: bool) -> None:
        asked.append(bf16)
        real(tried, inputs, bf16=bf16)

    monkeypatch.setattr(DryRun, "step", step)
    for precision in ("bf16", "fp32"):
        asked.clear()
        find_batch_size(make_recipe("digits", TINY, size=8, precision=precision), 40)
        assert set(asked) == {precision == "bf16"}
    asked.clear()
    monkeypatch.setattr(
        batch_size_finder, "settled", lambda recipe: recipe.override(precision="bf16")
    )
    find_batch_size(make_recipe("digits", TINY, size=8), 40)
    assert set(asked) == {True}


#: In a process of its own, which has freed 128 MB that lie below something in use.
_SMALL = """
import torch
import resnetkit
from resnetkit.training import batch_size_finder
from resnetkit.training.batch_size_finder import find_batch_size
from resnetkit.training import make_recipe
# Speeds, which vary, are not to end it before memory does.
batch_size_finder._is_flat = lambda tried: False
tiny = resnetkit.network("resnet20", depths=(1,), widths=(8,), stem_widths=(8,))
recipe = make_recipe("digits", tiny, size=96)
freed = [torch.zeros(1 << 14) for _ in range(2000)]
above = torch.zeros(8)
del freed
try:
    find_batch_size(recipe, 10_000, available=1 << 20)
except ValueError as error:
    print(error)
fitted = find_batch_size(recipe, 10_000, available=80 << 20)
print(fitted.batch, fitted.tried[-1].batch, fitted.tried[-1].rate, fitted.why)
"""


@pytest.mark.slow
def test_what_does_not_fit() -> None:
    """At 96 pixels an image takes some megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", _SMALL], check=True, capture_output=True, text=True
    )
    refused, found = done.stdout.splitlines()
    assert refused.startswith("not even a batch of 4 fits into memory")
    batch, last, rate, why = found.split(maxsplit=3)
    assert rate == "None"
    assert 4 <= int(batch) < int(last) <= 64
    assert why == f"{last} do not fit into memory"


def test_the_number_is_in_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "digits", *CHOICES, "--batch-size", "auto", "--out", str(run)]) == 0
    said = capsys.readouterr().err
    recipe = read_recipe(run)
    assert f"resnetkit: batches of {recipe.batch_size}, for " in said
    assert recipe.optimizer.lr == pytest.approx(0.1 * min(64, recipe.batch_size) / 64)
    assert main(["train", "--resume", str(run)]) == 0
    assert read_recipe(run) == recipe
    assert main(["train", "digits", "--batch-size", "much"]) == 2
    assert "'much' is not a batch size; give a number, e.g. 32, or auto" in capsys.readouterr().err
