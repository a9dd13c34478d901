"""Open a network in the browser: stages, blocks, layers, windows and costs, on one page.

The page is one file that works without a server. Without --out it is written to a temporary
folder and opened.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resnetkit.architecture import registry
from resnetkit.architecture.explanation import explain
from resnetkit.architecture.network import Network
from resnetkit.cli.network_options import add_options, given_options, input_size


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NETWORK|BUNDLE",
        help="a network of `resnetkit catalog`, a bundle or an exported file",
    )
    parser.add_argument(
        "--input", type=input_size, metavar="SIZE", help="473, or 3x473x473; default: its own size"
    )
    parser.add_argument("--out", metavar="FILE", help="write to a file instead of opening it")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    explanation = explain(_network(args.name), args.input, **given_options(args))
    from resnetkit.files import write_text
    from resnetkit.report.pages.view_page import view_page

    if args.out is not None:
        write_text(args.out, view_page(explanation))
        return 0
    import tempfile
    import webbrowser

    path = Path(tempfile.mkdtemp(prefix="resnetkit-")) / f"{explanation.network.name}.html"
    write_text(path, view_page(explanation))
    print(path)
    webbrowser.open(path.as_uri())
    return 0


def _network(name: str) -> str | Network:
    """The name of a network, or the network of a file or published source."""
    from resnetkit import source

    known = name in registry.names()
    if known or not (Path(name).suffix or Path(name).exists() or source.is_source(name)):
        return name
    from resnetkit.bundle.opening import open_model

    return open_model(name).network
