"""Plain tables as TOML; the standard library only reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """A table as TOML, tables last. None is left out, for TOML has none."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [
        f"{name} = {_value(value)}"
        for name, value in table.items()
        if value is not None and not isinstance(value, Mapping)
    ]
    inner = [
        to_toml(value, (*path, name)) for name, value in table.items() if isinstance(value, Mapping)
    ]
    return "\n".join(lines) + "\n" + "".join(f"\n{text}" for text in inner)


def _value(value: str | bool | int | float | list[Any] | tuple[Any, ...]) -> str:
    # JSON's strings, numbers, booleans and arrays are TOML's, but for DEL and a bare exponent.
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
