"""Which epoch of a run should be kept? Rules compared by the test accuracy of what they keep.

A run records, after each epoch, the loss and the answer of every validation image and the accuracy
on test images; each rule then says by the validation images alone which epoch it would have kept.
Test accuracies of a run share everything but the rule, so that their differences are paired.

    .venv/bin/python benchmarks/kept_epoch.py FASHION [--seeds 20] [--records FOLDER]
        [--only digits,300,1000,3000] [--precisions fp32,bf16] [--smoothings 0.1,0]
        [--recorded] [--save NAME]

FASHION is a folder of IDX files such as /usr/share/datasets/fashion-mnist of Debian's package
dataset-fashion-mnist; of its training images each seed draws 300, 1,000 or 3,000, of the test
images 2,000 are taken, at 16x16 pixels. Runs that FOLDER has are not made again; with --recorded
none are made, and the table is that of those there are.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnetkit.training.callbacks import RunOptions, SilentCallback
from resnetkit.training.epoch_log import EpochLog, standard_error
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run_context import RunContext
from resnetkit.training.signals import Stop
from resnetkit.training.split_data import DataSplits, prepare_splits
from resnetkit.training.trainer import Trainer
from results import Table

SIZE, TESTED, AVERAGED = 16, 2000, 5
Record = Mapping[str, np.ndarray]


class Recorded(Trainer):
    """A run that keeps nothing on the disk and remembers how each epoch would have done."""

    def __init__(self, recipe: Recipe, folder: Path, splits: DataSplits) -> None:
        super().__init__(
            recipe,
            folder,
            splits,
            RunContext(callback=SilentCallback(), run_options=RunOptions(), stop=Stop()),
        )
        self.tests = self._feed("test")
        self.lost: list[np.ndarray] = []
        self.right: list[np.ndarray] = []
        self.tested: list[float] = []
        self.weights: list[dict[str, Tensor]] = []

    def _finish_epoch(self, row: EpochLog) -> None:
        super()._finish_epoch(row)
        lost, right = self._answers("validation")
        self.lost.append(lost)
        self.right.append(right)
        self.tested.append(self._answers("test")[1].mean())
        self.weights.append({k: v.clone() for k, v in self.kept.state_dict().items()})

    def _keep_epoch(self, row: EpochLog) -> None:
        pass

    def _checkpoint(self) -> None:
        pass

    @torch.inference_mode()
    def _answers(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """The loss in nats of each image, and whether its class was answered."""
        self.kept.eval()
        lost, right = [], []
        for batch in (self.validation if part == "validation" else self.tests).batches():
            logits = self.kept(batch.inputs)
            lost.append(F.cross_entropy(logits, batch.labels, reduction="none"))
            right.append(logits.argmax(-1) == batch.labels)
        return torch.cat(lost).numpy(), torch.cat(right).numpy()

    def averaged(self) -> float:
        """The test accuracy of the mean of the last epochs' weights and statistics."""
        last = self.weights[-AVERAGED:]
        self.module.load_state_dict(
            {k: sum(w[k] for w in last) / AVERAGED if v.is_floating_point() else v
             for k, v in last[-1].items()}
        )  # fmt: skip
        return float(self._answers("test")[1].mean())


