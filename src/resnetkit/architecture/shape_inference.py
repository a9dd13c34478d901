"""Shape inference: the input shape carried through every layer, with costs."""

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
    cannot take the features. ``receptive_field`` is the side, in input pixels, of the square that
    one output can see, padding included: the largest over the paths that lead there. Gates are no
    such path, for they see the whole map. ``stride`` is the distance, in input pixels, of
    neighbouring outputs.
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

    ``output`` is what the network puts out. ``problem`` is None, or says in words which layer of
    the head cannot take the features; then ``output`` is the last map that is reached.
    """

    network: Network
    input: Shape
    steps: tuple[Step, ...]
    output: Shape
    problem: str | None


@dataclass(frozen=True, slots=True)
class _Signal:
    """What travels along a path: a shape, what one of its pixels sees, how far apart they are."""

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
    """Carry an image of ``shape`` ``(C, H, W)`` through ``network``.

    Raises ``ValueError`` for a shape that is no image of the network's, that is so small that a
    map vanishes, or in which a block's two paths round differently (average pools against
    aliasing round down); the message names the layer. A head that cannot take the features is no
    error: ``Walk.problem`` says so.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f"the input is {shape!r}; it takes (channels, height, width), e.g. 3x224x224"
        )
    if shape[0] != network.options.in_chans:
        raise InputError(
            f"the input {shape_text(shape)} has {shape[0]} channels and {network.name} takes "
            f"{network.options.in_chans}; give {network.options.in_chans} channels, "
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
                f"the head cannot take {shape_text(last_map)}: {where} "
                "(head_pool global takes any size)"
            )
            after = before
        if isinstance(located.layer, Add):
            shortcut = signals[located.inputs[1]]
            if after.shape != shortcut.shape:
                raise InputError(
                    f"the input {shape_text(shape)} does not fit {network.name}: at "
                    f"{located.path}, the main path gives {shape_text(after.shape)} and the "
                    f"shortcut {shape_text(shortcut.shape)}; give sides that are "
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
