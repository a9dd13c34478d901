"""Open a network in the browser: stages, blocks, layers, windows and costs, on one page.

MODEL is given as to `resnetkit explain`. With pictures the page shows what each stage and block
made of them, which needs weights; with --mistakes they are the most confident mistakes of a run, or
of a bundle on --data, each with the maps of the predicted and of the true class. With --out the
page is written to a file that works without a server; otherwise a bundle is served on this machine,
so that pictures can be dropped on the page until Ctrl-C, and other pages are opened from a
temporary folder. A report beside the file gets links to its mistakes.
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
    add = parser.add_argument
    add("--mistakes", action="store_true", help="the most confident mistakes of the evaluation")
    add("--count", type=int, metavar="N", help="of so many mistakes, 1 to 24; default: 12")
    add("--data", metavar="DATA", help="labelled images as in `evaluate`; default: the run's")
    add("--split", choices=("train", "validation", "test", "all"), help="which images of them")
    add("--class-map", type=Path, metavar="FILE", help="as in `evaluate`")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    from resnetkit.files import write_text
    from resnetkit.inspect.page.view_page import view_page

    as_it_is = args.input is None and not given_options(args)
    looks: list[Picture] = []
    _check_together(args)
    if args.pictures or args.mistakes:
        if not as_it_is:
            raise InputError(
                "pictures go through the network as it is; leave the input and the options out"
            )
        if args.mistakes:
            looks = _mistakes(args)
        else:
            looks = _looks(_with_weights(args.model), args.pictures)
    elif args.out is None and as_it_is and _is_served(args.model):
        _serve(_with_weights(args.model))
        return 0
    explanation = described(args.model, **given_options(args)).explain(args.input)
    if args.out is not None:
        write_text(args.out, view_page(explanation, looks))
        if args.mistakes:
            from resnetkit.report.pages.mistake_links import link_mistakes

            link_mistakes(Path(args.out), [look["name"] for look in looks])
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


def _check_together(args: argparse.Namespace) -> None:
    if args.mistakes and args.pictures:
        raise InputError(f"--mistakes shows no other pictures; leave {args.pictures[0]} out")
    given = ("count", "data", "split", "class_map")
    for name in given if not args.mistakes else ():
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} requires --mistakes")


def _mistakes(args: argparse.Namespace) -> list[Picture]:
    """The most confident mistakes of a run or bundle."""
    import sys

    from resnetkit.errors import printable
    from resnetkit.evaluation.evaluation import evaluate
    from resnetkit.evaluation.mistake_pictures import mistake_pictures
    from resnetkit.report.console.lines import tell_unreadable
    from resnetkit.report.console.progress import track
    from resnetkit.training.run_folder import BEST, RECIPE, read_recipe

    model = Path(args.model)
    folder = model if model.is_dir() else model.parent
    data = args.data
    if data is None:
        if not (folder / RECIPE).is_file():
            raise InputError(f"{args.model} is not of a run, whose data is known; give --data DATA")
        data = read_recipe(folder).data
    best = model / BEST
    found = evaluate(best if best.is_file() else args.model, data, split=args.split,
                     class_map=args.class_map, track=track)  # fmt: skip
    for note in (*found.notes, *filter(None, [found.warning])):
        print(f"resnetkit: {printable(note)}", file=sys.stderr)
    for name, reason in found.evaluation.problems:
        tell_unreadable(name, reason)
    if not found.evaluation.mistakes:
        raise InputError(
            f"{args.model} makes no mistake on {found.evaluation.images} images of {data} "
            f"({found.part}); give other images by --data or --split"
        )
    pictures = mistake_pictures(
        found, 12 if args.count is None else args.count, class_map=args.class_map, track=track
    )
    wrong = found.evaluation.images - int(found.evaluation.confusion.trace())
    print(f"{len(pictures)} of {wrong} mistakes on {found.evaluation.images} images "
          f"({found.part})", file=sys.stderr)  # fmt: skip
    return pictures


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
