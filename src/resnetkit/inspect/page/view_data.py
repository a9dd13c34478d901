"""Networks as compact data for the page of ``resnetkit view``.

Everything that depends on how a ResNet is put together is here: layers, their inputs, what refuses
a combination of options, which layers count. The page only slides windows (``web/src/walk.ts``).
Equal layers, blocks and stages are stored once.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import groupby
from typing import Any

from resnetkit.architecture import registry
from resnetkit.architecture.block import Located
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import Conv, Layer, Linear, Pool, Subsample
from resnetkit.architecture.network import Network, Stage
from resnetkit.architecture.rare_layer import Blur, ChannelConv
from resnetkit.architecture.table_rows import block_text, head_text, stage_text
from resnetkit.inspect.page.view_choices import Choice, choices_of, combinations

#: The two versions of the notes' network, and the blocks that are shown side by side.
NOTES = ("resnet50_notes", "resnet50_deep")
BLOCKS = (("resnet34", "layer1.1"), ("resnet50", "layer1.1"), ("resnet34", "layer3.1"))
#: For each counted layer, whether it has the next number or that of the layer before; by path.
Counted = dict[str, tuple[int, ...]]


def view_data(explanation: Explanation) -> dict[str, Any]:
    """The asked network at its input, every combination of the offered choices, the notes'
    networks, and the blocks to show side by side, as JSON types."""
    tables = _Tables()
    asked = tables.network(explanation.network)
    choices = choices_of(explanation.network)
    refused: dict[str, int] = {}
    found = []
    for network in combinations(explanation.network, choices):
        if isinstance(network, str):
            found.append(-1 - refused.setdefault(network, len(refused)))
        else:
            found.append(tables.network(network))
    return {
        "asked": asked,
        "input": list(explanation.input),
        "choices": [_choice(choice) for choice in choices],
        "combinations": found,
        "refused": list(refused),
        "notes": [tables.network(registry.network(name)) for name in NOTES],
        "blocks": [
            {"network": tables.network(registry.network(name)), "path": path}
            for name, path in BLOCKS
        ],
        "layers": tables.layers,
        "blockTable": tables.blocks,
        "stages": tables.stages,
        "networks": tables.networks,
    }


def packed(data: dict[str, Any]) -> str:
    """``data`` as base64 of a raw deflate stream, for the browser's ``DecompressionStream``."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    compress = zlib.compressobj(9, wbits=-15)
    return base64.b64encode(compress.compress(text.encode()) + compress.flush()).decode()


def _choice(choice: Choice) -> dict[str, Any]:
    values = [{"value": value.name, "label": value.label} for value in choice.values]
    return {"name": choice.name, "label": choice.label, "asked": choice.asked, "values": values}


class _Parts:
    """The layers of a network by stage, found when a stage is new."""

    def __init__(self, network: Network) -> None:
        self.network = network

    @cached_property
    def layers(self) -> dict[str, list[Located]]:
        runs = groupby(self.network.layers(), lambda located: located.stage)
        return {stage: list(run) for stage, run in runs}

    @cached_property
    def counted(self) -> Counted:
        return _counted(self.network)


