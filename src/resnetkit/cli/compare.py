"""Compare two networks side by side: options, totals and layers."""

from __future__ import annotations

import argparse
import json

from resnetkit.architecture.comparison import compare
from resnetkit.cli.network_options import input_size


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", help="a network of `resnetkit catalog`")
    parser.add_argument("second", help="another network")
    parser.add_argument(
        "--input",
        type=input_size,
        metavar="SIZE",
        help="473, or 3x473x473; default: each network's own",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    comparison = compare(args.first, args.second, args.input)
    if args.format == "json":
        print(json.dumps(comparison.to_dict(), indent=2))
        return 0
    from resnetkit.report.console import network

    network.show_comparison(comparison)
    return 0
