"""Flags for the fields of ``Recipe`` and ``Augment``."""

from __future__ import annotations

import argparse
from dataclasses import Field
from typing import Any, get_args

from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.option_groups import described
from resnetkit.training.recipe.recipe import AUTO, GROUPS, OPTIONS

#: Every option that has a flag.
NAMES = (*OPTIONS, *(name for name, _, _ in described(Augment)))


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each option of a recipe; flags that are not given are None."""
    groups = [(None, "Training."), *((place, kind.__doc__) for place, kind in GROUPS.items())]
    for place, title in groups:
        group = parser.add_argument_group(_title(title))
        for name, (within, field, hint) in OPTIONS.items():
            if within == place:
                _add(group, name, field, hint)
    group = parser.add_argument_group(_title("Augmentation."))
    for name, field, hint in described(Augment):
        _add(group, name, field, hint)


def _title(text: str | None) -> str:
    return f"{(text or '').rstrip('.').lower()} (default: the recipe's)"


def _add(group: Any, name: str, field: Field[Any], hint: Any) -> None:
    flag, about = f"--{name.replace('_', '-')}", field.metadata["help"]
    words = get_args(hint)
    if name == "batch_size":
        group.add_argument(flag, type=_batch, metavar="N|auto", help=about)
    elif hint is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, help=about)
    elif words and all(isinstance(word, str) for word in words):
        group.add_argument(flag, choices=words, help=about)
    elif "tuple" in str(hint):
        group.add_argument(flag, type=_shares, metavar="X,X,...", help=about)
    elif name in ("validation", "test"):
        short = ["--val"] if name == "validation" else []
        group.add_argument(flag, *short, type=_share, metavar="X|none", help=about)
    elif hint is float:
        group.add_argument(flag, type=float, metavar="X", help=about)
    elif hint is str:
        group.add_argument(flag, metavar="NAME", help=about)
    else:
        group.add_argument(flag, type=int, metavar="N", help=about)


def _batch(text: str) -> int | str:
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a batch size; give a number, e.g. 32, or {AUTO}"
        ) from None


def _share(text: str) -> float:
    if text == "none":
        return 0.0
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a share of the images; give a number, e.g. 0.15, or none"
        ) from None


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers; give e.g. 0.3,0.6"
        ) from None
