"""A TOML file with the options of a command; flags override it."""

from __future__ import annotations

import argparse
import difflib
import tomllib
from pathlib import Path
from typing import Any

from resnetkit.errors import InputError, shown

#: The types of values in TOML.
_NAMES: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
}


def add_config(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add ``--config``, which accepts the options that have been added so far."""
    options = {one.dest: one for one in parser._actions if one.dest != "help"}
    given = {name: one.default for name, one in options.items()}
    # None shows that a flag was not given.
    parser.set_defaults(**dict.fromkeys(options), configurable=(options, given))
    parser.add_argument("--config", type=Path, metavar=metavar, help="options in TOML, with the "
        "names of the flags and _ for -; flags override them")  # fmt: skip


def configured(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of the file that are no options; ``args`` gets the values of the others.

    Raises ``InputError`` if the file cannot be read, and for a value of another type.
    """
    options, defaults = args.configurable
    found = {} if args.config is None else _read(args.config)
    for name, default in defaults.items():
        value = found.pop(name, default)
        if getattr(args, name) is None:
            if value is not default:
                _check(args.config, name, value, options[name])
            setattr(args, name, value)
    return found


def unknown(path: Path, keys: dict[str, Any], known: list[str]) -> InputError:
    """The error for keys that are no options."""
    key = min(keys)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; it must be one of {', '.join(known)}"
    return InputError(f"{path}: unknown key {key!r}{hint}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a TOML file", field="config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from None


def _check(path: Path, name: str, value: object, option: argparse.Action) -> None:
    """Check the value of an option as the flag's would be."""
    kind = bool if isinstance(option, argparse._StoreTrueAction) else option.type or str
    kind = str if kind is Path else kind
    listed = option.nargs in ("*", "+") or isinstance(option, argparse._AppendAction)
    values = value if listed and isinstance(value, list) else [value]
    for one in values:
        fits = type(one) is kind or (kind is float and type(one) is int)
        if not fits or (listed and not isinstance(value, list)):
            many = "a list of " if listed else ""
            raise InputError(f"{path}: {name} is {shown(value)}; it must be {many}{_NAMES[kind]}")
        if option.choices is not None and one not in option.choices:
            raise InputError(
                f"{path}: {name} is {shown(one)}; it must be one of {', '.join(option.choices)}"
            )
