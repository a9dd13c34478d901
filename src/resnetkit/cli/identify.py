"""Identify a weight file: container, framework, network, and what the file does not determine.

Exit code 1: tensors are missing or have another shape.
"""

from __future__ import annotations

import argparse

from resnetkit.checkpoints.identification import identify


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a checkpoint of any framework, or a bundle")
    parser.add_argument("--prefix", help="which network, if the file has several")
    parser.add_argument(
        "--ema", action=argparse.BooleanOptionalAction, help="averaged (EMA) or raw weights"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    found = identify(args.file, prefix=args.prefix, ema=args.ema)
    if args.format == "json":
        print(found.to_json())
    else:
        from resnetkit.report.console import checkpoint

        checkpoint.show_identification(found)
    return 1 if found.reading.problems() else 0
