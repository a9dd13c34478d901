"""Comparison of two networks: the options, numbers and layers in which they differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from resnetkit.architecture.explanation import Explanation, explain
from resnetkit.architecture.layer import Shape, shape_text
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import Step
from resnetkit.display import Displayed

#: The numbers as a table calls them.
_WORDS = {
    "macs": "MACs",
    "receptive_field": "receptive field",
    "layers_paper": "layers by the paper",
    "layers_notes": "layers by the notes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A layer of one of the two networks."""

    what: str
    output: Shape | None
    parameters: int
    macs: int

    @property
    def text(self) -> str:
        """The layer and its output shape."""
        output = "not reached" if self.output is None else shape_text(self.output)
        return f"{self.what}, {output}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A path whose layer differs, or that only one of the networks has (the other is None)."""

    path: str
    first: Side | None
    second: Side | None


class Comparison(Displayed):
    """The differences of two networks. ``options`` and ``numbers`` are pairs by name.

    Layers are compared by path: description, output shape, parameters and MACs. ``names`` are those
    of the two, by default their titles.
    """

    def __init__(
        self, first: Explanation, second: Explanation, names: tuple[str, str] | None = None
    ) -> None:
        self.first = first
        self.second = second
        self.names = names or (first.title, second.title)
        self.options = _pairs(
            first.network.options.to_dict(), second.network.options.to_dict(), changed_only=True
        )
        self.numbers = _pairs(_numbers(first), _numbers(second), changed_only=False)
        self.layers = _layers(first, second)

    def __repr__(self) -> str:
        return f"<Comparison of {' and '.join(self.names)}: {self.verdict}>"

    @property
    def paths(self) -> int:
        """Number of distinct paths in both networks."""
        both = (*self.first.walk.steps, *self.second.walk.steps)
        return len({step.path for step in both})

    @property
    def identical(self) -> bool:
        """Whether the two agree in every option, number and layer."""
        same_numbers = all(one == other for one, other in self.numbers.values())
        return not self.options and not self.layers and same_numbers

    @property
    def verdict(self) -> str:
        """The number of layers that differ, or that the networks are identical, in words."""
        if self.identical:
            return f"identical: no option and none of the {self.paths} layers differs"
        return f"{len(self.layers)} of {self.paths} layers differ"

    def tables(self) -> tuple[list[tuple[str, ...]], ...]:
        """Numbers, differing options and differing layers as cells, each below its heading."""
        numbers: list[tuple[str, ...]] = [("", *self.names)]
        numbers += [
            (_WORDS.get(name, name), _text(a), _text(b)) for name, (a, b) in self.numbers.items()
        ]
        options: list[tuple[str, ...]] = [("option", *self.names)]
        options += [(name, _text(a, ","), _text(b, ",")) for name, (a, b) in self.options.items()]
        layers: list[tuple[str, ...]] = [("path", self.names[0], "MACs", self.names[1], "MACs")]
        layers += [(one.path, *_cells(one.first), *_cells(one.second)) for one in self.layers]
        return numbers, options, layers

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON types."""
        return {
            "first": self.first.network.name,
            "second": self.second.network.name,
            "names": list(self.names),
            "identical": self.identical,
            "options": {name: list(pair) for name, pair in self.options.items()},
            "numbers": {name: list(pair) for name, pair in self.numbers.items()},
            "layers": [
                {
                    "path": difference.path,
                    "first": _side_dict(difference.first),
                    "second": _side_dict(difference.second),
                }
                for difference in self.layers
            ],
        }


def compare(
    first: str | Network, second: str | Network, input: int | Shape | None = None
) -> Comparison:
    """Compare two networks at an input, by default the default size of each; see ``explain``.

    >>> resnetkit.compare("resnet50", "resnet50_v1").options
    {'stride_on': ('3x3', '1x1')}
    """
    return Comparison(explain(first, input), explain(second, input))


def _numbers(explanation: Explanation) -> dict[str, Any]:
    last_map = [step for step in explanation.walk.steps if step.located.stage != "head"][-1]
    totals = explanation.totals
    return {
        "input": list(explanation.input),
        "output": list(explanation.output),
        "parameters": totals.parameters,
        "macs": totals.macs,
        "activations": totals.activations,
        "receptive_field": last_map.receptive_field,
        "stride": last_map.stride,
        "layers_paper": explanation.network.layer_count["paper"],
        "layers_notes": explanation.network.layer_count["notes"],
    }


def _pairs(
    first: dict[str, Any], second: dict[str, Any], *, changed_only: bool
) -> dict[str, tuple[Any, Any]]:
    return {
        name: (first[name], second[name])
        for name in first
        if not changed_only or first[name] != second[name]
    }


def _side(step: Step | None) -> Side | None:
    if step is None:
        return None
    return Side(
        what=step.layer.text,
        output=step.output,
        parameters=step.layer.parameters,
        macs=step.macs,
    )


def _layers(first: Explanation, second: Explanation) -> tuple[Difference, ...]:
    """The differing layers in the order of the first network, then those only in the second."""
    sides = [{step.path: step for step in e.walk.steps} for e in (first, second)]
    differences = []
    for path in dict.fromkeys((*sides[0], *sides[1])):
        one, other = (side.get(path) for side in sides)
        same_layer = one is not None and other is not None and one.layer == other.layer
        if not same_layer or _side(one) != _side(other):
            differences.append(Difference(path=path, first=_side(one), second=_side(other)))
    return tuple(differences)


def _side_dict(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {**asdict(side), "output": None if side.output is None else list(side.output)}


def _cells(side: Side | None) -> tuple[str, str]:
    return ("-", "") if side is None else (side.text, f"{side.macs:,}")


def _text(value: object, between: str = "x") -> str:
    if isinstance(value, list):
        return between.join(map(str, value))
    return f"{value:,}" if type(value) is int else str(value)
