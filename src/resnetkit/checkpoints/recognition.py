"""Recognizes the dialect and the network of a set of tensor names and shapes.

For every dialect, its names are looked up in the file. Prefixes before them are wrappers and are
stripped; unused tensors are reported as leftovers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from resnetkit.architecture.layer import Shape
from resnetkit.architecture.parameters import named
from resnetkit.checkpoints.candidates import order, rank, readings
from resnetkit.checkpoints.checkpoint import COUNTER, TRAINING, Reading, segments
from resnetkit.checkpoints.dialect import Dialect
from resnetkit.checkpoints.dialects import DIALECTS, WRITTEN
from resnetkit.checkpoints.resolve_facts import check_config, configured, with_choices
from resnetkit.checkpoints.unsupported_architectures import family
from resnetkit.errors import InputError

#: Minimum share of matching tensors for a ResNet of a dialect.
LEAST_SHARE = 0.9
#: Extra tensors of torch's quantised layers.
_ROUNDS = ("scale", "zero_point")
#: Whether two tensors of a file, by name, have equal values.
Same = Callable[[str, str], bool]


def recognise(
    shapes: Mapping[str, Shape],
    *,
    config: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    same: Same | None = None,
) -> Reading | None:
    """The network with these tensors, or None if no dialect has such a ResNet.

    ``shapes`` maps names, separated by dots or slashes, to shapes. ``config`` is the framework's
    configuration, e.g. a ``config.json``. ``prefix`` selects one of several networks in a file by
    the prefix of its tensors, or the beginning of it. With ``same``, equal networks count as one.
    Raises ``InputError`` if a selection is needed, and if ``config`` contradicts the shapes.
    """
    every = [r for r in readings(shapes, config) if _share(r) >= LEAST_SHARE and _whole(r)]
    found = every if prefix is None else _under(every, prefix)
    if not found:
        return None
    best = min(
        found, key=lambda reading: (*order(reading), not configured(reading.dialect, config))
    )
    if config is not None:
        check_config(best, config)
    copies = _apart([r for r in found if _disjoint(r, best)])
    _check_choice(best, copies, same)
    copies = _apart([r for r in every if _disjoint(r, best)])
    ignored = {
        name: f"belongs to the copy under {copy.prefix!r}"
        for copy in copies
        for name in _belonging(copy, best)
    }
    ignored |= _beside(best)
    alike = {
        r.dialect.name: r.dialect
        for r in found
        if r.names == best.names
        and len(r.leftover) == len(best.leftover)
        and not r.dialect.evidence
    }
    alike.pop(best.dialect.name, None)
    if best.dialect.evidence:  # which distinguishes it from the others
        alike = {}
    return replace(
        with_choices(best, alike.values()),
        network=named(best.network.options),
        ignored=ignored,
        leftover=tuple(name for name in best.leftover if name not in ignored),
        also=tuple(alike),
        copies=tuple(dict.fromkeys(copy.prefix for copy in copies)),
    )


def _belonging(copy: Reading, best: Reading) -> set[str]:
    """The tensors of a copy, and others with it outside the network that is read."""
    key, slash, _ = copy.prefix.rpartition("/")
    start = f"{key}/" if slash and not best.prefix.startswith(f"{key}/") else copy.prefix
    below = {name for name in copy.shapes if name.startswith(start)}
    return {*copy.names.values()} | {n for n in below if not n.startswith(best.prefix or " ")}


def _under(readings: list[Reading], prefix: str) -> list[Reading]:
    """The readings below a prefix, or below all prefixes that begin with it."""
    exact = [r for r in readings if prefix in (r.prefix, r.prefix[:-1], r.body, r.body[:-1])]
    if exact or not prefix:
        return exact
    start = prefix if prefix[-1] in "./" else (f"{prefix}.", f"{prefix}/")
    return [r for r in readings if r.prefix.startswith(start)]


def _apart(readings: list[Reading]) -> list[Reading]:
    """The best of the readings that share tensors."""
    kept: list[Reading] = []
    for reading in sorted(readings, key=order):
        if all(_disjoint(reading, other) for other in kept):
            kept.append(reading)
    return kept


def _beside(best: Reading) -> dict[str, str]:
    """Leftovers known not to be part of a network, with a description."""
    found = {}
    key, slash, _ = best.prefix.partition("/")
    for name in best.leftover:
        first, inside, _ = name.partition("/")
        last = segments(name)[-1]
        if slash and first != key and inside and first in TRAINING:
            found[name] = "training state, beside the weights"
        elif slash and not inside and math.prod(best.shapes[name]) == 1:
            found[name] = "a single number beside the weights"
        elif last in ("queue", "queue_ptr") and "encoder_q" in best.wrappers:
            found[name] = "MoCo's queue of keys"
        elif last == "n_averaged":
            found[name] = "the number of averaged models (torch's AveragedModel)"
        elif last in _ROUNDS and all(name[: -len(last)] + one in best.shapes for one in _ROUNDS):
            found[name] = "the rounding of a quantised network's layer outputs"
        elif last in ("total_ops", "total_params"):
            found[name] = "left by an operation counter (thop)"
    return found


def read(
    shapes: Mapping[str, Shape],
    *,
    config: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    same: Same | None = None,
) -> Reading:
    """As ``recognise``, with an ``InputError`` that says what was looked for if nothing is found.

    Networks whose names show another architecture, or a variant of ResNet, are rejected by name.
    """
    found = recognise(shapes, config=config, prefix=prefix, same=same)
    if found is not None:
        _check_family(found)
        return found
    where = "" if prefix is None else f" under {prefix!r}"
    other = family(shapes) if prefix is None else None
    if other is not None:
        raise InputError(f"this is not supported: it is {other}")
    some = ", ".join(list(shapes)[:3]) or "none"
    near = max(readings(shapes, config), key=_share, default=None)
    nearest = ""
    if near is not None:
        lacking = [*near.missing.values(), *near.misshapen]
        if lacking and all(name.endswith(("running_mean", "running_var")) for name in lacking):
            raise InputError(
                f"the running statistics of the norms are missing{where}, e.g. {lacking[0]}; save "
                "state_dict(), which named_parameters() and averages of parameters are not"
            )
        nearest = (
            f"; {near.dialect.name} is nearest, with {len(near.names)} tensors that fit and "
            f"{len(lacking)} that do not, e.g. {', '.join(lacking[:2]) or near.leftover[0]}"
        )
    looked = ", ".join(one.name for one in DIALECTS if not one.evidence)
    raise InputError(
        f"no ResNet is recognised in {len(shapes)} tensors{where} (e.g. {some}){nearest}; "
        f"the names of {looked} were looked for"
    )


def _check_family(found: Reading) -> None:
    """Raise ``InputError`` if tensors in or beside a body make it another network."""
    below = [name for name in found.leftover if name.startswith(found.prefix)]
    other = family(below)
    if other is not None:
        raise InputError(f"this is {other}; a ResNet of the rest would give different results")


def dialect(name: str) -> Dialect:
    """The dialect of that name. Raises ``InputError`` for an unknown one."""
    for candidate in WRITTEN:
        if candidate.name == name:
            return candidate
    if name == "onnx":
        raise InputError("onnx is read only; a graph to run is written by resnetkit.export")
    if any(candidate.name == name for candidate in DIALECTS):
        raise InputError(f"{name} is read only; write torchvision's names")
    raise InputError(
        f"unknown dialect {name!r}; it must be one of {', '.join(d.name for d in WRITTEN)}"
    )


def _share(reading: Reading) -> float:
    """The share of the network's tensors that match, without batch counters."""
    fit, lacking = (
        sum(not name.endswith(COUNTER) for name in names)
        for names in (reading.names, [*reading.missing, *reading.misshapen])
    )
    return fit / max(1, fit + lacking)


def _whole(reading: Reading) -> bool:
    """Whether it is more than a matching beginning of another network (HRNet)."""
    return len(reading.network.options.depths) > 1 or not reading.leftover


def _disjoint(one: Reading, other: Reading) -> bool:
    return not set(one.names.values()) & set(other.names.values())


def _check_choice(best: Reading, copies: list[Reading], same: Same | None) -> None:
    """Raise ``InputError`` if a file has several equally good networks."""
    rivals = [copy for copy in copies if rank(copy) == rank(best) and not _equal(best, copy, same)]
    if rivals:
        listed = sorted({r.body: len(r.names) for r in (best, *rivals)}.items())
        text = ", ".join(f"{body!r} ({count} tensors)" for body, count in listed)
        raise InputError(
            f"the file has {len(listed)} networks, under {text}; "
            f"choose one, e.g. prefix={best.body!r}",
            field="prefix",
        )


def _equal(one: Reading, other: Reading, same: Same | None) -> bool:
    """Whether the file has the same network twice, bit for bit."""
    return (
        same is not None
        and one.names.keys() == other.names.keys()
        and all(same(theirs, other.names[ours]) for ours, theirs in one.names.items())
    )
