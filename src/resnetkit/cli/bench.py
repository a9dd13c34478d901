"""Benchmark a bundle or an exported file on this machine.

Engines run interleaved over several rounds, so that slowdowns affect all alike; every rate has its
ratio to the first engine. --against runs other packages' networks with the same weights.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import cast

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineName


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a bundle, an exported file, or hf:OWNER/NAME")
    add("--engines", metavar="NAME,...", help="default: all installed but torch-compiled, and "
        "without a GPU torch-bf16 and torch-fp16")  # fmt: skip
    add("--against", metavar="NAME,...", help="torchvision, timm, transformers")
    add("--batch-sizes", default="1,8", metavar="N,...", help="default: 1,8")
    add("--rounds", type=int, default=5, metavar="N", help="default: 5")
    add(
        "--seconds", type=float, default=0.5, metavar="X", help="per engine and round; default: 0.5"
    )
    add("--threads", type=int, metavar="N", help="CPU threads of the engines")
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
        track=partial(track, of="measurements"),
    )
    if args.format == "json":
        print(json.dumps(found.to_dict(), indent=2))
    else:
        show_bench(found)
    return 0


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]
