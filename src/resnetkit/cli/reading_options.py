"""How somebody's file of weights is read, and how it is fetched, as flags."""

from __future__ import annotations

import argparse
from typing import Any

_READING = ("strict", "preprocess", "head", "drop", "prefix", "ema", "dtype")
_FETCHING = ("sha256", "mirror", "offline")


def add_reading(parser: argparse.ArgumentParser, *, strict: bool = True) -> None:
    """Add what ``resnetkit.load`` takes besides the options of the network."""
    group = parser.add_argument_group("what the file cannot tell, and what to take of it")
    add = group.add_argument
    if strict:
        add("--strict", action="store_true", help="refuse to take what the file cannot tell as "
            "documented, and to leave tensors out that --drop does not name")  # fmt: skip
    add("--head", metavar="LAYER", help="the linear layer that is the classifier, e.g. head.0, "
        "where its name does not tell")  # fmt: skip
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights")
    add("--preprocess", metavar="LABEL", help="one that `resnetkit identify` lists")
    add("--drop", action="append", default=[], metavar="PATTERN", help="do without leftover "
        "tensors (or the classifier) whose names begin so, * for any text; may be given several "
        "times")  # fmt: skip
    add("--prefix", help="which network, where the file has several")
    add("--ema", action=argparse.BooleanOptionalAction, help="the average over training, or not")


def add_fetching(parser: argparse.ArgumentParser) -> None:
    """Add what ``resnetkit.fetch`` takes besides."""
    group = parser.add_argument_group("where a source is")
    add = group.add_argument
    add("--sha256", metavar="HEX", help="the checksum that the file has to have")
    add("--mirror", metavar="URL", help="instead of https://download.pytorch.org, or of "
        "https://huggingface.co (as HF_ENDPOINT)")  # fmt: skip
    add("--offline", action="store_true", help="only from the cache; as HF_HUB_OFFLINE=1")


def given_reading(args: argparse.Namespace) -> dict[str, Any]:
    """What was given of ``add_reading``."""
    return _given(args, _READING)


def given_fetching(args: argparse.Namespace) -> dict[str, Any]:
    """What was given of ``add_fetching``."""
    return _given(args, _FETCHING)


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(args, name, None) for name in names}
    # --no-ema is an answer, a --strict that was not given is none.
    return {k: v for k, v in values.items() if v not in (None, []) and (v or k == "ema")}
