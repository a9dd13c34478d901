"""Invalid user input: the error for it, missing packages, and rules for values from files.

Bundles, exported files, splits, logs and recipes are read from untrusted files. A rule checks type
and range, so that validated values can be used without further checks.
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
    parameters in the message, which the command line shows as flags; with a trailing ``=``, only
    where a value is assigned. The command line prints the message and exits with 2.
    """

    def __init__(self, text: str, *, field: str | tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.fields = (field,) if isinstance(field, str) else field

    def behind(self, beginning: str) -> InputError:
        """The same error with a prefix."""
        return InputError(f"{beginning}{self}", field=self.fields)


class AssumptionWarning(UserWarning):
    """Attributes assumed as documented because the file does not have them, and skipped tensors."""


#: The extra of resnetkit that has an optional package.
EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "sklearn", "matplotlib", "safetensors"), "train"),
    **dict.fromkeys(("fastapi", "httpcore", "prometheus_client", "uvicorn"), "serve"),
    **dict.fromkeys(("filelock", "huggingface_hub", "requests"), "hub"),
    **dict.fromkeys(("onnx", "onnxruntime"), "onnx"),
    **dict.fromkeys(("pypdfium2", "svglib"), "drawing"),
    "faiss": "duplicates",
    "fsspec": "remote",
    "grpc": "grpc",
    "h5py": "keras",
    "mlflow": "mlflow",
    "nncf": "int8",
    "opentelemetry": "otel",
    "openvino": "openvino",
    "pillow_heif": "heic",
    "pyarrow": "parquet",
    "ray": "ray",
    "simplejpeg": "fast",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
}


def check_installed(package: str, purpose: str) -> None:
    """Raise ``InputError`` if ``package``, which ``purpose`` requires, is not installed."""
    if find_spec(package) is None:
        raise _not_installed(package, purpose)


def _not_installed(package: str, purpose: str) -> InputError:
    named = f"'resnetkit[{EXTRAS[package]}]'" if package in EXTRAS else package
    return InputError(f"{purpose} requires {package}, which is not installed; pip install {named}")


def missing(error: ModuleNotFoundError, purpose: str) -> InputError | None:
    """The error to raise if an optional package is missing; None for any other module."""
    package = (error.name or "").partition(".")[0]
    return _not_installed(package, purpose) if package in EXTRAS else None


def require(module: str, purpose: str) -> Any:
    """Import a module of an optional package. Raises as ``check_installed``."""
    check_installed(module.partition(".")[0], purpose)
    return import_module(module)


#: Why a network without a classifier cannot rank classes, and the alternatives.
NO_CLASSES = (
    "has no classifier, so no classes to rank; train one (resnetkit.train), name its layer "
    "(resnetkit.convert with head), or take embeddings"
)

#: Maximum length of a string in a document, e.g. a class name.
LONGEST = 10_000
#: Maximum length of an invalid value in a message.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Rule:
    """A validation rule: a description of the allowed values, and a predicate."""

    allowed: str
    fits: Callable[[object], bool]


def whole(low: int, high: int) -> Rule:
    """An integer in a range; booleans are rejected."""
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float = -1e9, high: float = 1e9) -> Rule:
    """A finite number in a range."""
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,  # type: ignore[operator]
    )


def text(longest: int = LONGEST) -> Rule:
    """A string of limited length."""
    return Rule(
        f"a string of up to {longest:,} characters",
        lambda value: isinstance(value, str) and len(value) <= longest,
    )


def one_of(*values: object) -> Rule:
    """One of the given values."""
    return Rule(
        ("one of " if len(values) > 1 else "") + ", ".join(map(str, values)),
        lambda value: any(type(value) is type(one) and value == one for one in values),
    )


def listed(rule: Rule, most: int, least: int = 0) -> Rule:
    """A list whose items satisfy a rule."""
    return Rule(
        f"a list of {least} to {most:,} items, each {rule.allowed}",
        lambda value: (
            isinstance(value, (list, tuple))
            and least <= len(value) <= most
            and all(map(rule.fits, value))
        ),
    )


def mapping(rule: Rule | None = None) -> Rule:
    """An object with string keys whose values satisfy a rule."""
    return Rule(
        "an object" + (f" of {rule.allowed}" if rule else ""),
        lambda value: (
            isinstance(value, Mapping)
            and all(isinstance(key, str) for key in value)
            and (rule is None or all(map(rule.fits, value.values())))
        ),
    )


def optional(rule: Rule) -> Rule:
    """None, or a value that satisfies a rule."""
    return Rule(f"{rule.allowed}, or none", lambda value: value is None or rule.fits(value))


def check(values: Mapping[str, Any], rules: Mapping[str, Rule], what: str) -> None:
    """Raise ``InputError`` for the first value that violates its rule.

    A missing field is None. ``what`` starts the message: ``preprocess size is ...``.
    """
    for name, rule in rules.items():
        value = values.get(name)
        if not rule.fits(value):
            raise InputError(f"{what} {name} is {shown(value)}; it must be {rule.allowed}")


def shown(value: object) -> str:
    """Format a value from a document for a message: printable, one line, truncated."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    plain = isinstance(value, (str, int, float, bool)) or value is None
    words = ascii(value[:_SHOWN] if isinstance(value, str) else value) if plain else ""
    return words or f"a {type(value).__name__}"


def parsed(document: str | bytes, what: str = "it") -> dict[str, Any]:
    """Parse a JSON object. Raises ``InputError`` for anything else, and if nested too deeply."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        raise InputError(f"{what} cannot be parsed ({reason})") from None
    if not isinstance(found, dict):
        raise InputError(f"{what} is {shown(found)}; it must be an object")
    return found


def is_finite(value: object) -> bool:
    """Whether the value is a finite number."""
    try:
        return type(value) in (int, float) and math.isfinite(float(value))  # type: ignore[arg-type]
    except OverflowError:
        return False


def printable(text: str) -> str:
    """Escape text from a file, or a file name, for output on one line.

    Terminal control characters, newlines, bidirectional marks and bytes that are not valid UTF-8
    are escaped, as ``\\n``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
