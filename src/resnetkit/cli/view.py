"""Open a network in the browser: stages, blocks, layers, windows and costs, on one page.

The page is one file that works without a server. Without --out it is written to a temporary
folder and opened. With pictures, it shows what each stage and block made of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from resnetkit.architecture import registry
from resnetkit.architecture.explanation import explain
from resnetkit.architecture.network import Network
from resnetkit.cli.network_options import add_options, given_options, input_size
from resnetkit.errors import InputError

if TYPE_CHECKING:
    from resnetkit.inspect import Picture


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NETWORK|BUNDLE",
        help="a network of `resnetkit catalog`, a bundle or an exported file",
    )
    parser.add_argument(
        "pictures", nargs="*", metavar="PICTURE", help="pictures to send through a bundle's network"
    )
    parser.add_argument(
        "--input", type=input_size, metavar="SIZE", help="473, or 3x473x473; default: its own size"
    )
    parser.add_argument("--out", metavar="FILE", help="write to a file instead of opening it")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    explanation = explain(_network(args.name), args.input, **given_options(args))
    looks = _looks(args)
    from resnetkit.files import write_text
    from resnetkit.inspect.page.view_page import view_page

    if args.out is not None:
        write_text(args.out, view_page(explanation, looks))
        return 0
    import tempfile
    import webbrowser

    path = Path(tempfile.mkdtemp(prefix="resnetkit-")) / f"{explanation.network.name}.html"
    write_text(path, view_page(explanation, looks))
    print(path)
    webbrowser.open(path.as_uri())
    return 0


def _looks(args: argparse.Namespace) -> list[Picture]:
    """What the network made of each picture."""
    if not args.pictures:
        return []
    if args.name in registry.names():
        raise InputError(
            f"{args.name} is a network without weights, and pictures need some; give a bundle, "
            "e.g. RUN/best.safetensors"
        )
    if args.input is not None or given_options(args):
        raise InputError(
            "pictures go through the network as it is in the bundle; leave the input and the "
            "options out"
        )
    from resnetkit.inspect import look
    from resnetkit.report.console.progress import track

    return [look(args.name, picture) for picture in track(args.pictures)]


def _network(name: str) -> str | Network:
    """The name of a network, or the network of a file or published source."""
    from resnetkit import source

    known = name in registry.names()
    if known or not (Path(name).suffix or Path(name).exists() or source.is_source(name)):
        return name
    from resnetkit.bundle.opening import open_model

    return open_model(name).network
