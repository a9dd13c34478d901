"""The choices that the page of ``resnetkit view`` offers, and every combination of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from resnetkit.architecture import registry
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import nearest_entry
from resnetkit.errors import InputError

_DEPTHS = (18, 34, 50, 101, 152)
#: What is undone, in turn, to find a name for options that no catalogue entry has.
_PLAIN: tuple[dict[str, Any], ...] = (
    {},
    {"stem": "7x7", "stem_widths": (64,)},
    {"groups": 1, "width_per_group": 64},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of a choice: its name in links, its label, and the options that it sets."""

    name: str
    label: str
    options: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice; ``asked`` is the index of the value of the asked network."""

    name: str
    label: str
    values: tuple[Value, ...]
    asked: int


def choices_of(network: Network) -> tuple[Choice, ...]:
    """The choices for ``network``. One whose values it has none of also offers its own."""
    options = network.options
    depths = [registry.network(f"resnet{depth}").options for depth in _DEPTHS]
    by_depth = [
        Value(name=str(depth), label=str(depth), options={"depths": of.depths, "block": of.block})
        for depth, of in zip(_DEPTHS, depths, strict=True)
    ]
    stems = [
        _value("stem", "7x7", "7x7", stem_widths=(64,)),
        *(
            _value("stem", "deep", f"three 3x3, {'-'.join(map(str, widths))}", stem_widths=widths)
            for widths in _deep_widths()
        ),
    ]
    natural = options.natural_stride
    strides = [natural // 2**halvings for halvings in range(min(3, len(options.depths)))]
    choice = partial(_choice, network)
    return (
        choice("depth", "depth", by_depth, ",".join(map(str, options.depths))),
        choice("stem", "stem", stems, options.stem),
        choice(
            "stride", "stride on", [_value("stride_on", "1x1"), _value("stride_on", "3x3")], "?"
        ),
        choice(
            "output-stride",
            "output stride",
            [_value("output_stride", stride) for stride in strides],
            str(options.output_stride),
        ),
        choice(
            "pool", "head pool", [_value("head_pool", "global"), _value("head_pool", "7x7")], "?"
        ),
        choice("width", "width", list(_widths()), f"{options.groups}x{options.width_per_group}d"),
    )


def combinations(network: Network, choices: tuple[Choice, ...]) -> Iterator[Network | str]:
    """The network of each combination of values, the last choice changing fastest; where the
    options contradict each other, the reason."""
    for values in product(*(choice.values for choice in choices)):
        try:
            given = {k: v for one in values for k, v in one.options.items()}
            changed = network.options.override(**given)
        except InputError as error:
            yield str(error)
            continue
        yield network if changed == network.options else _named(network, changed)


def _named(asked: Network, changed: Options) -> Network:
    """The network of ``changed`` with the name of the nearest catalogue entry."""
    options, entry = changed, None
    for plain in _PLAIN:
        try:
            options = options.override(**plain)
        except InputError:  # other widths than any entry's
            continue
        entry = nearest_entry(options)
        if entry is not None:
            break
    if entry is None:
        return replace(asked, options=changed)
    return Network(
        name=entry.name,
        options=changed,
        input_size=asked.input_size,
        about=entry.about,
        source=entry.source,
    )


def _deep_widths() -> Iterator[tuple[int, ...]]:
    for name in ("resnet50c", "resnet50_deep"):
        widths = registry.network(name).options.stem_widths
        assert widths is not None
        yield widths


def _widths() -> Iterator[Value]:
    for name, label in (
        ("resnet50", "64"),
        ("wide_resnet50_2", "128 (wide)"),
        ("resnext50_32x4d", "32 groups of 4 (ResNeXt)"),
    ):
        options = registry.network(name).options
        chosen = {"groups": options.groups, "width_per_group": options.width_per_group}
        yield Value(
            name=f"{options.groups}x{options.width_per_group}d", label=label, options=chosen
        )


def _value(option: str, value: Any, label: str = "", **more: Any) -> Value:
    name = "-".join(map(str, (value, *(more.get("stem_widths") or ())))) if more else str(value)
    return Value(name=name, label=label or str(value), options={option: value, **more})


def _choice(network: Network, name: str, label: str, values: list[Value], own: str) -> Choice:
    for index, value in enumerate(values):
        try:
            if network.options.override(**value.options) == network.options:
                return Choice(name=name, label=label, values=tuple(values), asked=index)
        except InputError:
            continue
    values = [*values, Value(name="asked", label=f"as asked ({own})", options={})]
    return Choice(name=name, label=label, values=tuple(values), asked=len(values) - 1)
