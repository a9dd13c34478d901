"""Options of ``resnetkit.load``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from resnetkit.bundle.bundle import Bundle
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

#: The dtypes of weights.
FRACTIONS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """See ``resnetkit.load``; ``facts`` are the options of the network.

    Raises ``ValueError`` for an unknown ``dtype``.
    """

    strict: bool = False
    prefix: str | None = None
    ema: bool | None = None
    head: str | None = None
    drop: tuple[str, ...] = ()
    dtype: str | None = "float32"
    num_classes: int | None = None
    preprocess: str | Preprocess | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in FRACTIONS:
            raise InputError(
                f"dtype is {self.dtype!r}; it must be one of {', '.join(FRACTIONS)}, or None"
            )

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> LoadOptions:
        """Parse the keyword arguments of ``resnetkit.load``; unknown names are facts."""
        names = {option.name for option in fields(cls)} - {"facts"}
        own = {name: value for name, value in given.items() if name in names}
        facts = {name: value for name, value in given.items() if name not in names}
        return cls(**{**own, "drop": tuple(own.get("drop", ()))}, facts=facts)

    def check_none_given(self, path: str | Path) -> None:
        """Raise ``InputError`` for options that a bundle would ignore, because it is complete."""
        given = {**self.facts, "prefix": self.prefix, "ema": self.ema, "head": self.head}
        given |= {"preprocess": self.preprocess, "drop": self.drop}
        extra = [name for name, value in given.items() if value not in (None, ())]
        if extra:
            raise InputError(
                f"{path} is a bundle, which already defines this; leave out {', '.join(extra)}"
            )

    def with_head(self, bundle: Bundle) -> Bundle:
        """The bundle, with a new classifier if requested."""
        return (
            bundle if self.num_classes is None else bundle.with_new_head(numbered(self.num_classes))
        )


def numbered(classes: int | None) -> tuple[str, ...]:
    """Class names for a file without any."""
    return tuple(str(number) for number in range(classes or 0))
