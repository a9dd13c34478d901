"""Compare the runs in a folder and its subfolders: accuracy, epochs, time, recipe differences.

Sorted by validation accuracy, best first; test images are not used for selection. Only recipe
fields that differ are shown. Exit code 1: some runs are damaged and were skipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the folder with the runs, e.g. runs")
    add("--format", choices=("table", "json"), default="table", help="default: table")


def run(args: argparse.Namespace) -> int:
    from resnetkit.report.console.runs import show_runs, tell_damaged
    from resnetkit.training.run_comparison import compare_runs

    found = compare_runs(args.folder)
    tell_damaged(found)
    if args.format == "json":
        print(found.to_json())
    elif found.runs:
        show_runs(found)
    return 1 if found.damaged else 0
