"""Shape inference: propagates a shape through every layer, with costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnetkit.architecture.block import INPUT, Located
from resnetkit.architecture.layer import Add, Flatten, Layer, Pool, Shape, ShapeError, shape_text
from resnetkit.architecture.network import Network
from resnetkit.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer at one input.

    ``input`` and ``output`` are ``(C, H, W)`` or ``(C,)``; they are None for layers of a head that
    cannot process the features. ``receptive_field`` is the side, in input pixels, of the square
    that affects one output, padding included: the largest over all paths, except gates, which see
    the whole map. ``stride`` is the distance of neighbouring outputs in input pixels.
    """

    located: Located
    input: Shape | None
    output: Shape | None
    receptive_field: int
    stride: int

    @property
    def path(self) -> str:
        return self.located.path

    @property
    def layer(self) -> Layer:
        return self.located.layer

    @property
    def macs(self) -> int:
        return 0 if self.input is None else self.layer.macs(self.input)

    @property
    def activations(self) -> int:
        return 0 if self.input is None else self.layer.activations(self.input)

    @property
    def formula(self) -> str:
        return "" if self.input is None else self.layer.size_formula(self.input)

    @property
    def macs_formula(self) -> str:
        return "" if self.input is None else self.layer.macs_formula(self.input)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """All steps of a network at one input.

    ``output`` is the network's output shape. ``problem`` is None, or says which layer of the head
    cannot process the features; then ``output`` is the last valid map.
    """

    network: Network
    input: Shape
    steps: tuple[Step, ...]
    output: Shape
    problem: str | None


@dataclass(frozen=True, slots=True)
class _Signal:
    """The state along a path: shape, receptive field and stride."""

    shape: Shape
    field: int
    stride: int

    def through(self, layer: Layer) -> _Signal:
        shape = layer.output(self.shape)
        window = layer.window
        if window is not None:
            field = self.field + (window.extent - 1) * self.stride
            return _Signal(shape, field, self.stride * window.stride)
        if isinstance(layer, Pool | Flatten):
            field = self.field + (max(self.shape[1:]) - 1) * self.stride
            return _Signal(shape, field, self.stride)
        return _Signal(shape, self.field, self.stride)


def walk(network: Network, shape: Shape) -> Walk:
    """Propagate an image of ``shape`` ``(C, H, W)`` through ``network``.

    Raises ``ValueError`` for an invalid shape, one so small that a map becomes empty, and one for
    which a block's two paths round differently (anti-aliasing average pools round down); the
    message names the layer. A head that cannot process the features is not an error; see
    ``Walk.problem``.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f"the input is {shape!r}; it must be (channels, height, width), e.g. 3x224x224"
        )
    if shape[0] != network.options.in_chans:
        raise InputError(
            f"the input {shape_text(shape)} has {shape[0]} channels and {network.name} requires "
            f"{network.options.in_chans}; use {network.options.in_chans} channels, "
            f"or the option in_chans {shape[0]}"
        )
    steps: list[Step] = []
    signals = {INPUT: _Signal(shape, 1, 1)}
    problem: str | None = None
    last_map: Shape = shape
    for located in network.layers():
        before = signals[located.inputs[0]]
        try:
            after = before.through(located.layer) if problem is None else before
        except ShapeError as error:
            where = f"at {located.path}, {error}"
            if located.stage != "head":
                raise InputError(
                    f"the input {shape_text(shape)} is too small for {network.name}: {where}"
                ) from None
            problem = (
                f"the head cannot process {shape_text(last_map)}: {where} "
                "(head_pool global accepts any size)"
            )
            after = before
        if isinstance(located.layer, Add):
            shortcut = signals[located.inputs[1]]
            if after.shape != shortcut.shape:
                raise InputError(
                    f"the input {shape_text(shape)} does not fit {network.name}: at "
                    f"{located.path}, the main path gives {shape_text(after.shape)} and the "
                    f"shortcut {shape_text(shortcut.shape)}; use sides that are "
                    f"multiples of {network.options.natural_stride}"
                )
            after = replace(after, field=max(after.field, shortcut.field))
        signals[located.path] = after
        if len(after.shape) == 3:
            last_map = after.shape
        steps.append(
            Step(
                located=located,
                input=before.shape if problem is None else None,
                output=after.shape if problem is None else None,
                receptive_field=after.field,
                stride=after.stride,
            )
        )
    return Walk(
        network=network,
        input=shape,
        steps=tuple(steps),
        output=steps[-1].output or last_map,
        problem=problem,
    )
