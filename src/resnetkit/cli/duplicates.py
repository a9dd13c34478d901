"""Find near-duplicates among images, by the embeddings that `predict --embeddings` wrote.

EMBEDDINGS is a .npy or .parquet file, or a folder of .parquet files, also in object storage. The
first image of a group is kept; the others have a cosine similarity of --threshold or more to it.
Look at pairs near the threshold: which one fits depends on the network and on the images.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from resnetkit.cli.output_format import format_of, write
from resnetkit.errors import AssumptionWarning, InputError

_ENDINGS = {".txt": ("table",), ".csv": ("csv",), ".json": ("json",)}


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("embeddings", metavar="EMBEDDINGS", help="e.g. embeddings.parquet")
    add("--threshold", type=float, default=0.95, metavar="X",
        help="cosine similarity, up to 1 (the same direction); default: 0.95")  # fmt: skip
    add("--exact", action="store_true", default=None, help="compare with every kept image also "
        "beyond 50,000 images, where the default may miss a few")  # fmt: skip
    add("--groups", type=int, default=20, metavar="N",
        help="groups in a table, the largest first; default: 20")  # fmt: skip
    add("--format", choices=("table", "csv", "json"),
        help="default: by the ending of --out, else table")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write to a file: .txt, .csv or .json")


def run(args: argparse.Namespace) -> int:
    from resnetkit.inspect import find_duplicates
    from resnetkit.inspect.embeddings import open_embeddings
    from resnetkit.report.console import duplicates
    from resnetkit.report.console.progress import counted

    if args.groups < 1:
        raise InputError(f"groups is {args.groups}; it must be >= 1", field="groups")
    kind = format_of(args.format, args.out, _ENDINGS)
    with warnings.catch_warnings(record=True) as assumed:
        warnings.simplefilter("always", AssumptionWarning)
        table = open_embeddings(args.embeddings)
    for each in assumed:
        print(f"resnetkit: {each.message}", file=sys.stderr)
    with counted(table.count) as done:
        found = find_duplicates(args.embeddings, args.threshold, exact=args.exact, on_images=done)
    if kind == "table":
        page = duplicates.table(found, args.groups)
    else:
        page = duplicates.csv_text(found) if kind == "csv" else duplicates.json_text(found)
    write(page, args.out)
    duplicates.tell_unreadable(found)
    return 0
