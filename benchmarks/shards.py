"""Shards of many tiny pictures: the start of training and prediction, and how well they shuffle.

`start` packs so many 32x32 pictures, and in processes of their own opens, splits and loads them up
to the first batch, and predicts the first images. `shuffle` compares the order of an epoch whose
shards do not fit the cache with that of one whose shards do.

    .venv/bin/python benchmarks/shards.py start FOLDER [--counts 10000,1000000] [--runs 3]
    .venv/bin/python benchmarks/shards.py shuffle [--shards 100] [--images 2000]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from resnetkit.data.datasets.dataset import Dataset, Sample
from resnetkit.data.datasets.packed_samples import PackedSamples, Shard
from resnetkit.data.datasets.shard_cache import RemoteShard
from resnetkit.data.datasets.shard_index import RECORD, Table
from resnetkit.data.datasets.webdataset_writer import pack
from results import Table as Results
from results import add_save

CLASSES = 100
SIDE = 32
BATCH = 256
#: Images predicted in a measurement.
PREDICTED = 4096


def peak() -> float:
    """MiB, of this program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def make(folder: Path, count: int) -> None:
    """Pack ``count`` training and a thousand validation pictures, of 1,000 different ones."""
    draw = np.random.default_rng(0)
    pictures = []
    for _ in range(1000):
        buffer = io.BytesIO()
        pixels = draw.integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).resize((SIDE, SIDE)).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())

    def samples(number: int) -> tuple[Sample, ...]:
        return tuple(
            Sample(name=f"{n:07}.jpg", label=n % CLASSES, image=pictures[n % len(pictures)])
            for n in range(number)
        )

    parts = {"train": samples(count), "validation": samples(1000)}
    names = tuple(f"class {n}" for n in range(CLASSES))
    pack(Dataset(name="tiny", classes=names, parts=parts), folder, megabytes=64)


def train_start(folder: str) -> dict[str, float]:
    """Seconds and MiB up to the first batch of training."""
    import resnetkit
    from resnetkit.training.callbacks import Callback, RunOptions
    from resnetkit.training.data.data_loader import DataLoader, LoaderOptions
    from resnetkit.training.recipe.augmentation import Augment
    from resnetkit.training.recipe_defaults import make_recipe
    from resnetkit.training.split_data import prepare_splits

    before, begin = peak(), time.perf_counter()
    network = resnetkit.network("resnet20")
    recipe = make_recipe(folder, model=network, size=SIDE, batch_size=BATCH, epochs=1)
    splits = prepare_splits(recipe, Callback(), RunOptions())
    options = LoaderOptions(batch_size=BATCH, augment=Augment(flip=True))
    loader = DataLoader(splits.parts["train"], recipe.preprocess, options)
    next(iter(loader.batches()))
    return {"seconds": time.perf_counter() - begin, "peak": peak(), "before": before}


def predict_start(folder: str) -> dict[str, float]:
    """Seconds up to the first prediction, and MiB after a few thousand."""
    import torch

    import resnetkit

    torch.manual_seed(0)
    module = resnetkit.build("resnet20", num_classes=CLASSES).eval()
    names = tuple(map(str, range(CLASSES)))
    facts = resnetkit.Preprocess(size=SIDE)
    bundle = resnetkit.Bundle.from_module(module, preprocess=facts, classes=names)
    before, begin = peak(), time.perf_counter()
    found = resnetkit.predict(bundle, [folder], topk=1, batch_size=BATCH)
    next(iter(found))
    seconds = time.perf_counter() - begin
    for _ in islice(found, PREDICTED):
        pass
    return {"seconds": seconds, "peak": peak(), "before": before}


WORK: dict[str, Callable[[str], dict[str, float]]] = {
    "train": train_start,
    "predict": predict_start,
}


def start(args: argparse.Namespace) -> None:
    """Measure the starts, in processes of their own, and print them."""
    table = Results(
        title="The start on shards of tiny pictures",
        how=f"{SIDE}x{SIDE} JPEG, shards of 64 MB, resnet20; medians of {args.runs} processes, "
        "without imports",
        packages=("torch", "numpy"),
        columns=[
            ("work", "work", ""), ("shards", "where", ""), ("images", "images", ",d"),
            ("s to the first batch", "seconds", ".2f"), ("MiB before", "before", ".0f"),
            ("MiB at most", "peak", ".0f"), ("n", "n", "d"),
        ],
        bars="peak",
        groups=("work", "images"),
    )  # fmt: skip
    table.begin()
    for work in WORK:
        for count in map(int, args.counts.split(",")):
            folder = args.folder / str(count)
            if not (folder / "index.json").exists():
                make(folder, count)
            for where in (str(folder), f"file://{folder.resolve()}"):
                words = [sys.executable, __file__, "one", work, where]
                found: list[dict[str, Any]] = [
                    json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
                    for _ in range(args.runs)
                ]
                middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
                kind = "through the cache" if "://" in where else "local"
                row = {"work": work, "where": kind, "images": count, "n": args.runs}
                table.add({**row, **middle})
    table.save(args.save)


