"""Convert a checkpoint of any framework to another framework's names, or to a bundle.

Every tensor is used once, and every shape is equal. What the file cannot tell is asked for on a
terminal; elsewhere it takes a flag, or --assume. Afterwards the file is read back and run beside
the input's network.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.cli.network_options import add_options, given_options

if TYPE_CHECKING:
    from resnetkit.checkpoints.reading import Ambiguity


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help="a checkpoint of any framework, or a bundle")
    add("target", type=Path, metavar="OUT", help="ends in .safetensors, .pth, .pt or .pkl")
    add("--to", default="bundle", metavar="DIALECT", help="bundle (default), torchvision, timm, "
        "semseg, transformers, mmpretrain, ...")  # fmt: skip
    add("--assume", action="store_true", help="take what the file cannot tell as documented")
    add("--preprocess", metavar="LABEL", help="one that `resnetkit identify` lists")
    add("--classes", type=int, metavar="N", help="a new, untrained classifier")
    add("--drop", action="append", default=[], metavar="NAME", help="do without leftover tensors "
        "whose names begin so; may be given several times")  # fmt: skip
    add("--prefix", help="which network, where the file has several")
    add("--ema", action=argparse.BooleanOptionalAction, help="the average over training, or not")
    add("--format", choices=("table", "json"), default="table")
    add_options(parser, without=("classes",))


def run(args: argparse.Namespace) -> int:
    from resnetkit.conversion import convert, load
    from resnetkit.views import checkpoints

    bundle = load(
        args.source,
        assume=args.assume,
        prefix=args.prefix,
        ema=args.ema,
        drop=args.drop,
        classes=args.classes,
        preprocess=args.preprocess,
        ask=None if args.assume or not sys.stdin.isatty() else _ask,
        **{name: value for name, value in given_options(args).items() if name != "classes"},
    )
    done = convert(bundle, args.source, args.target, args.to)
    if args.format == "json":
        print(json.dumps(done.to_dict(), indent=2))
    else:
        checkpoints.show_converted(done)
    return 0


def _ask(fact: Ambiguity) -> Any:
    from rich.prompt import Prompt

    answers = {str(candidate): candidate for candidate in fact.candidates}
    print(f"{fact.fact}: {fact.meaning} ({fact.source})")
    return answers[Prompt.ask(fact.fact, choices=list(answers), default=str(fact.default))]
