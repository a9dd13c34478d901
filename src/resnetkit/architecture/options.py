"""Network options: validated, overridden, compared, read from and written to JSON.

An option is one field: its type, its default, what it means (``help``) and what it may be
(``choices``). The command line and the documentation are made from these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from resnetkit.architecture.checks import check_together, check_values
from resnetkit.architecture.option_fields import STEM_WIDTHS, OptionFields
from resnetkit.errors import InputError, check, mapping

#: Names of options in files that were written before version 0.2.
_RENAMED = {"classes": "num_classes", "input_channels": "in_chans"}
#: Options whose natural value follows from the stem, the stages or their widths.
_FOLLOW = {
    "stem": ("stem_widths", "stem_padding", "stem_conv_stride", "stem_pool", "output_stride"),
    "stem_conv_stride": ("output_stride",),
    "depths": ("output_stride", "blocks", "conv_widths"),
    "widths": ("conv_widths",),
    "stem_pool": ("output_stride",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(OptionFields):
    """The choices of a network. ``None`` for a ``stem_`` option or ``output_stride`` asks for
    what is natural for the stem; it is replaced by that value. Where there are ``blocks``,
    ``block`` is that of the last stage.

    Raises ``ValueError`` for a value that is not allowed and for choices that contradict
    each other; the message says what was given and what is allowed.
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
        """These options with ``changes``; what follows from a changed one becomes natural again.

        A new ``stem`` resets the other stem options, unless they are changed too; a ``block`` is
        that of all stages.
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
        """The options in which ``self`` differs from ``other``, with the values of ``self``."""
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
        """The options of ``to_dict``. Raises ``ValueError`` for an unknown or bad one."""
        check({"options": document}, {"options": mapping()}, "network")
        document = {_RENAMED.get(name, name): value for name, value in document.items()}
        _check_names(document)
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in document.items()
        }
        return cls(**values)


def option_names() -> tuple[str, ...]:
    """The names of all options, in order."""
    return tuple(option.name for option in fields(Options))


def _check_names(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in option_names():
            raise InputError(
                f"{name!r} is no option of a network; the options are {', '.join(option_names())}"
            )
