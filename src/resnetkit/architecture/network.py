"""Stages and networks, built from options."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resnetkit.architecture.block import (
    INPUT,
    Block,
    Located,
    Placement,
    anti_alias,
    chain,
    conv_norm,
    residual_block,
)
from resnetkit.architecture.layer import Activation, Conv, Flatten, Layer, Linear, Pool
from resnetkit.architecture.option_fields import EXPANSION
from resnetkit.architecture.options import Options
from resnetkit.architecture.rare_layer import Blur
from resnetkit.architecture.sliding_window import SlidingWindow
from resnetkit.display import Displayed
from resnetkit.errors import InputError, check, mapping, parsed, text, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A sequence of blocks at one resolution; stage 0 is the stem and has layers instead."""

    name: str
    layers: tuple[Layer, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def path(self) -> str:
        """The name of its torch submodule, e.g. ``layer1``; empty for the stem."""
        return self.blocks[0].name.partition(".")[0] if self.blocks else ""


_RULES = {
    **dict.fromkeys(("name", "about", "source"), text()),
    "input_size": whole(1, 100_000),
    "options": mapping(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Displayed):
    """A ResNet without weights: stages and a head, made from ``options``.

    Networks are equal if their names, options and default input sizes are equal.
    ``about`` and ``source`` describe the network and its origin in one line each.
    """

    name: str
    options: Options
    input_size: int = 224
    about: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    stages: tuple[Stage, ...] = field(init=False, compare=False, repr=False)
    head: tuple[Layer, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.input_size) is not int or self.input_size < 1:
            raise InputError(f"input_size is {self.input_size!r}; it must be a whole number >= 1")
        stages = (Stage(name="stage0", layers=_stem(self.options)), *_stages(self.options))
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "head", _head(self.options))

    @property
    def features(self) -> int:
        """Channels of the last map."""
        return self.options.stage_outputs[-1]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The default input shape ``(C, H, W)``."""
        return self.options.in_chans, self.input_size, self.input_size

    def layers(self) -> Iterator[Located]:
        """Every layer, after its input layers; a shortcut comes after its main path."""
        last = INPUT
        for stage in self.stages:
            last = yield from chain(stage.layers, last, stage=stage.name)
            for block in stage.blocks:
                last = yield from block.layers(stage.name, last)
        yield from chain(self.head, last, stage="head")

    @property
    def parameters(self) -> int:
        """Trainable values of the network, head included."""
        return sum(located.layer.parameters for located in self.layers())

    @property
    def layer_count(self) -> dict[str, int]:
        """Number of layers, counted in two ways; see ``layer_numbers``."""
        return {way: max(numbers.values()) for way, numbers in self.layer_numbers().items()}

    def layer_numbers(self) -> dict[str, dict[str, int]]:
        """The number of each counted layer by its path, in both ways of counting.

        ``paper``: convolutions on the main path and the fully connected layer (He et al. 2015,
        table 1). ``notes``: convolutions on the main path and the stem's max-pool, without the
        fully connected layer (2+9+12+18+9 = 50). Both count the stem's convolutions as one, because
        three 3x3 replace one 7x7, and exclude shortcuts and gates.
        """
        assert self.options.stem_widths is not None
        numbers: dict[str, dict[str, int]] = {"paper": {}, "notes": {}}
        convolutions = len(self.options.stem_widths)  # the stem's that count as one
        pooled = self.options.stem_pool == "none"
        last = {"paper": 1, "notes": 1}
        for located in self.layers():
            layer = located.layer
            ways: tuple[str, ...] = ()
            if located.stage == "stage0" and isinstance(layer, Conv | Pool | Blur):
                if convolutions:
                    convolutions -= 1
                    numbers["paper"][located.path] = numbers["notes"][located.path] = 1
                elif not pooled:
                    pooled, ways = True, ("notes",)
            elif located.block is not None and located.branch == "main" and isinstance(layer, Conv):
                ways = ("paper", "notes")
            elif isinstance(layer, Linear):
                ways = ("paper",)
            for way in ways:
                last[way] += 1
                numbers[way][located.path] = last[way]
        return numbers

    def layer_sums(self) -> tuple[int, int, list[int]]:
        """Layer counts: the stem's convolutions (as one), its pool, the main path by stage."""
        pools = int(self.options.stem_pool != "none")
        by_stage = [
            sum(isinstance(layer, Conv) for block in stage.blocks for layer in block.main)
            for stage in self.stages[1:]
        ]
        return 1, pools, by_stage

    def override(self, **changes: Any) -> Network:
        """This network with some options changed. Raises ``ValueError`` as ``Options`` does."""
        return replace(self, options=self.options.override(**changes))

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON types; ``from_dict`` restores an equal network."""
        return {
            "name": self.name,
            "about": self.about,
            "source": self.source,
            "input_size": self.input_size,
            "options": self.options.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Network:
        """The network of ``to_dict``. Raises ``ValueError`` for missing or unknown fields."""
        known = {"name", "about", "source", "input_size", "options"}
        if not isinstance(document, Mapping) or set(document) != known:
            raise InputError(
                f"a network must have the fields {', '.join(sorted(known))}; "
                f"this one has {', '.join(sorted(document)) or 'none'}"
            )
        check(document, _RULES, "network")
        return cls(**{**document, "options": Options.from_dict(document["options"])})

    def to_json(self) -> str:
        """``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Network:
        """The network of ``to_json``. Raises ``ValueError`` for an invalid description."""
        return cls.from_dict(parsed(text, "the network"))


def _stem(options: Options) -> tuple[Layer, ...]:
    """Stage 0. A single convolution is ``conv1``; a deep stem is ``conv1`` to ``conv3``."""
    assert options.stem_widths is not None
    assert options.stem_padding is not None
    assert options.stem_conv_stride is not None
    layers: list[Layer] = []
    inputs = options.in_chans
    for number, width in enumerate(options.stem_widths, start=1):
        layers += (
            *conv_norm(
                options,
                (f"conv{number}", f"bn{number}"),
                (inputs, width),
                kernel=7 if options.stem == "7x7" else 3,
                stride=options.stem_conv_stride if number == 1 else 1,
                padding=options.stem_padding,
            ),
            Activation(name=f"relu{number}" if len(options.stem_widths) > 1 else "relu"),
        )
        inputs = width
    return *layers, *_stem_pool(options, inputs)


def _stem_pool(options: Options, channels: int) -> tuple[Layer, ...]:
    """The end of the stem: a max-pool, its replacement, or nothing."""
    if options.stem_pool == "none":
        return ()
    assert options.stem_widths is not None
    number = len(options.stem_widths) + 1
    if options.stem_pool == "conv":
        names = f"conv{number}", f"bn{number}"
        return (
            *conv_norm(options, names, (channels, channels), kernel=3, stride=2),
            Activation(name=f"relu{number}"),
        )
    if options.anti_alias == "average":
        return (anti_alias(options, "maxpool", channels, 2),)
    caffe, blurred = options.stem_pool == "caffe", options.anti_alias == "blur"
    window = SlidingWindow(
        kernel=3,
        stride=1 if blurred else 2,
        padding=0 if caffe else 1,
        rounding="ceil" if caffe else options.rounding,
        starts_inside=True,
    )
    pool = Pool(name="maxpool", function="max", slides=window)
    return (pool, anti_alias(options, "blurpool", channels, 2)) if blurred else (pool,)


def _stages(options: Options) -> Iterator[Stage]:
    """The stages of blocks, strided until ``output_stride`` is reached, then dilated."""
    assert options.stem_widths is not None
    assert options.output_stride is not None
    inputs, reached, dilation = options.stem_widths[-1], options.stem_stride, 1
    for number, (widths, width) in enumerate(
        zip(options.main_widths, options.widths, strict=True), start=1
    ):
        stride, entry, kind = 1, dilation, options.stage_blocks[number - 1]
        if number > 1 and reached < options.output_stride:
            stride, reached = 2, reached * 2
        elif number > 1:
            dilation *= 2
        if options.dilation_entry != "previous":
            entry = dilation
        blocks = []
        for index, convs in enumerate(widths):
            place = Placement(
                name=f"layer{number}.{index}",
                kind=kind,
                inputs=inputs,
                convs=convs,
                expanded=width * EXPANSION[kind],
                stride=stride if index == 0 else 1,
                dilation=dilation,
                entry_dilation=entry if index == 0 else dilation,
            )
            blocks.append(residual_block(options, place))
            inputs = convs[-1]
        yield Stage(name=f"stage{number}", blocks=tuple(blocks))


def _head(options: Options) -> tuple[Layer, ...]:
    """The pool, and if there are classes, flatten and the fully connected layer."""
    window = None if options.head_pool == "global" else SlidingWindow(kernel=7)
    pool = Pool(name="avgpool", function="average", slides=window)
    if options.num_classes is None:
        return (pool,)
    linear = Linear(name="fc", inputs=options.stage_outputs[-1], outputs=options.num_classes)
    return pool, Flatten(name="flatten"), linear