def trained(fashion: Path, data: str, precision: str, smoothing: float, seed: int) -> Record:
    """Train once, by one thread, so that as many runs as cores can go at once."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = "digits" if data == "digits" else str(part_of(fashion, int(data), seed, folder))
        recipe = make_recipe(
            place,
            seed=seed,
            size=None if data == "digits" else SIZE,
            precision=precision,
            label_smoothing=smoothing,
            device="cpu",
            threads=1,
        )
        run = Recorded(
            recipe, Path(folder), prepare_splits(recipe, SilentCallback(), RunOptions(max_bad=0))
        )
        run.run()
    return {
        "lost": np.stack(run.lost),
        "right": np.stack(run.right),
        "tested": np.array(run.tested),
        "averaged": np.array(run.averaged()),
    }


def part_of(fashion: Path, count: int, seed: int, folder: str) -> Path:
    """IDX files with ``count`` of the training images, drawn, and some of the test images."""
    place = Path(folder) / "images"
    place.mkdir()
    for name, many in (("train", count), ("t10k", TESTED)):
        drawn = np.random.default_rng(seed if name == "train" else 0)
        chosen: np.ndarray | None = None
        for kind, head in (("images-idx3", 16), ("labels-idx1", 8)):
            data = gzip.decompress((fashion / f"{name}-{kind}-ubyte.gz").read_bytes())
            total = int.from_bytes(data[4:8], "big")
            if chosen is None:
                chosen = np.sort(drawn.permutation(total)[:many])
            body = np.frombuffer(data, "u1", offset=head).reshape(total, -1)[chosen]
            begin = data[:4] + many.to_bytes(4, "big") + data[8:head]
            (place / f"{name}-{kind}-ubyte").write_bytes(begin + body.tobytes())
    return place


def first_maximum(record: Record) -> int:
    """The first of the highest accuracy, of several the one with the lowest loss."""
    scores = list(zip(record["right"].mean(1), -record["lost"].mean(1), strict=True))
    return scores.index(max(scores))


def last(record: Record) -> int:
    """The last epoch, whatever the validation images say."""
    return len(record["right"]) - 1


def last_maximum(record: Record) -> int:
    """The last of the highest accuracy."""
    right = record["right"].sum(1)
    return int(np.flatnonzero(right == right.max())[-1])


def lowest_loss(record: Record) -> int:
    """The lowest mean loss."""
    return int(record["lost"].mean(1).argmin())


def within_accuracy(errors: float, record: Record) -> int:
    """The last whose accuracy is within so many of its standard errors of the highest."""
    accuracy, count = record["right"].mean(1), record["right"].shape[1]
    best = accuracy.max()
    return int(np.flatnonzero(accuracy >= best - errors * standard_error(best, count) - 1e-9)[-1])


def within_loss(errors: float, record: Record) -> int:
    """The last whose loss is above the lowest by at most so many errors of their difference."""
    lost = record["lost"]
    above = lost - lost[lost.mean(1).argmin()]
    return int(np.flatnonzero(above.mean(1) <= errors * _error(above))[-1])


def within_accuracy_paired(errors: float, record: Record) -> int:
    """The last whose accuracy is below the highest by at most so many errors of the difference."""
    right = record["right"].astype(float)
    below = right[right.mean(1).argmax()] - right
    return int(np.flatnonzero(below.mean(1) <= errors * _error(below))[-1])


def smoothed_loss(record: Record) -> int:
    """The last epoch of the five in a row whose mean loss is the lowest."""
    lost = record["lost"].mean(1)
    return int(np.convolve(lost, np.ones(5) / 5, "valid").argmin()) + 4


def _error(values: np.ndarray) -> np.ndarray:
    return values.std(1, ddof=1) / np.sqrt(values.shape[1])


RULES: dict[str, Callable[[Record], int]] = {
    "first highest accuracy": first_maximum,
    "last epoch": last,
    "last highest accuracy": last_maximum,
    "lowest loss": lowest_loss,
    "lowest mean loss of 5": smoothed_loss,
    "accuracy within 1 SE, last": partial(within_accuracy, 1),
    "accuracy within 2 SE, last": partial(within_accuracy, 2),
    "accuracy within 1 paired SE, last": partial(within_accuracy_paired, 1),
    "accuracy within 2 paired SE, last": partial(within_accuracy_paired, 2),
    "loss within 1 paired SE, last": partial(within_loss, 1),
    "loss within 2 paired SE, last": partial(within_loss, 2),
}
AVERAGE = f"mean weights of the last {AVERAGED}"


def rows_of(setting: dict[str, Any], records: list[Record]) -> list[dict[str, Any]]:
    """A row for each rule: what it kept, compared with the last epoch and the first maximum."""
    kept = {name: [float(r["tested"][rule(r)]) for r in records] for name, rule in RULES.items()}
    kept[AVERAGE] = [float(r["averaged"]) for r in records]
    found = {name: np.array(values) for name, values in kept.items()}
    reference, today = found["last epoch"], found["first highest accuracy"]
    return [
        {
            **setting,
            "rule": name,
            "n": len(records),
            "mean": 100 * values.mean(),
            "worst": 100 * values.min(),
            "to_last": 100 * (values - reference).mean(),
            "worst_to_last": 100 * (values - reference).min(),
            "to_first": 100 * (values - today).mean(),
        }
        for name, values in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--records", type=Path, default=Path("runs/kept-epoch"))
    parser.add_argument("--only", default="digits,300,1000,3000")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--smoothings", default="0.1,0")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recorded", action="store_true")
    parser.add_argument("--save", metavar="NAME")
    args = parser.parse_args()
    args.records.mkdir(parents=True, exist_ok=True)
    settings = [
        (data, precision, float(smoothing))
        for data in args.only.split(",")
        for precision in args.precisions.split(",")
        for smoothing in args.smoothings.split(",")
    ]
    wanted = {
        args.records / f"{data}-{precision}-{smoothing:g}-{seed}.npz": (
            args.fashion, data, precision, smoothing, seed
        )
        for data, precision, smoothing in settings
        for seed in range(args.seeds)
    }  # fmt: skip
    with ProcessPoolExecutor(args.workers) as pool:
        missing = {p: given for p, given in wanted.items() if not (p.exists() or args.recorded)}
        made = {pool.submit(trained, *given): p for p, given in missing.items()}
        for done, future in enumerate(as_completed(made), 1):
            np.savez_compressed(made[future], **future.result())
            print(f"{done} of {len(made)}: {made[future].name}", flush=True)
    table = Table(
        title="Test accuracy of the epoch that a rule keeps",
        how="resnet20, the usual recipe; test accuracies in %, n seeds, differences paired",
        packages=("torch", "numpy"),
        columns=[
            ("images", "data", ""), ("precision", "precision", ""),
            ("smoothing", "smoothing", ""), ("rule", "rule", ""), ("n", "n", "d"),
            ("mean", "mean", ".2f"), ("worst", "worst", ".2f"), ("to the last", "to_last", "+.2f"),
            ("worst to the last", "worst_to_last", "+.2f"),
            ("to first highest", "to_first", "+.2f"),
        ],
        bars="to_last",
        groups=("data", "precision", "smoothing"),
    )  # fmt: skip
    table.begin()
    for data, precision, smoothing in settings:
        names = [f"{data}-{precision}-{smoothing:g}-{seed}.npz" for seed in range(args.seeds)]
        paths = [args.records / name for name in names]
        records = [dict(np.load(path)) for path in paths if path.exists()]
        if not records:
            continue
        setting = {"data": data, "precision": precision, "smoothing": smoothing}
        for row in rows_of(setting, records):
            table.add(row)
    table.save(args.save)


if __name__ == "__main__":
    main()
