"""Explanation of a network: rows and totals by network, stage, block or layer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

from resnetkit.architecture import registry, text
from resnetkit.architecture.layer import Shape
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import Step, Walk, walk
from resnetkit.architecture.table_rows import (
    LEVELS,
    Level,
    TableRow,
    Totals,
    block_text,
    head_text,
    layer_row,
    stage_text,
)
from resnetkit.display import Displayed
from resnetkit.errors import InputError


class Explanation(Displayed):
    """A network at one input: rows, totals and problems. Prints as a table.

    ``problem`` says why the head cannot process the features at this input, or is None.
    """

    def __init__(self, walked: Walk) -> None:
        self.walk = walked
        self.network = walked.network
        self.input = walked.input
        self.output = walked.output
        self.problem = walked.problem

    def __repr__(self) -> str:
        return f"<Explanation of {text.heading(self)}>"

    def __str__(self) -> str:
        return text.table(self, level="block")

    @cached_property
    def totals(self) -> Totals:
        """Sums over every layer; the rows of any level add up to them."""
        return _totals(self.walk.steps)

    @property
    def title(self) -> str:
        """The name, and the options that differ from the catalogue's network."""
        return registry.title(self.network)

    def rows(self, level: Level = "block") -> tuple[TableRow, ...]:
        """The rows of a level, in order. At block level the stem and the head list their layers.

        Raises ``ValueError`` for an unknown level.
        """
        if level not in LEVELS:
            raise InputError(f"level is {level!r}; it must be one of {', '.join(LEVELS)}")
        steps = self.walk.steps
        if level == "network":
            return (self._sum(level, "", self.network.name, self.network.about, steps),)
        if level == "stage":
            return tuple(
                self._sum(level, stage, stage, self._stage_text(stage), run)
                for stage, run in _runs(steps, lambda step: step.located.stage)
            )
        if level == "block":
            blocks = {block.name: block for stage in self.network.stages for block in stage.blocks}
            return tuple(
                self._sum(level, run[0].located.stage, name, block_text(blocks[name]), run)
                if name in blocks
                else layer_row(run[0])
                for name, run in _runs(steps, lambda step: step.located.block or step.path)
            )
        return tuple(layer_row(step) for step in steps)

    def _sum(
        self, level: Level, stage: str, path: str, what: str, steps: tuple[Step, ...]
    ) -> TableRow:
        last = steps[-1]
        reached = [step.output for step in steps if step.output is not None]
        if stage == "head" or level == "network":
            output: Shape | None = self.output if reached else None
        else:
            output = last.output
        return TableRow(
            level=level,
            stage=stage,
            path=path,
            what=what,
            output=output,
            **asdict(_totals(steps)),
            receptive_field=last.receptive_field,
            stride=last.stride,
        )

    def _stage_text(self, name: str) -> str:
        for stage in self.network.stages:
            if stage.name == name:
                return stage_text(stage)
        return head_text(self.network.head)

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON types; stage 0 and the head list their layers, stages their blocks."""
        stages = []
        head: dict[str, Any] = {}
        for row, (stage, run) in zip(
            self.rows("stage"), _runs(self.walk.steps, lambda step: step.located.stage), strict=True
        ):
            entry = {"name": stage, **_numbers(row)}
            if run[0].located.block is None:
                entry["layers"] = [_layer_dict(step) for step in run]
            else:
                entry["blocks"] = [
                    {
                        "name": name,
                        **_numbers(self._sum("block", stage, str(name), "", steps)),
                        "layers": [_layer_dict(step) for step in steps],
                    }
                    for name, steps in _runs(run, lambda step: step.located.block)
                ]
            if stage == "head":
                head = entry
            else:
                stages.append(entry)
        return {
            "name": self.network.name,
            "about": self.network.about,
            "source": self.network.source,
            "options": self.network.options.to_dict(),
            "input": list(self.input),
            "output": list(self.output),
            **asdict(self.totals),
            "layers": self.network.layer_count,
            "stages": stages,
            "head": {**head, "problem": self.problem},
        }

    def to_json(self) -> str:
        """``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=2)


class HasNetwork(Protocol):
    """Anything with a network: a bundle, an exported file, a module."""

    @property
    def network(self) -> Network: ...


def explain(
    model: str | Network | HasNetwork, input: int | Shape | None = None, **options: Any
) -> Explanation:
    """Explain a network at an input, by default its usual size; see ``resnetkit.explain``.

    ``input`` is a side, a height and width, or a shape. ``model`` is a name, a network or an object
    with one: a bundle, an exported file, a module. Raises ``ValueError`` for an unknown name or
    option, for conflicting options, and for an input so small that a map becomes empty.

    >>> resnetkit.explain("resnet50", 473).totals.parameters
    25557032
    """
    given = model if isinstance(model, str | Network) else model.network
    described = registry.network(given, **options)
    if input is None:
        shape: Shape = described.input_shape
    elif isinstance(input, int):
        shape = (described.options.in_chans, input, input)
    else:
        shape = tuple(input)
        # (3, 224) may be channels and a side as well; it is refused.
        if len(shape) == 2 and shape[0] != described.options.in_chans:
            shape = (described.options.in_chans, *shape)
    return Explanation(walk(described, shape))


def _totals(steps: Iterable[Step]) -> Totals:
    counts = [(s.layer.parameters, s.layer.buffers, s.macs, s.activations) for s in steps]
    parameters, buffers, macs, activations = map(sum, zip(*counts, strict=True))
    return Totals(parameters=parameters, buffers=buffers, macs=macs, activations=activations)


def _runs(steps: Iterable[Step], key: Any) -> Iterator[tuple[Any, tuple[Step, ...]]]:
    for value, run in groupby(steps, key=key):
        yield value, tuple(run)


def _numbers(row: TableRow) -> dict[str, Any]:
    names = ("parameters", "buffers", "macs", "activations", "receptive_field", "stride")
    output = None if row.output is None else list(row.output)
    return {"output": output, **{name: getattr(row, name) for name in names}}


def _layer_dict(step: Step) -> dict[str, Any]:
    row = layer_row(step)
    return {
        "path": row.path,
        "kind": step.layer.kind,
        "branch": step.located.branch,
        "input": None if step.input is None else list(step.input),
        **_numbers(row),
        "formula": row.formula,
        "parameters_formula": row.parameters_formula,
        "macs_formula": row.macs_formula,
    }
