"""Invalid user input: the error for it, missing packages, and rules for values from files.

Bundles, exported files, splits, logs and recipes are read from files that anybody may have written.
A rule gives type and range, so that what is checked here can be used without a second thought.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class InputError(ValueError):
    """Raised for invalid user input.

    The message is one line: what was given, what is allowed, what to do. ``field`` names the
    parameters that it speaks of, which the command line shows as flags; with ``=`` at its end, only
    where a value is assigned. The command line prints the message and exits with 2.
    """

    def __init__(self, text: str, *, field: str | tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.fields = (field,) if isinstance(field, str) else field

    def behind(self, beginning: str) -> InputError:
        """The same error behind a beginning."""
        return InputError(f"{beginning}{self}", field=self.fields)


class AssumptionWarning(UserWarning):
    """What a file could not tell and was taken as documented, and what was left out of it."""


def check_installed(package: str, purpose: str, extra: str | None = None) -> None:
    """Raise ``InputError`` where ``package``, which ``purpose`` needs, is not installed.

    ``extra`` is the extra of resnetkit that has it.
    """
    if find_spec(package) is None:
        named = f"'resnetkit[{extra}]'" if extra else package
        raise InputError(f"{purpose} needs {package}, which is not installed; pip install {named}")


def missing(error: ModuleNotFoundError, purpose: str) -> InputError | None:
    """The error to raise where an optional package is missing; None for any other module."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return InputError(
        f"{purpose} needs {package}, which is not installed; pip install "
        f"'resnetkit[{_EXTRAS[package]}]'"
    )


def require(module: str, purpose: str, extra: str | None = None) -> Any:
    """Import a module of an optional package. Raises as ``check_installed``."""
    check_installed(module.partition(".")[0], purpose, extra)
    return import_module(module)


#: The extra that brings a package which whole modules need.
_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "sklearn", "matplotlib", "safetensors"), "train"),
    **dict.fromkeys(("fastapi", "prometheus_client", "starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("filelock", "huggingface_hub", "requests"), "hub"),
    "tensorboard": "tensorboard",
}

#: What a network without a classifier cannot do, and the ways to go on.
NO_CLASSES = (
    "has no classes to rank, for it has no classifier; train one (resnetkit.train), name its layer "
    "(resnetkit.convert with head), or take embeddings"
)

#: A text in a document, a name of a class for instance, may be this long.
LONGEST = 10_000
#: A message shows this much of a wrong value.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value may be: in words, and whether it is."""

    allowed: str
    fits: Callable[[object], bool]


def whole(low: int, high: int) -> Rule:
    """A whole number of a range; truth values are none."""
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float = -1e9, high: float = 1e9) -> Rule:
    """A finite number of a range."""
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,  # type: ignore[operator]
    )


def text(longest: int = LONGEST) -> Rule:
    """A text of some length."""
    return Rule(
        f"a text of up to {longest:,} characters",
        lambda value: isinstance(value, str) and len(value) <= longest,
    )


def one_of(*values: object) -> Rule:
    """One of some values."""
    return Rule(
        ", ".join(map(str, values)),
        lambda value: any(type(value) is type(one) and value == one for one in values),
    )


def listed(rule: Rule, most: int, least: int = 0) -> Rule:
    """A list of values that keep a rule."""
    return Rule(
        f"a list of {least} to {most:,} items, each {rule.allowed}",
        lambda value: (
            isinstance(value, (list, tuple))
            and least <= len(value) <= most
            and all(map(rule.fits, value))
        ),
    )


def mapping(rule: Rule | None = None) -> Rule:
    """An object whose keys are texts, and whose values keep a rule."""
    return Rule(
        "an object" + (f" of {rule.allowed}" if rule else ""),
        lambda value: (
            isinstance(value, Mapping)
            and all(isinstance(key, str) for key in value)
            and (rule is None or all(map(rule.fits, value.values())))
        ),
    )


def optional(rule: Rule) -> Rule:
    """None, or what a rule allows."""
    return Rule(f"{rule.allowed}, or none", lambda value: value is None or rule.fits(value))


def check(values: Mapping[str, Any], rules: Mapping[str, Rule], what: str) -> None:
    """Raise ``InputError`` for the first of ``rules`` that its value does not keep.

    A field that is not there is None. ``what`` begins the message: ``preprocess size is ...``.
    """
    for name, rule in rules.items():
        value = values.get(name)
        if not rule.fits(value):
            raise InputError(f"{what} {name} is {shown(value)}; it takes {rule.allowed}")


def shown(value: object) -> str:
    """A value from a document in a message: printable, on one line, not too long."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    plain = isinstance(value, (str, int, float, bool)) or value is None
    words = ascii(value[:_SHOWN] if isinstance(value, str) else value) if plain else ""
    return words or f"a {type(value).__name__}"


def parsed(document: str | bytes, what: str = "it") -> dict[str, Any]:
    """A JSON object. Raises ``InputError`` for anything else, too deep ones included."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        raise InputError(f"{what} cannot be understood ({reason})") from None
    if not isinstance(found, dict):
        raise InputError(f"{what} is {shown(found)}, and should be an object")
    return found


def is_finite(value: object) -> bool:
    """Whether it is a finite number that arithmetic can use."""
    try:
        return type(value) in (int, float) and math.isfinite(float(value))  # type: ignore[arg-type]
    except OverflowError:
        return False


def printable(text: str) -> str:
    """A text from a file, or a file's name, as it is shown: a line of characters, nothing else.

    Control characters, which a terminal would obey, line ends, marks that turn the direction of
    what follows, and bytes that are no UTF-8 are escaped, as ``\\n``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
