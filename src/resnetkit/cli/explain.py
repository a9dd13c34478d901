"""Show a network layer by layer: shapes, parameters, MACs and receptive field.

NETWORK is a name of `resnetkit catalog`, a checkpoint of any framework, a bundle, an exported file,
or the folder of a run; a name takes precedence. A file is explained at the size of the images that
it is for, and what it leaves open is assumed as its framework documents, with a message.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resnetkit.architecture import text
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.table_rows import LEVELS
from resnetkit.cli.network_options import add_options, described, given_options, input_size
from resnetkit.cli.output_format import format_of, write
from resnetkit.errors import InputError

#: The formats that a file of each ending may hold.
_ENDINGS = {
    ".txt": ("table", "tree"),
    ".md": ("markdown",),
    **{f".{name}": (name,) for name in ("csv", "json", "svg", "html", "png", "pdf")},
}
_FORMATS = tuple(name for names in _ENDINGS.values() for name in names)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NETWORK", help="e.g. resnet50, net.pth or a run's folder")
    parser.add_argument(
        "--input", type=input_size, metavar="SIZE",
        help="473, 480x640 (height, width) or 3x480x640; default: its own size",
    )  # fmt: skip
    parser.add_argument("--level", choices=LEVELS, default="block", help="default: block")
    parser.add_argument(
        "--formulas", action="store_true", help="show the formulas of sizes, parameters and MACs"
    )
    parser.add_argument(
        "--format", choices=_FORMATS, help="default: by the ending of --out, else table"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help=f"write to a file instead of printing: {', '.join(_ENDINGS)}",
    )  # fmt: skip
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    kind = format_of(args.format, args.out, _ENDINGS)
    if args.out is None and kind in ("png", "pdf"):
        raise InputError(f"{kind} is binary and cannot be printed; give out, a file", field="out")
    explanation = described(args.model, **given_options(args)).explain(args.input)
    if args.out is None and kind in ("table", "tree"):
        from resnetkit.report.console import network

        network.show(explanation, args.level, formulas=args.formulas, tree=kind == "tree")
    else:
        write(_page(explanation, kind, args), args.out)
    return 0


def _page(explanation: Explanation, kind: str, args: argparse.Namespace) -> str | bytes:
    if kind == "json":
        return explanation.to_json()
    if kind == "svg":
        from resnetkit.report.drawing import svg

        return svg.drawing(explanation)
    if kind in ("png", "pdf"):
        from resnetkit.report.drawing import printed

        return printed.png(explanation) if kind == "png" else printed.pdf(explanation)
    if kind == "html":
        from resnetkit.report.pages.network_page import network_page

        return network_page(explanation)
    page = {
        "table": text.table,
        "tree": text.tree,
        "markdown": text.markdown,
        "csv": text.comma_separated,
    }[kind]
    return page(explanation, args.level, args.formulas)
