"""Precision, compiled steps, the wait for data, memory: faster, and the same run after a kill."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.training import checkpoint, precision
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.data.wait_timer import Waiting
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from resnetkit.training.run_folder import LAST, read_recipe
from resnetkit.training.step.allocator import keep_memory
from resnetkit.training.step.compile import compiled
from resnetkit.training.step.dry_run import DryRun
from resnetkit.training.step.optimization_step import StepOptions, train_step

NETWORK = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))

SMALLEST = NETWORK.override(depths=(1,), widths=(4,), stem_widths=(4,), num_classes=10, in_chans=1)


def recipe(**choices: object) -> Recipe:
    given = {"size": 8, "epochs": 1, "batch_size": 256, "threads": 1, **choices}
    return make_recipe("digits", NETWORK, **given)


class After(Callback):
    """Dies after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / LAST)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def die_and_go_on(chosen: Recipe, folder: Path) -> dict[str, torch.Tensor]:
    with pytest.raises(KeyboardInterrupt):
        run_recipe(chosen, folder, After(3), run_options=RunOptions(checkpoint_minutes=0))
    resume(folder)
    return weights(folder)


def test_bf16_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    chosen = recipe(precision="bf16")
    run_recipe(chosen, tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    assert same(die_and_go_on(chosen, tmp_path / "died"), whole)
    assert all(value.dtype != torch.bfloat16 for value in whole.values())
    run_recipe(recipe(precision="fp32"), tmp_path / "fp32")
    assert not same(weights(tmp_path / "fp32"), whole)


@pytest.mark.slow
def test_a_compiled_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    # Two shapes are compiled, for the last batch is smaller.
    chosen = recipe(compile=True).override(network=SMALLEST)
    run_recipe(chosen, tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    assert same(die_and_go_on(chosen, tmp_path / "died"), whole)
    run_recipe(chosen.override(compile=False), tmp_path / "eager")
    assert whole.keys() == weights(tmp_path / "eager").keys()


@pytest.mark.slow
def test_a_compiled_step_is_the_step() -> None:
    torch.manual_seed(0)
    network = resnetkit.network("resnet20", depths=(1,), widths=(4,), stem_widths=(4,))
    modules = [resnetkit.build(network, num_classes=3) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    inputs, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    logits = []
    for module, forward in zip(modules, (None, compiled(modules[1])), strict=True):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        logits.append(
            train_step(
                module, inputs, labels, optimizer, F.cross_entropy, StepOptions(forward=forward)
            )
        )
    torch.testing.assert_close(*logits)
    states = [module.state_dict() for module in modules]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name)


def test_without_a_compiler_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    out = tmp_path / "run"
    assert main(["train", "digits", "--compile", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("resnetkit: --compile requires a C++ compiler, but there is no g++")
    assert said.count("\n") == 1
    assert not out.exists()
    monkeypatch.setenv("CXX", "nothing-of-that-name")
    with pytest.raises(InputError, match="there is no nothing-of-that-name"):
        compiled(resnetkit.build(NETWORK))


def test_auto_takes_what_was_measured_and_writes_it_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    assert precision.settled(recipe()).runtime.precision == "fp32"
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    before = torch.get_rng_state()
    chosen = precision.settled(recipe()).runtime.precision
    assert torch.equal(torch.get_rng_state(), before)
    (path,) = (tmp_path / "cache" / "probes").iterdir()
    seconds = json.loads(path.read_text())["seconds"]
    assert chosen == ("bf16" if seconds["fp32"] > precision.GAIN * seconds["bf16"] else "fp32")
    # What is remembered is taken, and belongs to the run.
    text = path.read_text().replace(f'"precision": "{chosen}"', '"precision": "bf16"')
    path.write_text(text)
    run_recipe(recipe(), tmp_path / "run")
    assert read_recipe(tmp_path / "run").runtime.precision == "bf16"
    path.write_text("nothing")
    chosen = precision.settled(recipe()).runtime.precision
    seconds = json.loads(path.read_text())["seconds"]
    assert chosen == ("bf16" if seconds["fp32"] > precision.GAIN * seconds["bf16"] else "fp32")
    monkeypatch.setattr(precision, "probed", lambda _: {"fp32": 1.6, "bf16": 1.0})
    assert precision.settled(recipe(batch_size=20)).runtime.precision == "bf16"
    monkeypatch.setattr(precision, "probed", lambda _: {"fp32": 1.4, "bf16": 1.0})
    assert precision.settled(recipe(batch_size=22)).runtime.precision == "fp32"


def test_the_wait_for_data_is_measured(tmp_path: Path) -> None:
    def items() -> object:
        for number in range(3):
            time.sleep(0.05)
            yield number

    waiting = Waiting(items())
    for _ in waiting:
        time.sleep(0.1)
    assert 0.15 <= waiting.seconds < 0.45
    with pytest.raises(KeyboardInterrupt):
        run_recipe(
            recipe(), tmp_path / "run", After(3), run_options=RunOptions(checkpoint_minutes=0)
        )
    kept = checkpoint.load_state(tmp_path / "run", print)
    assert kept is not None
    assert 0 < kept.document["waited"] < kept.document["seconds"]
    (row,) = resume(tmp_path / "run").rows
    assert 0 < row.waited < 1


def test_memory_is_held_on_to() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.empty(48 << 20, dtype=torch.uint8).fill_(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    usual = faults()
    with keep_memory():
        faults()
        held = faults()
    assert 10 * held < usual
    assert faults() > 10 * held


def test_the_probe_steps_on_whole_batches_of_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 of 28 pixels are too few to see what bf16 gains in batches of 256."""
    taken: list[int] = []
    real = DryRun.inputs

    def inputs(tried: DryRun, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        taken.append(batch)
        return real(tried, batch)

    monkeypatch.setattr(DryRun, "inputs", inputs)
    monkeypatch.setattr(DryRun, "step", lambda *_, **__: None)  # slow where there is no bf16
    for choices in ({"size": 8}, {"size": 8, "batch_size": 20}, {"size": 112}, {"size": 224}):
        precision.probed(recipe(**choices))
    assert taken == [256, 20, 128, 32]
