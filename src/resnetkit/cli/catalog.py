"""List every named network with its parameters and MACs at its default input size."""

from __future__ import annotations

import argparse
import json

from resnetkit.architecture.explanation import explain
from resnetkit.architecture.registry import catalog


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    explained = [(entry, explain(entry.network())) for entry in catalog()]
    if args.format == "json":
        rows = [
            {
                "name": entry.name,
                "parameters": explanation.totals.parameters,
                "macs": explanation.totals.macs,
                "input": list(explanation.input),
                "about": entry.about,
                "source": entry.source,
            }
            for entry, explanation in explained
        ]
        print(json.dumps(rows, indent=2))
        return 0
    from resnetkit.report.console import network

    network.show_catalog(
        (entry.name, e.totals.parameters, e.totals.macs, e.input, entry.about)
        for entry, e in explained
    )
    return 0
