"""Minutes of training to 93.5 % of Fashion-MNIST's test images, ours against torchvision's loop.

Both train the same network from drawn weights on 55,000 of the 60,000 training images.
Settings are chosen on the other 5,000 (`--only choose`), for both sides alike: of two peak rates
the one that is there first within 12 epochs; or where neither is, the one with the higher accuracy,
which takes 18 epochs as well, and where that is not there either, races with 24. Then the two sides
take turns (`--only race`), each seed a run that stops at the first epoch after which the test
images, which choose nothing else, are answered that well. Minutes are of training: reading,
varying, steps and checkpoints, without measuring, which is left out for both alike.

The reference is torchvision's references/classification/train.py: PIL images and its transforms in
a `DataLoader` with two workers, float32 (its AMP is for CUDA), contiguous format,
`CrossEntropyLoss`, SGD with momentum 0.9 and weight decay 1e-4, a rate that falls as a cosine by
the epoch, its meters. Of its usual augmentation it has the flip, without RandomResizedCrop, for
both sides train on whole images. Ours is asked for bf16 where the processor may have it, and is
compiled; what compiling takes is counted.

`--only best` trains ours for as many epochs as fit into 60 minutes, by the recipe BEST, and
measures the test images once. What is measured is a line in RESULTS and is not measured again on
this kind of processor, so that the hours it takes can be several sittings.

    .venv/bin/python benchmarks/time_to_accuracy.py DATA [--only choose,race,best] [--seeds 3]
        [--results time-to-accuracy.jsonl] [--goal 0.935] [--save NAME]

DATA is a folder of IDX files, such as /usr/share/datasets/fashion-mnist of Debian's package
dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pairs import processor, versions
from resnetkit import build, load, network
from resnetkit.data.datasets.dataset import Sample
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.data.data_loader import DataLoader as Feed
from resnetkit.training.data.data_loader import LoaderOptions
from resnetkit.training.precision import has_bf16
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe
from resnetkit.training.split_data import prepare_splits
from resnetkit.training.step.optimization_step import measure
from results import Table, add_save, spread
from training_step import Meter, reference_step

PACKAGES = ("torch", "torchvision")
#: A shallow network on half the resolution: one block a stage after a stride-2 stem. Two thirds of
#: the channels left 93.24 % of the validation images right after 12 epochs of ours, and 92.98 %
#: after 18: too few for 93.5 %.
NETWORK = network(
    "resnet20", depths=(1, 1, 1), widths=(48, 96, 192), stem="7x7", stem_widths=(48,),
    stem_pool="none", num_classes=10, in_chans=1,
)  # fmt: skip
#: Shares of the training images that choose, and the published accuracy of a ResNet-18.
VALIDATION, PUBLISHED = 5_000 / 60_000, 0.949

Setting = dict[str, Any]
#: Epochs of a setting; the second number for the better rate, where none was there by the first.
EPOCHS = (12, 18)
#: Epochs of the better rate in the race, where it was there by neither.
LONGER = 24
#: What the reference may be, in batches of 128, and ours; by peak rate. Neither side shifts: tried
#: with ours, 32, 64 and 128 channels, rate 0.4 and 10 epochs, shifts of up to two pixels left
#: 92.38 % of the validation images right, and none 92.96 %.
REFERENCE: dict[str, Setting] = {f"rate {rate:g}": {"lr": rate} for rate in (0.1, 0.4)}
_OURS: Setting = {
    "batch_size": 256, "schedule": "linear", "weight_decay": 5e-4, "label_smoothing": 0.1,
    "flip": True, "shift": 0, "compile": True,
    "precision": "bf16" if has_bf16("cpu") else "fp32",
}  # fmt: skip
OURS: dict[str, Setting] = {f"rate {rate:g}": {**_OURS, "lr": rate} for rate in (0.4, 0.8)}
#: What is trained for an hour: wider, with erasing and averaged weights, measured with mirrors.
BEST_NETWORK = NETWORK.override(widths=(64, 128, 256), stem_widths=(64,))
BEST: Setting = {
    **_OURS, "shift": 2, "lr": 0.4, "warmup": 3.0, "erase": 0.5, "ema_decay": 0.99,
    "flip_tta": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What ends a run: ``accuracy`` of the images of ``part``."""

    part: str
    accuracy: float


