"""Network options: validated, overridden, compared, read from and written to JSON.

An option is one field: its type, default, meaning (``help``) and allowed values (``choices``).
The command line and the documentation are generated from these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from resnetkit.architecture.checks import check_together, check_values
from resnetkit.architecture.option_fields import STEM_WIDTHS, OptionFields
from resnetkit.errors import InputError, check, mapping

#: Names of options in files written before version 0.2.
_RENAMED = {"classes": "num_classes", "input_channels": "in_chans"}
#: Options whose default depends on the stem, the stages or their widths.
_FOLLOW = {
    "stem": ("stem_widths", "stem_padding", "stem_conv_stride", "stem_pool", "output_stride"),
    "stem_conv_stride": ("output_stride",),
    "depths": ("output_stride", "blocks", "conv_widths"),
    "widths": ("conv_widths",),
    "stem_pool": ("output_stride",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(OptionFields):
    """The options of a network. ``None`` for a ``stem_`` option or ``output_stride`` is replaced
    by the default of the stem. With ``blocks``, ``block`` is that of the last stage.

    Raises ``ValueError`` for invalid values and conflicting options; the message says what was
    given and what is allowed.
    """

    def __post_init__(self) -> None:
        check_values(self)
        if self.stem_widths is None:
            object.__setattr__(self, "stem_widths", STEM_WIDTHS[self.stem])
        if self.stem_padding is None:
            object.__setattr__(self, "stem_padding", 3 if self.stem == "7x7" else 1)
        if self.stem_conv_stride is None:
            object.__setattr__(self, "stem_conv_stride", self.natural_conv_stride)
        if self.stem_pool is None:
            object.__setattr__(self, "stem_pool", "none" if self.stem == "3x3" else "padded")
        if self.output_stride is None:
            object.__setattr__(self, "output_stride", self.natural_stride)
        if self.blocks is not None:
            object.__setattr__(self, "block", self.blocks[-1])
            if len(set(self.blocks)) == 1 and len(self.blocks) == len(self.depths):
                object.__setattr__(self, "blocks", None)
        check_together(self)

    def override(self, **changes: Any) -> Options:
        """These options with ``changes``; options that depend on a changed one are reset.

        A new ``stem`` resets the other stem options, unless they are changed too; ``block``
        applies to all stages.
        """
        _check_names(changes)
        values = {name: getattr(self, name) for name in option_names()}
        for cause, followers in _FOLLOW.items():
            if cause in changes and changes[cause] != values[cause]:
                values.update(dict.fromkeys(followers))
        if "block" in changes:
            values["blocks"] = None
        return Options(**{**values, **changes})

    def differences(self, other: Options) -> dict[str, Any]:
        """The options that differ from those of ``other``, with the values of ``self``."""
        return {
            name: getattr(self, name)
            for name in option_names()
            if getattr(self, name) != getattr(other, name)
        }

    def to_dict(self) -> dict[str, Any]:
        """Every option by name, as JSON types."""
        values = {name: getattr(self, name) for name in option_names()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Options:
        """The options of ``to_dict``. Raises ``ValueError`` for unknown or invalid ones."""
        check({"options": document}, {"options": mapping()}, "network")
        document = {_RENAMED.get(name, name): value for name, value in document.items()}
        _check_names(document)
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in document.items()
        }
        return cls(**values)


@cache
def option_names() -> tuple[str, ...]:
    """The names of all options, in order."""
    return tuple(option.name for option in fields(Options))


def _check_names(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in option_names():
            raise InputError(
                f"{name!r} is not a network option; the options are {', '.join(option_names())}"
            )
