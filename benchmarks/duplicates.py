"""Near-duplicates among many embeddings: how many are found, how long it takes, and the memory.

The vectors are like those of a ResNet: not negative, of classes that overlap, in fewer directions
than they have numbers. One in ten is a copy of an earlier one with noise, at a cosine similarity of
0.96 to 1. Each row is measured in a process of its own, which reads a .npy file as
`resnetkit duplicates` does.

    .venv/bin/python benchmarks/duplicates.py FOLDER [--counts 100000,1000000] [--features 512]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from resnetkit.inspect import find_duplicates
from results import Table, add_save
from shards import peak

CLASSES, DIRECTIONS = 1000, 64
THRESHOLD = 0.95
_ROWS = 1 << 14


def make(path: Path, count: int, features: int) -> None:
    """Write ``count`` vectors, the names and which of them are copies of which."""
    draw = np.random.default_rng(0)
    first = draw.normal(size=(DIRECTIONS, features)) / DIRECTIONS**0.5
    middles = draw.normal(size=(CLASSES, DIRECTIONS))
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, features))
    copies = {}
    for start in range(0, count, _ROWS):
        rows = min(_ROWS, count - start)
        within = draw.normal(size=(rows, DIRECTIONS))
        points = middles[draw.integers(CLASSES, size=rows)] + within
        block = np.maximum(points @ first + 0.1 * draw.normal(size=(rows, features)), 0)
        vectors[start : start + rows] = block
        for row in np.flatnonzero(draw.random(rows) < 0.1) if start else ():
            of = int(draw.integers(start))
            while of in copies:
                of = copies[of]
            source = vectors[of].astype(np.float64)
            noise = draw.normal(size=features)
            noise -= source * (noise @ source) / (source @ source)
            cosine = draw.uniform(0.96, 1)
            scale = np.linalg.norm(source) / np.linalg.norm(noise)
            vectors[start + row] = source + noise * scale * (1 / cosine**2 - 1) ** 0.5
            copies[start + int(row)] = of
    vectors.flush()
    with path.with_name(path.name + ".jsonl").open("w") as file:
        file.writelines(json.dumps({"image": str(n)}) + "\n" for n in range(count))
    path.with_suffix(".copies.json").write_text(json.dumps(copies))


def measure(path: Path, exact: bool) -> dict[str, float]:
    """Find the duplicates in this process."""
    copies = json.loads(path.with_suffix(".copies.json").read_text())
    begin, cpu = time.perf_counter(), time.process_time()
    found = find_duplicates(path, THRESHOLD, exact=exact)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    known = {one.name for group in found.groups for one in group.duplicates}
    kept = {one.name: group.kept for group in found.groups for one in group.duplicates}
    return {
        "seconds": seconds,
        "cpu": cpu,
        "peak": peak(),
        "copies": len(copies),
        "found": sum(name in known for name in copies) / len(copies),
        "right": sum(kept.get(name) == str(of) for name, of in copies.items()) / len(copies),
        "others": found.count - sum(name in known for name in copies),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", default="100000,1000000")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--exact-up-to", type=int, default=100_000)
    parser.add_argument("--one", choices=("exact", "approximate"), help=argparse.SUPPRESS)
    add_save(parser)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.folder, args.one == "exact")))
        return
    table = Table(
        title="Near-duplicates among many embeddings",
        how=f"vectors of {args.features} numbers, one in ten a copy with noise, similarity 0.96 to "
        f"1, threshold {THRESHOLD}; n = 1",
        packages=("faiss-cpu", "numpy"),
        columns=[
            ("images", "images", ",d"), ("method", "method", ""), ("copies", "copies", ",d"),
            ("found", "found", ".4f"), ("as a copy of the right one", "right", ".4f"),
            ("other pairs", "others", ",d"), ("s", "seconds", ",.0f"),
            ("core s", "cpu", ",.0f"), ("MiB at most", "peak", ",.0f"),
        ],
        bars="seconds",
        groups=("images",),
    )  # fmt: skip
    table.begin()
    for count in map(int, args.counts.split(",")):
        path = args.folder / f"{count}x{args.features}.npy"
        if not path.with_suffix(".copies.json").exists():
            args.folder.mkdir(parents=True, exist_ok=True)
            make(path, count, args.features)
        for method in ("exact", "approximate"):
            if method == "approximate" or count <= args.exact_up_to:
                words = [sys.executable, __file__, str(path), "--one", method]
                done = subprocess.run(words, capture_output=True, check=True)
                table.add({"images": count, "method": method, **json.loads(done.stdout)})
    table.save(args.save)


if __name__ == "__main__":
    main()
