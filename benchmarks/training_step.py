"""Images a second of a whole training step: ours against torchvision's network in its own loop.

The reference is what torchvision's references/classification/train.py does with a batch: contiguous
images, `CrossEntropyLoss`, SGD with momentum 0.9 and weight decay 1e-4, `zero_grad` before the
backward pass, its `accuracy` of the first and the first five, its meters' `item()`. Ours is what a
run does: `train_step`, the score, the rate of the step. Both are given the same normalised float32
images; reading them is not measured here. All take turns in one process; the ratio is the median of
those in the same round. The share is that of 3 x the forward pass's multiply-adds in what float32
matrix products of this machine reach. Without bf16 in the processor those steps are many times
slower, and `--without bf16` saves their time.

    .venv/bin/python benchmarks/training_step.py [--runs 10] [--only resnet50,resnet18]
        [--without bf16] [--save NAME]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import peers
from inference import gemm
from resnetkit import Preprocess, explain, network
from resnetkit.evaluation.timing import Contestant, Raced, race
from resnetkit.training.precision import has_bf16, settled
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.step.allocator import keep_memory
from resnetkit.training.step.compile import compiled
from resnetkit.training.step.loss import criterion_of
from resnetkit.training.step.model_setup import freshly_built
from resnetkit.training.step.optimization_step import Score, StepOptions, placed, train_step
from resnetkit.training.step.optimizer import optimizer_of, set_rate
from results import Table, add_save

PACKAGES = ("torch", "torchvision")
#: Pixels and images of a step.
CASES = {"resnet50": (224, 16), "resnet18": (128, 32)}
REFERENCE = "torchvision's loop"


@dataclass(slots=True)
class Meter:
    """As ``SmoothedValue`` of torchvision's references/classification/utils.py: it keeps sums."""

    total: float = 0.0
    count: int = 0

    def update(self, value: float, n: int = 1) -> None:
        self.total += value * n
        self.count += n


def accuracy(output: Tensor, target: Tensor, ranks: tuple[int, ...] = (1, 5)) -> list[Tensor]:
    """As ``accuracy`` of torchvision's references/classification/utils.py."""
    with torch.inference_mode():
        _, found = output.topk(max(ranks), 1, True, True)
        correct = found.t().eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100 / len(target)) for k in ranks]


def reference_step(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    meters: list[Meter],
    images: Tensor,
    labels: Tensor,
) -> None:
    """What ``train_one_epoch`` of torchvision's references/classification/train.py does a batch."""
    output = model(images)
    loss = criterion(output, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    first, five = accuracy(output, labels)
    for meter, value in zip(meters, (loss, first, five), strict=True):
        meter.update(value.item(), len(images))


def reference(name: str, images: Tensor, labels: Tensor) -> peers.Runner:
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    meters = [Meter() for _ in range(3)]
    model.train()

    def run(times: int) -> None:
        for _ in range(times):
            reference_step(model, criterion, optimizer, meters, images, labels)

    return run


def recipe_of(name: str, size: int, batch: int, **choices: Any) -> Recipe:
    """What of a recipe a step depends on, with torchvision's values."""
    return Recipe.of(
        data="", network=replace(network(name), input_size=size), preprocess=Preprocess(size=size),
        augment=Augment(), epochs=90, batch_size=batch, lr=0.01, nesterov=False, weight_decay=1e-4,
        weight_decay_scope="all", label_smoothing=0.0, warmup=0.0, device="cpu", **choices,
    )  # fmt: skip


def ours(recipe: Recipe, images: Tensor, labels: Tensor) -> peers.Runner:
    torch.manual_seed(0)
    module = freshly_built(recipe)
    optimizer, criterion = optimizer_of(module, recipe), criterion_of(recipe, [])
    forward = compiled(module) if recipe.runtime.compile else None
    score = Score()

    def run(times: int) -> None:
        with keep_memory():
            for _ in range(times):
                set_rate(optimizer, recipe.optimizer.lr)
                inputs = placed(images, recipe.runtime.device)
                logits = train_step(
                    *(module, inputs, labels, optimizer, criterion),
                    StepOptions(forward=forward, bf16=recipe.runtime.precision == "bf16"),
                )
                score.add(logits, labels)

    return run


def measured(name: str, rounds: int, seconds: float, without: set[str]) -> list[Raced]:
    size, batch = CASES[name]
    images = peers.normalised(peers.photographs(batch, size))
    labels = torch.randint(1000, (batch,), generator=torch.Generator().manual_seed(0))
    makers: dict[str, tuple[str, Callable[[], peers.Runner]]] = {
        REFERENCE: ("fp32", lambda: reference(name, images, labels))
    }
    for title, choices in (
        ("resnetkit, fp32", {"precision": "fp32"}),
        ("resnetkit, bf16", {"precision": "bf16"}),
        ("resnetkit, compiled", {"precision": "fp32", "compile": True}),
    ):
        recipe = recipe_of(name, size, batch, **choices)
        makers[title] = (recipe.runtime.precision, lambda r=recipe: ours(r, images, labels))
    contestants = []
    for title, (precision, make) in makers.items():
        if not any(part in title for part in without):
            print(f"  {name}: {title}", file=sys.stderr, flush=True)
            contestants.append(Contestant(name=title, precision=precision, batch=batch, run=make()))
    return race(contestants, rounds=rounds, seconds=seconds)


def rows(
    names: list[str], rounds: int, seconds: float, without: set[str], reached: float
) -> Iterator[dict[str, Any]]:
    for name in names:
        size, batch = CASES[name]
        macs = 3 * explain(network(name), size).totals.macs
        found = measured(name, rounds, seconds, without)
        taken = settled(recipe_of(name, size, batch)).precision
        auto = [
            replace(r, name=f"resnetkit, auto: {taken}") for r in found if r.name.endswith(taken)
        ]
        for row in (*found, *auto):
            share = row.rate * macs / 1e9 / reached
            yield {"network": name, "size": size, "share": share, **row.to_dict()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--without", default="")
    add_save(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    reached = gemm(rounds=21)
    table = Table(
        title="Images a second of a training step",
        how=f"n = {args.runs} rounds in turn, about {args.seconds:g} s each, medians; the share is "
        f"that of what float32 matrix products reach, {2 * reached:.0f} GFLOP/s; this processor "
        f"{'has' if has_bf16('cpu') else 'has no'} bf16",
        packages=PACKAGES,
        columns=(
            ("network", "network", ""),
            ("pixels", "size", "d"),
            ("batch", "batch", "d"),
            ("what", "name", ""),
            ("img/s", "rate", ".2f"),
            ("to the loop", "ratio", ".2f"),
            ("least", "least", ".2f"),
            ("most", "most", ".2f"),
            ("share", "share", ".0%"),
        ),
        bars="ratio",
        groups=("network", "size", "batch"),
    )
    table.begin()
    without = set(filter(None, args.without.split(",")))
    for row in rows(args.only.split(","), args.runs, args.seconds, without, reached):
        table.add(row)
    table.save(args.save)


if __name__ == "__main__":
    main()
