"""Open a network in the browser: stages, blocks, layers, windows and costs, on one page.

MODEL is given as to `resnetkit explain`. With pictures the page shows what each stage and block
made of them, which needs weights. With --out it is written to a file that works without a server;
otherwise a bundle is served on this machine, so that pictures can be dropped on the page until
Ctrl-C, and the page of a network is opened from a temporary folder.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resnetkit.architecture import registry
from resnetkit.cli.network_options import add_options, described, given_options, input_size
from resnetkit.errors import InputError
from resnetkit.source import is_source

if TYPE_CHECKING:
    from resnetkit.bundle.bundle import Bundle
    from resnetkit.inspect import Picture


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="e.g. resnet50, net.pth or a run's folder")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="goes through the network")
    parser.add_argument(
        "--input", type=input_size, metavar="SIZE",
        help="473, 480x640 (height, width) or 3x480x640; default: its own size",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="write the page instead of opening it")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    from resnetkit.files import write_text
    from resnetkit.inspect.page.view_page import view_page

    as_it_is = args.input is None and not given_options(args)
    looks: list[Picture] = []
    if args.pictures:
        if not as_it_is:
            raise InputError(
                "pictures go through the network as it is; leave the input and the options out"
            )
        looks = _looks(_with_weights(args.model), args.pictures)
    elif args.out is None and as_it_is and _is_served(args.model):
        _serve(_with_weights(args.model))
        return 0
    explanation = described(args.model, **given_options(args)).explain(args.input)
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


def _is_served(model: str) -> bool:
    """Whether there are weights to serve, and the packages to do it."""
    weights = model not in registry.names() and (is_source(model) or Path(model).exists())
    return weights and all(find_spec(name) for name in ("fastapi", "uvicorn", "prometheus_client"))


def _with_weights(model: str) -> Bundle:
    if model in registry.names():
        raise InputError(
            f"{model} is a network without weights, which pictures need; give a bundle, "
            "e.g. RUN/best.safetensors"
        )
    from resnetkit.hub.weights import load

    best = Path(model) / "best.safetensors"
    return load(best if best.is_file() else model)


def _looks(bundle: Bundle, pictures: list[str]) -> list[Picture]:
    """What the network made of each picture."""
    from resnetkit.inspect import look
    from resnetkit.report.console.progress import track

    return [look(bundle, picture) for picture in track(pictures)]


def _serve(bundle: Bundle) -> None:
    """Serve the page on a free port of this machine until Ctrl-C, and open it."""
    import webbrowser

    from resnetkit.server.serving import serve

    def opened(line: str) -> None:
        page = f"{line.split(maxsplit=1)[0]}/view"
        print(f"{page}, until Ctrl-C", flush=True)
        webbrowser.open(page)

    serve(bundle, port=0, inspect=True, on_start=opened)
