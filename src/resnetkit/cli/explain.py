"""Show a network layer by layer: shapes, parameters, MACs and receptive field.

NETWORK is a name of `resnetkit catalog`, a checkpoint of any framework, a bundle, an exported file,
or the folder of a run; a name takes precedence. A file is explained at the size of the images that
it is for, and what it leaves open is assumed as its framework documents, with a message.
"""

from __future__ import annotations

import argparse
import sys

from resnetkit.architecture import text
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.table_rows import LEVELS
from resnetkit.cli.network_options import add_options, described, given_options, input_size

_FORMATS = ("table", "tree", "markdown", "csv", "json", "svg", "html")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NETWORK", help="e.g. resnet50, net.pth or a run's folder")
    parser.add_argument(
        "--input", type=input_size, metavar="SIZE", help="473, or 3x473x473; default: its own size"
    )
    parser.add_argument("--level", choices=LEVELS, default="block", help="default: block")
    parser.add_argument(
        "--formulas", action="store_true", help="show the formulas of sizes, parameters and MACs"
    )
    parser.add_argument("--format", choices=_FORMATS, default="table", help="default: table")
    parser.add_argument("--out", metavar="FILE", help="write to a file instead of printing")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    explanation = described(args.model, **given_options(args)).explain(args.input)
    if args.out is None and args.format in ("table", "tree"):
        from resnetkit.report.console import network

        tree = args.format == "tree"
        network.show(explanation, args.level, formulas=args.formulas, tree=tree)
        return 0
    page = _page(explanation, args)
    if args.out is None:
        sys.stdout.write(page + "\n")
    else:
        from resnetkit.files import write_text

        write_text(args.out, page + "\n")
    return 0


def _page(explanation: Explanation, args: argparse.Namespace) -> str:
    if args.format == "json":
        return explanation.to_json()
    if args.format == "svg":
        from resnetkit.report.drawing import svg

        return svg.drawing(explanation)
    if args.format == "html":
        from resnetkit.report.pages.network_page import network_page

        return network_page(explanation)
    write = {
        "table": text.table,
        "tree": text.tree,
        "markdown": text.markdown,
        "csv": text.comma_separated,
    }[args.format]
    return write(explanation, args.level, args.formulas)
