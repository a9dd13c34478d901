"""Measure how fast a bundle, or what `export` wrote, answers on this machine.

Its engines run in turn, several rounds, so that a slow moment meets all of them; every rate comes
with its ratio to the first one. --against runs other packages' own networks with the same weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineName


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a bundle, or an exported file")
    add("--engines", metavar="NAME,...", help="default: all that run here but torch-compiled")
    add("--against", metavar="NAME,...", help="torchvision, timm, transformers")
    add("--batch-sizes", default="1,8", metavar="N,...", help="images at a time; default: 1,8")
    add("--rounds", type=int, default=5, metavar="N", help="default: 5")
    add("--seconds", type=float, default=0.5, metavar="X", help="of each in a round; default: 0.5")
    add("--threads", type=int, metavar="N", help="processor threads of the engines")
    add("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    if not args.batch_sizes.replace(",", "").isdecimal():
        raise InputError(f"--batch-sizes is {args.batch_sizes!r}; give whole numbers, e.g. 1,8")
    from resnetkit.bundle.opening import open_model
    from resnetkit.evaluation.benchmarking import benchmark
    from resnetkit.report.console.benchmark import show_bench
    from resnetkit.report.console.progress import track

    found = benchmark(
        open_model(args.model),
        engines=[cast(EngineName, name) for name in _names(args.engines)],
        against=_names(args.against),
        batch_sizes=[int(batch) for batch in args.batch_sizes.split(",") if batch],
        rounds=args.rounds,
        seconds=args.seconds,
        threads=args.threads,
        track=track,
    )
    if args.format == "json":
        print(json.dumps(found.to_dict(), indent=2))
    else:
        show_bench(found)
    return 0


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]