@dataclass(slots=True)
class _Tables:
    """The stored layers, blocks, stages and networks, each once; others refer to their index."""

    layers: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    networks: list[dict[str, Any]] = field(default_factory=list)
    _known: dict[Any, int] = field(default_factory=dict)

    def network(self, network: Network) -> int:
        """The index of ``network``, which is stored if it is new."""
        return self._index(self.networks, network, lambda: self._network(network))

    def _index(self, table: list[dict[str, Any]], key: Any, made: Callable[[], Any]) -> int:
        known = self._known.get((id(table), key))
        if known is None:
            known = self._known[id(table), key] = len(table)
            table.append({})
            table[known] = made()
        return known

    def _network(self, network: Network) -> dict[str, Any]:
        parts = _Parts(network)
        stages = [
            self._index(self.stages, stage, partial(self._stage, parts, stage.name, stage))
            for stage in network.stages
        ]
        head = self._index(self.stages, network.head, partial(self._stage, parts, "head", None))
        return {
            "name": network.name,
            "title": registry.title(network),
            "about": network.about,
            "source": network.source,
            "size": network.input_size,
            "channels": network.options.in_chans,
            "multiple": network.options.natural_stride,
            "stages": [*stages, head],
        }

    def _stage(self, parts: _Parts, name: str, stage: Stage | None) -> dict[str, Any]:
        """A stage, or the head; the layers of a stem or head are one block without a name."""
        what = head_text(parts.network.head) if stage is None else stage_text(stage)
        texts = {block.name: block_text(block) for block in stage.blocks} if stage else {}
        blocks = []
        for block, inside in groupby(parts.layers[name], lambda located: located.block):
            rows = self._rows(list(inside), parts.counted)
            found = {"what": texts.get(block or "", ""), "layers": rows}
            blocks.append((block or "", self._index(self.blocks, rows, partial(dict, found))))
        return {"name": name, "what": what, "blocks": blocks}

    def _rows(self, layers: list[Located], counted: Counted) -> tuple[tuple[Any, ...], ...]:
        """The layers of a block with their branches, inputs and whether they count."""
        places = {located.path: place for place, located in enumerate(layers)}
        return tuple(
            (
                self._layer(located.layer),
                located.branch,
                tuple(places.get(path, -1) for path in located.inputs),
                *counted.get(located.path, (0, 0)),
            )
            for located in layers
        )

    def _layer(self, layer: Layer) -> int:
        return self._index(self.layers, layer, lambda: _layer(layer))


def _counted(network: Network) -> Counted:
    """For each counted layer, by the paper and by the notes: 1 if it has the next number, 2 if it
    has the number of the layer before, else 0."""
    flags: dict[str, list[int]] = {}
    for way, numbers in enumerate(network.layer_numbers().values()):
        last = 0
        for path, number in numbers.items():
            flags.setdefault(path, [0, 0])[way] = 1 if number > last else 2
            last = number
    return {path: tuple(both) for path, both in flags.items()}


def _layer(layer: Layer) -> dict[str, Any]:
    """A layer as JSON types; what is 0 or empty is left out."""
    found: dict[str, Any] = {
        "name": layer.name,
        "kind": layer.kind,
        "text": layer.text,
        "parameters": layer.parameters,
        "parametersFormula": layer.parameters_formula(),
        "buffers": layer.buffers,
    }
    if layer.window is not None:
        found["window"] = asdict(layer.window)
    if isinstance(layer, Conv):
        kernel = layer.slides.kernel
        found |= {
            "channels": layer.outputs,
            "groups": layer.groups,
            "inputs": layer.inputs,
            "perOutput": layer.inputs // layer.groups * kernel**2,
            "perOutputFormula": layer.fan_in_formula(),
            "called": f"the {kernel}x{kernel} convolution",
        }
    elif isinstance(layer, Blur):
        kernel = layer.slides.kernel
        found |= {"perOutput": kernel**2, "perOutputFormula": f"{kernel}*{kernel}", "least": 2}
        found["called"] = "the blur"
    elif isinstance(layer, Pool):
        found |= {"function": layer.function, "called": f"the {layer.text}"}
    elif isinstance(layer, Subsample):
        found |= {"channels": layer.outputs, "called": "the subsampling shortcut"}
    elif isinstance(layer, Linear):
        shape: tuple[int, ...] = (layer.inputs,)
        found |= {"inputs": layer.inputs, "channels": layer.outputs}
        found |= {"macs": layer.macs(shape), "macsFormula": layer.macs_formula(shape)}
    elif isinstance(layer, ChannelConv):
        found["kernel"] = layer.kernel
    return {name: value for name, value in found.items() if value}
