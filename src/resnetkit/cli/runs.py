"""Compare the runs in a folder and its subfolders: accuracy, epochs, time, recipe differences.

Sorted by validation accuracy, best first; test images are not used for selection. Only recipe
fields that differ are shown. --format html is a page that also has the curves of the runs, and
links to their own pages. Exit code 1: some runs are damaged and were skipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resnetkit.cli.output_format import format_of, write

_ENDINGS = {".txt": ("table",), ".json": ("json",), ".html": ("html",)}


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the folder with the runs, e.g. runs")
    add("--format", choices=("table", "json", "html"),
        help="default: by the ending of --out, else table")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write to a file: .txt, .json or .html")


def run(args: argparse.Namespace) -> int:
    from resnetkit.report.console.runs import runs_text, show_runs, tell_damaged
    from resnetkit.training.run_comparison import compare_runs

    kind = format_of(args.format, args.out, _ENDINGS)
    found = compare_runs(args.folder)
    tell_damaged(found)
    if kind == "json":
        write(found.to_json(), args.out)
    elif kind == "html":
        from resnetkit.report.pages.runs_page import runs_page

        write(runs_page(found, None if args.out is None else args.out.parent), args.out)
    elif args.out is not None:
        write(runs_text(found), args.out)
    elif found.runs:
        show_runs(found)
    return 1 if found.damaged else 0
