"""Flags for the fields of ``Recipe`` and ``Augment``."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import Any, get_args, get_type_hints

from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.recipe import AUTO, SUBJECT, Recipe

_CHOSEN = [field for field in fields(Recipe) if field.name not in SUBJECT]
#: Every field that has a flag.
NAMES = tuple(field.name for field in (*_CHOSEN, *fields(Augment)))


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each recipe field; flags that are not given are None."""
    group = parser.add_argument_group("training (default: the recipe's values)")
    for field in _CHOSEN:
        _add(group, field, get_type_hints(Recipe)[field.name])
    group = parser.add_argument_group("augmentation (default: the recipe's values)")
    for field in fields(Augment):
        _add(group, field, get_type_hints(Augment)[field.name])


def _add(group: Any, field: Field[Any], hint: Any) -> None:
    flag, about = f"--{field.name.replace('_', '-')}", field.metadata["help"]
    words = get_args(hint)
    if field.name == "batch_size":
        group.add_argument(flag, type=_batch, metavar="N|auto", help=about)
    elif hint is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, help=about)
    elif words and all(isinstance(word, str) for word in words):
        group.add_argument(flag, choices=words, help=about)
    elif "tuple" in str(hint):
        group.add_argument(flag, type=_shares, metavar="X,X,...", help=about)
    elif field.name in ("validation", "test"):
        short = ["--val"] if field.name == "validation" else []
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
