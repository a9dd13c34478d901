"""Flags for reading and fetching weight files."""

from __future__ import annotations

import argparse
from typing import Any

_READING = ("strict", "preprocess", "head", "drop", "prefix", "ema", "dtype")
_FETCHING = ("sha256", "mirror", "offline")


def add_reading(parser: argparse.ArgumentParser, *, strict: bool = True) -> None:
    """Add the flags of ``resnetkit.load`` other than the network's options."""
    group = parser.add_argument_group("reading the file")
    add = group.add_argument
    if strict:
        add("--strict", action="store_true", help="reject assumptions that the file does not "
            "confirm, and leftover tensors that --drop does not name")  # fmt: skip
    add("--head", metavar="LAYER", help="the classifier's linear layer, e.g. head.0, "
        "if its name is not recognised")  # fmt: skip
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights")
    add("--preprocess", metavar="LABEL", help="one that `resnetkit identify` lists")
    add("--drop", action="append", default=[], metavar="PATTERN", help="skip leftover "
        "tensors (or the classifier) by name prefix, * matches any text; may be given several "
        "times")  # fmt: skip
    add("--prefix", help="which network, if the file has several")
    add("--ema", action=argparse.BooleanOptionalAction, help="averaged (EMA) or raw weights")


def add_fetching(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``resnetkit.fetch``."""
    group = parser.add_argument_group("downloading")
    add = group.add_argument
    add("--sha256", metavar="HEX", help="expected checksum of the file")
    add("--mirror", metavar="URL", help="instead of https://download.pytorch.org, or of "
        "https://huggingface.co (as HF_ENDPOINT)")  # fmt: skip
    add("--offline", action="store_true", help="use the cache only, as HF_HUB_OFFLINE=1")


def given_reading(args: argparse.Namespace) -> dict[str, Any]:
    """The values of the ``add_reading`` flags that were given."""
    return _given(args, _READING)


def given_fetching(args: argparse.Namespace) -> dict[str, Any]:
    """The values of the ``add_fetching`` flags that were given."""
    return _given(args, _FETCHING)


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(args, name, None) for name in names}
    # --no-ema is a value; an absent --strict is not.
    return {k: v for k, v in values.items() if v not in (None, []) and (v or k == "ema")}