class EndedError(Exception):
    """The accuracy that was asked for is there."""


@dataclass(slots=True)
class Course:
    """A run as it goes: minutes of training and accuracy after each epoch, until it ends."""

    measured: Callable[[], float]
    target: Target
    precision: str = "fp32"
    began: float = field(default_factory=time.perf_counter)
    apart: float = 0.0
    epochs: list[tuple[float, float]] = field(default_factory=list)

    def epoch(self, other: float = 0.0) -> None:
        """An epoch has ended; of its seconds, ``other`` were spent measuring."""
        now = time.perf_counter()
        minutes = (now - self.began - self.apart - other) / 60
        self.apart += other
        self.epochs.append((minutes, self.measured()))
        self.apart += time.perf_counter() - now
        print(f"    epoch {len(self.epochs)}: {minutes:.2f} min {self.epochs[-1][1]:.2%}",
              flush=True)  # fmt: skip
        if self.epochs[-1][1] >= self.target.accuracy:
            raise EndedError

    def to_dict(self) -> dict[str, Any]:
        best = max(value for _, value in self.epochs)
        reached = [minutes for minutes, value in self.epochs if value >= self.target.accuracy]
        return {
            "minutes": reached[0] if reached else None, "best": best,
            "epochs": len(self.epochs), "trained": self.epochs[-1][0], "precision": self.precision,
        }  # fmt: skip


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """PIL images and labels, as torchvision's datasets give them to a transform."""

    def __init__(self, examples: Sequence[Sample], transform: Callable[..., torch.Tensor]) -> None:
        self.examples, self.transform = examples, transform

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        example = self.examples[number]
        return self.transform(PIL.Image.fromarray(np.asarray(example.image))), example.label


class Told(Callback):
    """Hands each epoch of our run to its course."""

    def __init__(self) -> None:
        self.course: Course | None = None

    def warn(self, text: str) -> None:
        print(f"    {text}")

    def epoch(self, row: Any) -> None:
        assert self.course is not None
        self.course.epoch(row.seconds - self._trained(row))

    def start(self, recipe: Recipe, images: Any, rows: Any, done: int = 0) -> None:
        self._count = images["train"]

    def _trained(self, row: Any) -> float:
        return self._count / row.rate


class Data:
    """The images, split once for both sides."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.held = prepare_splits(self.recipe({"epochs": 1}), Told(), RunOptions())
        self.parts = self.held.parts

    def recipe(self, setting: Setting, seed: int = 0, model: Any = NETWORK) -> Recipe:
        # The split is that of seed 0: the seeds of a race differ by weights and order.
        recipe = make_recipe(self.place, model, validation=VALIDATION, **setting)
        return recipe.override(seed=seed)

    def measured(self, module: nn.Module, part: str, recipe: Recipe) -> float:
        feed = Feed(self.parts[part], recipe.preprocess, LoaderOptions(batch_size=500))
        return measure(module, feed.batches(), device="cpu").accuracy


def ours(data: Data, setting: Setting, target: Target, seed: int) -> Course:
    recipe = data.recipe({"warmup": setting["epochs"] / 5, **setting}, seed)
    callback = Told()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"

        def measured() -> float:
            return data.measured(load(run / "last.safetensors").module(), target.part, recipe)

        callback.course = Course(measured, target, recipe.runtime.precision)
        with suppress(EndedError):
            run_recipe(recipe, run, callback)
        return callback.course


def reference(data: Data, setting: Setting, target: Target, seed: int) -> Course:
    """torchvision's ``train_one_epoch`` and its presets, for one channel."""
    recipe = data.recipe({"epochs": setting["epochs"]}, seed)
    torch.manual_seed(seed)
    module = build(recipe.network)
    prepare = recipe.preprocess
    transform = transforms.Compose([
        transforms.RandomHorizontalFlip(0.5), transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(prepare.mean, prepare.std),
    ])  # fmt: skip
    course = Course(lambda: data.measured(module, target.part, recipe), target)
    loader = DataLoader(
        Pictures(data.parts["train"], transform), batch_size=128, shuffle=True, num_workers=2
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        module.parameters(), lr=setting["lr"], momentum=0.9, weight_decay=1e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=setting["epochs"])
    meters = [Meter() for _ in range(3)]
    try:
        for _ in range(setting["epochs"]):
            module.train()
            for images, labels in loader:
                reference_step(module, criterion, optimizer, meters, images, labels)
            schedule.step()
            course.epoch()
    except EndedError:
        pass
    return course


