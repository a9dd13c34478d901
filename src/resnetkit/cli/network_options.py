"""Flags for the fields of ``Options``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container
from dataclasses import fields
from typing import Any, get_type_hints

from resnetkit.architecture.layer import Shape
from resnetkit.architecture.options import Options
from resnetkit.errors import printable
from resnetkit.hub.explaining import Described, describe


def add_options(parser: argparse.ArgumentParser, without: Container[str] = ()) -> None:
    """Add a flag for each option except those named; only given flags are set."""
    group = parser.add_argument_group("network options (default: its catalogue entry's values)")
    hints = get_type_hints(Options)
    for option in fields(Options):
        if option.name in without:
            continue
        flag = f"--{option.name.replace('_', '-')}"
        words = {"default": argparse.SUPPRESS, "help": option.metadata["help"]}
        choices = option.metadata["choices"]
        hint = str(hints[option.name])
        if choices:
            group.add_argument(flag, choices=choices, **words)
        elif hints[option.name] is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **words)
        elif "tuple" in hint and "Literal" in hint:
            group.add_argument(flag, type=_words, metavar="WORD,WORD,...", **words)
        elif "tuple" in hint:
            group.add_argument(flag, type=_numbers, metavar="N,N,...", **words)
        elif hints[option.name] is float:
            group.add_argument(flag, type=float, metavar="X", **words)
        elif option.name in ("num_classes", "squeeze_excitation"):
            group.add_argument(flag, type=_number_or_none, metavar="N|none", **words)
        else:
            group.add_argument(flag, type=int, metavar="N", **words)


def given_options(arguments: argparse.Namespace, without: Container[str] = ()) -> dict[str, Any]:
    """The network options that were given, except those named."""
    names = {option.name for option in fields(Options) if option.name not in without}
    return {name: value for name, value in vars(arguments).items() if name in names}


def described(model: str, **options: Any) -> Described:
    """The network of a name or a file; what was assumed of a file is printed on stderr."""
    found = describe(model, **options)
    for line in found.assumed:
        print(f"resnetkit: {printable(line)}", file=sys.stderr)
    return found


def input_size(text: str) -> int | Shape:
    """``473`` as a side, ``480x640`` as height and width, ``3x480x640`` as a shape."""
    try:
        sizes = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if len(sizes) not in (1, 2, 3) or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; give e.g. 473, 480x640 (height, width) or 3x480x640"
        )
    return sizes[0] if len(sizes) == 1 else sizes


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers; give e.g. 3,4,6,3"
        ) from None


def _number_or_none(text: str) -> int | None:
    if text.lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number or none") from None
