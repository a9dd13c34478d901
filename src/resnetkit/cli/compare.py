"""Compare two networks side by side: options, totals and layers, not weights.

Each is a name of `resnetkit catalog`, a checkpoint of any framework, a bundle, an exported file, or
the folder of a run. A name beside a file is compared at the file's image size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from resnetkit.cli.network_options import described, input_size
from resnetkit.cli.output_format import format_of, write
from resnetkit.hub.explaining import compared

_ENDINGS = {".txt": ("table",), ".json": ("json",), ".html": ("html",)}


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("first", metavar="FIRST", help="e.g. resnet50, net.pth or a run's folder")
    add("second", metavar="SECOND", help="another network")
    add("--input", type=input_size, metavar="SIZE", help="473, 480x640 (height, width) or "
        "3x480x640; default: each network's own, or the file's")  # fmt: skip
    add("--format", choices=("table", "json", "html"),
        help="default: by the ending of --out, else table")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write to a file: .txt, .json or .html")


def run(args: argparse.Namespace) -> int:
    kind = format_of(args.format, args.out, _ENDINGS)
    comparison = compared(described(args.first), described(args.second), args.input)
    if kind == "json":
        page = json.dumps(comparison.to_dict(), indent=2)
    elif kind == "html":
        from resnetkit.report.pages.comparison_page import comparison_page

        page = comparison_page(comparison)
    else:
        from resnetkit.report.console import network

        if args.out is None:
            network.show_comparison(comparison)
            return 0
        page = network.comparison_text(comparison)
    write(page, args.out)
    return 0
