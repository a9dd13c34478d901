"""Registry of named networks."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType
from typing import Any

from resnetkit.architecture.families import FAMILIES, Entry
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.errors import InputError


@cache
def entries() -> MappingProxyType[str, Entry]:
    """Every entry by name, in catalogue order. Raises ``RuntimeError`` for a duplicate name."""
    found: dict[str, Entry] = {}
    for family in FAMILIES:
        for entry in family():
            if entry.name in found:
                raise RuntimeError(f"the catalogue has two networks named {entry.name}")
            found[entry.name] = entry
    return MappingProxyType(found)


def catalog() -> tuple[Entry, ...]:
    """Every named network, in catalogue order.

    >>> resnetkit.catalog()[0].name
    'resnet18'
    """
    return tuple(entries().values())


def list_models(filter: str = "", *, family: str | None = None) -> list[str]:
    """The names of all networks, or those that match ``filter``, in catalogue order.

    ``filter`` is a pattern with ``*``, ``?`` and ``[...]``; ``family`` is a word in the
    description or source of a network, ignoring case, e.g. ``"SE"`` or ``"CIFAR"``.

    >>> resnetkit.list_models("resnet1*")
    ['resnet18', 'resnet101', 'resnet152', ...]
    """
    found = []
    for entry in catalog():
        about = f"{entry.about} {entry.source}".lower()
        if family is not None and family.lower() not in about:
            continue
        if fnmatchcase(entry.name, filter or "*"):
            found.append(entry.name)
    return found


def names() -> tuple[str, ...]:
    """The names of all networks."""
    return tuple(entries())


def network(name: str | Network, **options: Any) -> Network:
    """The named network, or the given one, with ``options`` changed.

    Raises ``ValueError`` for an unknown name (and suggests the nearest), an unknown option and
    conflicting options.

    >>> resnetkit.network("resnet50", num_classes=10).parameters
    23528522
    """
    if isinstance(name, Network):
        return name.override(**options) if options else name
    entry = entries().get(name)
    if entry is None:
        near = difflib.get_close_matches(str(name).lower(), names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"unknown network {name!r}; {hint}resnetkit.list_models lists all {len(names())}"
        )
    described = entry.network()
    return described.override(**options) if options else described


def changes(described: Network) -> dict[str, Any]:
    """The options of a network that differ from the catalogue entry of its name."""
    entry = entries().get(described.name)
    return {} if entry is None else described.options.differences(Options(**entry.options))


def title(described: Network) -> str:
    """The name of a network, and the options that differ from the catalogue's network."""
    words = ", ".join(f"{name} {_text(value)}" for name, value in changes(described).items())
    return f"{described.name} with {words}" if words else described.name


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
