"""The parts of `gpu.py` about results: exactness, and a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import resnetkit
from gpu_steps import noise, recipe_of
from gpu_timing import (
    NotPossibleError,
    Setting,
)
from resnetkit.training.step.loss import criterion_of
from resnetkit.training.step.optimization_step import StepOptions, placed, train_step
from resnetkit.training.step.optimizer import optimizer_of, set_rate

# ------------------------------------------------------------------------- (1) exactness


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def exactness(setting: Setting) -> None:
    """Logits, gradients and weights after a step against torchvision's, float32 without TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    names = ("resnet18",) if setting.miniature else ("resnet18", "resnet50", "resnext50_32x4d")
    size, batch = (64, 2) if setting.miniature else (224, 32)
    for name in names:
        torch.manual_seed(0)
        theirs = getattr(torchvision.models, name)(weights=None).to(setting.device)
        ours = resnetkit.build(name).to(setting.device)
        images, labels = noise(batch, size, setting.device)
        with torch.no_grad():
            theirs.train()(images)  # statistics other than 0 and 1
        ours.load_state_dict(theirs.state_dict())
        logits(setting, name, ours.eval(), theirs.eval(), images)
        one_step(setting, name, ours, theirs, images, labels)


@torch.no_grad()
def logits(setting: Setting, name: str, ours: nn.Module, theirs: nn.Module, images: Tensor) -> None:
    expected = theirs(images)
    exact = theirs.double()(images.double())
    theirs.float()
    found = {"as torchvision lays it out": ours(images)}
    last = placed(images, str(setting.device))
    found["channels last"] = ours.to(memory_format=torch.channels_last)(last)
    ours.to(memory_format=torch.contiguous_format)
    for layout, rows in found.items():
        setting.write(
            "Logits against torchvision's, float32, TF32 off",
            network=name,
            layout=layout,
            bit_equal=torch.equal(rows, expected),
            differs_by=difference(rows, expected),
            ours_from_float64=difference(rows, exact),
            theirs_from_float64=difference(expected, exact),
        )


def one_step(
    setting: Setting, name: str, ours: nn.Module, theirs: nn.Module, images: Tensor, labels: Tensor
) -> None:
    recipe = recipe_of(name, images.shape[-1], len(images), str(setting.device), precision="fp32")
    theirs.train()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    F.cross_entropy(theirs(images), labels).backward()
    optimizer.step()
    mine = optimizer_of(ours, recipe)
    set_rate(mine, 0.01)
    train_step(ours, images, labels, mine, criterion_of(recipe, []), StepOptions())
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    for what, values in (
        ("gradients", [(one.grad, other.grad) for one, other in pairs]),
        ("weights after the step", [(one.detach(), other.detach()) for one, other in pairs]),
    ):
        setting.write(
            "A training step against torchvision's, float32, TF32 off",
            network=name,
            what=what,
            bit_equal=all(torch.equal(one, other) for one, other in values),
            differs_by=max(difference(one, other) for one, other in values),
        )


# --------------------------------------------------------------------------- (2) a whole run


def training(setting: Setting) -> None:
    """`resnetkit train` to the end, killed and resumed to the same bits, and on the processor."""
    data = str(setting.data) if setting.data else "digits"
    device = str(setting.device)
    words = [data, "--model", "resnet20", "--epochs", "2", "--seed", "1"]
    if setting.miniature:
        words += "--depths 1,1 --widths 8,16 --stem-widths 8 --size 8".split()
    words_of = {where: [*words, "--device", where] for where in (device, "cpu")}
    if setting.data:
        for one in words_of.values():
            one += ["--batch-size", "256", "--lr", "0.2"]
    whole = setting.folder / "whole"
    table = f"resnetkit train {Path(data).name}, resnet20, 2 epochs"
    setting.write(table, run="uninterrupted", device=device,
                  **trained(["--out", str(whole), *words_of[device]], whole))  # fmt: skip
    again = setting.folder / "again"
    starts = ["--out", str(again), *words_of[device], "--checkpoint-minutes", "0"]
    killed_at = killed(starts, again, 0.6 * setting.left)
    found = trained(["--resume", str(again)], again)
    setting.write(table, run=f"killed {killed_at}, resumed", device=device, **found,
                  bit_identical=same_bits(whole, again))  # fmt: skip
    if setting.gpu and setting.left < 40:
        setting.write(table, run="on the processor", device="cpu", error="no time left")
    elif setting.gpu:
        other = setting.folder / "cpu"
        setting.write(table, run="on the processor", device="cpu",
                      **trained(["--out", str(other), *words_of["cpu"]], other))  # fmt: skip


def command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "resnetkit", "train", *words]


def trained(words: list[str], folder: Path) -> dict[str, Any]:
    """Train to the end: seconds of the process and the epochs, and the test accuracy."""
    began = time.perf_counter()
    done = subprocess.run(command(words), capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotPossibleError(f"resnetkit train {' '.join(words)}: {said[-1]}")
    seconds = time.perf_counter() - began
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    measured = resnetkit.load(folder / "best.safetensors").measured
    return {
        "seconds": seconds,
        "epoch_s": rows[-1]["seconds"],
        "images_s": rows[-1]["rate"],
        "waited": rows[-1]["waited"],
        "test_accuracy": measured["test"]["accuracy"],
    }


def killed(words: list[str], folder: Path, limit: float) -> str:
    """Start a run and kill it within its second epoch; says where that was."""
    process = subprocess.Popen(command(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end, log = time.monotonic() + limit, folder / "log.jsonl"
    state = folder / "state.safetensors"
    seen: set[int] = set()
    while process.poll() is None and time.monotonic() < end and len(seen) < 4:
        # Each step saves a state; after the first epoch a few more, to be within the second.
        with suppress(FileNotFoundError):
            if log.exists():
                seen.add(state.stat().st_mtime_ns)
        time.sleep(0.002)
    process.kill()
    process.wait()
    if not state.exists():
        raise NotPossibleError(f"the run was not in its second epoch within {limit:.0f} s, or over")
    with safetensors.safe_open(state, "np") as file:
        document = json.loads(file.metadata()["resnetkit.state"])
    return f"in epoch {len(document['rows']) + 1} after batch {document['batch']}"


def same_bits(one: Path, other: Path) -> bool:
    """Whether the last bundles of two runs have the same bits."""
    first, second = (safetensors.torch.load_file(f / "last.safetensors") for f in (one, other))
    return first.keys() == second.keys() and all(
        first[key].numpy().tobytes() == second[key].numpy().tobytes() for key in first
    )