def shuffled(args: argparse.Namespace) -> None:
    """Compare the orders of epochs, by the share of the shards that is read at random."""
    from resnetkit.training.data.epoch_order import EpochOrder

    table = Results(
        title="The order of an epoch whose shards do not fit the cache",
        how=f"{args.shards} shards of {args.images} images, {CLASSES} classes, batches of {BATCH}; "
        f"means of {args.epochs} epochs. Chi-square of the classes of a batch, divided by its "
        "degrees of freedom: 1 is a random draw. Move: how far an image is from its place in the "
        "epoch before, of the epoch's length: 1/3 is random. Again: how often two images of a "
        "batch are in one batch again, times as often as in random orders",
        packages=("torch", "numpy"),
        columns=[
            ("shards", "kind", ""), ("read at random", "window", ""), ("machines", "machines", ""),
            ("chi-square", "chi", ".3f"), ("move", "move", ".3f"), ("again", "again", ".2f"),
            ("n", "n", "d"),
        ],
        bars="again",
    )  # fmt: skip
    table.begin()
    total = args.shards * args.images
    for kind in ("written by `resnetkit shards`", "sorted by class"):
        labels = np.arange(total) * CLASSES // total
        if kind.startswith("written"):
            labels = np.random.default_rng(0).permutation(labels)
        cases = [(args.shards, 1), (32, 1), (32, 4), (8, 1), (8, 4), (2, 1), (1, 1)]
        for window, machines in cases:
            files, tables = [], {}
            for number in range(args.shards):
                name = f"train-{number:06}.tar"
                file = RemoteShard(f"s3://bucket/{name}", 1)
                files.append(
                    Shard(name=name, file=file, size=1, images=args.images, sha256="", suffixes=())
                )
                records = np.zeros(args.images, RECORD)
                records["label"] = labels[number * args.images : (number + 1) * args.images]
                tables[number] = Table(size=1, sha256="", suffixes=(), records=records)
            samples = PackedSamples.of(files, tables, window)
            orders = [
                EpochOrder(samples, (0, epoch), machines=machines, batch_size=BATCH).numbers
                for epoch in range(args.epochs)
            ]
            row = {
                "kind": kind,
                "window": f"{window} of {args.shards} shards",
                "machines": "one machine" if machines == 1 else f"{machines} machines",
                "n": args.epochs,
                "chi": np.mean([chi_square(labels[order]) for order in orders]),
            }
            pairs = list(pairwise(orders))
            row["move"] = np.mean([move(*pair) for pair in pairs])
            row["again"] = np.mean([again(*pair) for pair in pairs])
            table.add(row)
    table.save(args.save)


def chi_square(labels: np.ndarray) -> float:
    """The mean chi-square of the batches' classes, divided by its degrees of freedom."""
    batches = labels[: len(labels) // BATCH * BATCH].reshape(-1, BATCH)
    expected = BATCH / CLASSES
    counts = np.stack([np.bincount(batch, minlength=CLASSES) for batch in batches])
    return float((((counts - expected) ** 2 / expected).sum(1) / (CLASSES - 1)).mean())


def move(first: np.ndarray, second: np.ndarray) -> float:
    """The mean distance of an image's places, of the length."""
    return float(np.abs(np.argsort(first) - np.argsort(second)).mean() / len(first))


def again(first: np.ndarray, second: np.ndarray) -> float:
    """How often pairs of neighbours in a batch are in one batch again, to random orders."""
    batch = np.argsort(second) // BATCH
    whole = first[: len(first) // BATCH * BATCH].reshape(-1, BATCH)
    found = batch[whole]
    same = [np.mean(found == np.roll(found, step, axis=1)) for step in range(1, BATCH // 2)]
    return float(np.mean(same) / ((BATCH - 1) / (len(first) - 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("one")
    one.add_argument("work", choices=WORK)
    one.add_argument("where")
    begin = commands.add_parser("start")
    begin.add_argument("folder", type=Path)
    begin.add_argument("--counts", default="10000,1000000")
    begin.add_argument("--runs", type=int, default=3)
    add_save(begin)
    shuffle = commands.add_parser("shuffle")
    shuffle.add_argument("--shards", type=int, default=100)
    shuffle.add_argument("--images", type=int, default=2000)
    shuffle.add_argument("--epochs", type=int, default=10)
    add_save(shuffle)
    args = parser.parse_args()
    if args.command == "one":
        print(json.dumps(WORK[args.work](args.where)))
    elif args.command == "start":
        start(args)
    else:
        shuffled(args)


if __name__ == "__main__":
    main()