SIDES: dict[str, tuple[dict[str, Setting], Callable[..., Course]]] = {
    "torchvision's loop": (REFERENCE, reference),
    "resnetkit": (OURS, ours),
}


class Results:
    """A line for each measurement; one that is there is not made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def once(self, what: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        what = {"processor": processor(), "network": f"{NETWORK.options.widths}", **what}
        for row in self.rows:
            if all(row.get(key) == value for key, value in what.items()):
                return row
        print("  " + ", ".join(str(value) for value in what.values()), flush=True)
        row = {**what, **make(), "date": str(date.today()), "versions": versions(PACKAGES)}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row


def choose(data: Data, results: Results, goal: float) -> dict[str, str]:
    """The setting of each side that is there first by the validation images, see above."""
    chosen = {}
    for side, (grid, run) in reversed(SIDES.items()):  # ours takes less time
        found: dict[str, dict[str, Any]] = {}

        def better(name: str, found: dict[str, dict[str, Any]] = found) -> tuple[float, float]:
            return found[name]["minutes"] or math.inf, -found[name]["best"]

        rates = list(grid)
        for epochs in EPOCHS:
            for rate in rates:
                name = f"{rate}, {epochs} epochs"
                what = {"part": "choose", "side": side, "setting": name, "goal": goal}
                setting, target = setting_of(grid, name), Target("validation", goal)
                found[name] = results.once(
                    what, lambda r=run, s=setting, t=target: r(data, s, t, 0).to_dict()
                )
            chosen[side] = min(found, key=better)
            if found[chosen[side]]["minutes"] is not None:
                break
            rates = [chosen[side].partition(",")[0]]
        else:
            chosen[side] = f"{rates[0]}, {LONGER} epochs"
        print(f"\n{side}, by {len(data.parts['validation'])} images\n")
        print("| setting | minutes | epochs | best |")
        print("|---|--:|--:|--:|")
        for name, row in found.items():
            print(f"| {name} | {minutes(row)} | {row['epochs']} | {row['best']:.2%} |")
        print(f"\nraces with {chosen[side]}")
    return chosen


def setting_of(grid: dict[str, Setting], name: str) -> Setting:
    """What "rate R, N epochs" stands for."""
    rate, _, epochs = name.partition(", ")
    return {**grid[rate], "epochs": int(epochs.split()[0])}


def minutes(row: dict[str, Any]) -> str:
    return "-" if row["minutes"] is None else f"{row['minutes']:.1f}"


def raced(
    data: Data, results: Results, goal: float, chosen: dict[str, str], seeds: int
) -> Iterator[dict[str, Any]]:
    for seed in range(1, seeds + 1):
        for side, (grid, run) in SIDES.items():
            name = chosen[side]
            setting, target = setting_of(grid, name), Target("test", goal)
            what = {"part": "race", "side": side, "setting": name, "goal": goal, "seed": seed}
            yield results.once(
                what, lambda r=run, s=setting, t=target, n=seed: r(data, s, t, n).to_dict()
            )


def race_table(rows: list[dict[str, Any]], goal: float) -> Table:
    """A row for each side; the ratio is that of the same seed's minutes to the loop's."""
    table = Table(
        title=f"Minutes of training to {goal:.1%} of Fashion-MNIST's test images",
        how="stopped at the first epoch that is there, and a run that is nowhere there counts all "
        f"its minutes; {NETWORK.options.depths} blocks of {NETWORK.options.widths} channels; "
        "settings chosen on 5,000 training images; medians",
        packages=PACKAGES,
        columns=(
            ("what", "side", ""), ("setting", "setting", ""), ("precision", "precision", ""),
            ("there", "there", "d"),
            ("n", "runs", "d"), ("minutes", "minutes", ".1f"), ("minutes an epoch", "each", ".2f"),
            ("best", "best", ".2%"), ("to the loop", "ratio", ".2f"), ("least", "least", ".2f"),
            ("most", "most", ".2f"),
        ),
        bars="minutes",
    )  # fmt: skip
    table.begin()
    sides = {side: [row for row in rows if row["side"] == side] for side in SIDES}
    theirs = next(iter(sides.values()))
    for side, found in sides.items():
        # One that did not get there took longer than all that it trained.
        taken = [row["minutes"] or row["trained"] for row in found]
        ratios = [
            mine / (t["minutes"] or t["trained"]) for mine, t in zip(taken, theirs, strict=True)
        ]
        table.add(
            {
                "side": side, "setting": found[0]["setting"], "runs": len(found),
                "precision": found[0]["precision"],
                "there": sum(row["minutes"] is not None for row in found),
                "minutes": statistics.median(taken),
                "each": statistics.median(row["trained"] / row["epochs"] for row in found),
                "best": statistics.median(row["best"] for row in found), **spread(ratios),
            }
        )  # fmt: skip
    return table


def best(data: Data, limit: float) -> dict[str, Any]:
    """Ours for about ``limit`` minutes, by as many epochs as fit by the time of the first two."""
    callback, never = Told(), Target("test", 2.0)
    with tempfile.TemporaryDirectory() as folder:
        callback.course = Course(lambda: 0.0, never)
        run_recipe(data.recipe({**BEST, "epochs": 2, "warmup": 1.0}, 1, BEST_NETWORK),
              Path(folder) / "try", callback)  # fmt: skip
        each = callback.course.epochs[-1][0] / 2
        # Measuring and the first seconds take their part.
        epochs = int(0.93 * limit / each)
        began = time.perf_counter()
        callback.course = Course(lambda: 0.0, never)
        result = run_recipe(
            data.recipe({**BEST, "epochs": epochs}, 1, BEST_NETWORK), Path(folder) / "run", callback
        )
        assert result.test is not None
        taken = (time.perf_counter() - began) / 60
        return {
            "epochs": epochs, "minutes": taken, "accuracy": result.test.accuracy,
            "precision": result.recipe.runtime.precision,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--only", default="choose,race,best")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--goal", type=float, default=0.935)
    parser.add_argument("--limit", type=float, default=60.0, help="minutes of --only best")
    parser.add_argument("--results", type=Path, default=Path("time-to-accuracy.jsonl"))
    add_save(parser)
    args = parser.parse_args()
    parts = args.only.split(",")
    print(
        f"{date.today()}, {processor()}, Python {platform.python_version()}, {versions(PACKAGES)}, "
        f"{torch.get_num_threads()} threads"
    )
    data, results = Data(args.data), Results(args.results)
    counts = {part: len(found) for part, found in data.parts.items()}
    print(f"{NETWORK.name} {NETWORK.options.depths} {NETWORK.options.widths}, {counts}")
    if "choose" in parts or "race" in parts:
        chosen = choose(data, results, args.goal)
    if "race" in parts:
        race_table(list(raced(data, results, args.goal, chosen, args.seeds)), args.goal).save(
            args.save
        )
    if "best" in parts:
        row = results.once({"part": "best", "limit": args.limit}, lambda: best(data, args.limit))
        print(
            f"\nours in {row['minutes']:.0f} minutes, {row['epochs']} epochs: "
            f"{row['accuracy']:.2%} of the test images; published ResNet-18: {PUBLISHED:.1%}"
        )


if __name__ == "__main__":
    main()
