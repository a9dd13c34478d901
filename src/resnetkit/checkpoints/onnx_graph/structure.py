"""Finds stem, blocks and head in a graph by its connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resnetkit.checkpoints.onnx_graph.operations import Op, Slide, refuse

#: Operations allowed between a convolution and its ReLU.
_BY_CHANNEL = ("norm", "change")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """A convolution or linear layer, and the per-channel operations on its output."""

    layer: Op
    rest: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A residual block. ``changed`` are the slice, pool and pad of a shortcut without weights."""

    add: Op
    main: tuple[Unit, ...]
    gate: tuple[Unit, ...] = ()
    shortcut: Unit | None = None
    pool: Op | None = None
    changed: tuple[Op, ...] = ()

    @property
    def starts(self) -> bool:
        """Whether its shortcut changes the map, as in a stage's first block."""
        return self.shortcut is not None or bool(self.changed)

    @property
    def stride(self) -> int:
        """The factor by which its output is smaller."""
        strides = [unit.layer.slide.strides[0] for unit in self.main if unit.layer.slide]
        return max(strides)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """The parts of the graph; ``before`` are operations on the image, ``after`` on the logits."""

    input: Op
    before: tuple[Op, ...]
    stem: tuple[Unit, ...]
    stem_pool: Op | None
    blocks: tuple[Block, ...]
    head_pool: Op | None
    linear: Unit | None
    after: tuple[Op, ...]

    def units(self) -> Iterator[Unit]:
        """Convolutions that may have norms: all except those of gates."""
        yield from self.stem
        for block in self.blocks:
            yield from block.main
            if block.shortcut is not None:
                yield block.shortcut


def matched(output: Op) -> Structure:
    """The structure of the graph that ends in ``output``.

    Raises ``InputError`` with the operation at which it stops being a ResNet.
    """
    return _Matching(output).structure()


class _Matching:
    def __init__(self, output: Op) -> None:
        self.ops = _ordered(output)
        self.users: dict[int, list[Op]] = {id(op): [] for op in self.ops}
        for op in self.ops:
            for given in op.inputs:
                self.users[id(given)].append(op)
        self.used: set[int] = set()

    def structure(self) -> Structure:
        first = next((op for op in self.ops if op.kind == "input"), None)
        if first is None:
            raise refuse("the output", "does not depend on the image")
        self.used.add(id(first))
        before, op = self._by_channel(first)
        stem, stem_pool, op = self._stem(op)
        adds = [op for op in self.ops if op.kind == "add"]
        if not adds:
            raise refuse("after the stem", f"comes {self._said(op)}, but no block with a shortcut")
        blocks = []
        for add in adds:
            block, op = self._block(add, op)
            blocks.append(block)
        head_pool, linear, after = self._head(op)
        for op in self.ops:
            if id(op) not in self.used:
                raise refuse(op.text, "is outside the blocks of a ResNet")
        return Structure(
            input=first,
            before=before,
            stem=stem,
            stem_pool=stem_pool,
            blocks=tuple(blocks),
            head_pool=head_pool,
            linear=linear,
            after=after,
        )

    def _next(self, op: Op) -> Op | None:
        """The only user of ``op``; None if there is none or several."""
        users = self.users[id(op)]
        return users[0] if len(users) == 1 else None

    def _by_channel(self, op: Op) -> tuple[tuple[Op, ...], Op]:
        """The per-channel operations on ``op``, and the result."""
        rest = []
        while (after := self._next(op)) is not None and after.kind in _BY_CHANNEL:
            self.used.add(id(after))
            rest.append(after)
            op = after
        return tuple(rest), op

    def _take(self, op: Op) -> Op:
        self.used.add(id(op))
        return op

    def _stem(self, op: Op) -> tuple[tuple[Unit, ...], Op | None, Op]:
        units: list[Unit] = []
        pool = None
        while (after := self._next(op)) is not None and after.kind == "conv":
            rest, end = self._by_channel(self._take(after))
            relu = self._next(end)
            if relu is None or relu.kind != "relu":
                raise refuse(end.text, f"is followed by {self._said(end)}, but a stem has a ReLU")
            units.append(Unit(layer=after, rest=rest))
            op = self._take(relu)
        if not units:
            raise refuse("the image", f"goes into {self._said(op)}, but a stem is a convolution")
        if after is not None and after.kind == "max":
            pool = op = self._take(after)
        if len(units) not in (1, 3):
            raise refuse(
                units[-1].layer.text,
                f"is convolution {len(units)} in a row without a shortcut; a stem has 1 or 3",
            )
        return tuple(units), pool, op

    def _said(self, op: Op) -> str:
        users = self.users[id(op)]
        return " and ".join(user.text for user in users[:3]) or "nothing"

    def _block(self, add: Op, start: Op) -> tuple[Block, Op]:
        """The block that begins at ``start`` and ends with ``add``, and its last ReLU."""
        chains = [self._chain(end, start, add) for end in add.inputs]
        chains.sort(key=lambda chain: sum(op.kind == "conv" for op in chain), reverse=True)
        main, gate = self._gated(chains[0])
        units = self._units(main, add)
        shortcut, pool, changed = self._shortcut(chains[1], add)
        self._take(add)
        relu = self._next(add)
        if relu is None or relu.kind != "relu":
            raise refuse(add.text, f"is followed by {self._said(add)}, but a block ends in a ReLU")
        block = Block(add=add, main=units, gate=gate, shortcut=shortcut, pool=pool, changed=changed)
        return block, self._take(relu)

    def _chain(self, end: Op, start: Op, add: Op) -> list[Op]:
        """The operations from ``start`` to ``end``; a gate represents its two branches."""
        chain: list[Op] = []
        op = end
        while op is not start:
            if not op.inputs or op.kind == "add":
                raise refuse(add.text, f"adds something that begins at {op.text}, not at its block")
            chain.append(op)
            op = op.inputs[0]
        return chain[::-1]

    def _gated(self, main: list[Op]) -> tuple[list[Op], tuple[Unit, ...]]:
        """The main path without its gate, and the gate's two convolutions."""
        if not main or main[-1].kind != "gate":
            return main, ()
        scale = self._take(main[-1])
        trunk, gate = scale.inputs
        chain = self._chain(gate, trunk, scale)
        kinds = [op.kind for op in chain if op.kind != "change"]
        wanted = [["mean", one, "relu", other, "sigmoid"] for one in _LAYERS for other in _LAYERS]
        if kinds not in wanted:
            raise refuse(scale.text, f"multiplies by a gate of {', '.join(kinds)}")
        units: list[Unit] = []
        after = False
        for op in chain:
            if op.kind == "change":
                if not after:
                    raise refuse(op.text, "is in a gate, but not after one of its layers")
                units[-1] = Unit(layer=units[-1].layer, rest=(*units[-1].rest, op))
                continue
            after = op.kind in _LAYERS
            if after:
                units.append(Unit(layer=op))
        self.used.update(map(id, chain))
        return main[:-1], tuple(units)

    def _units(self, chain: list[Op], add: Op) -> tuple[Unit, ...]:
        """Two or three convolutions with a ReLU between them."""
        units: list[Unit] = []
        ready = True
        for op in chain:
            if op.kind == "conv" and ready:
                units.append(Unit(layer=op))
                ready = False
            elif op.kind in _BY_CHANNEL and not ready:
                units[-1] = Unit(layer=units[-1].layer, rest=(*units[-1].rest, op))
            elif op.kind == "relu" and units and not ready:
                ready = True
            else:
                raise refuse(op.text, f"({op.kind}) is not expected in the block of {add.text}")
            self._take(op)
        if ready or len(units) not in (2, 3):
            raise refuse(
                add.text,
                f"adds {len(units)} convolutions{' and a ReLU' if ready else ''} to a shortcut; "
                "a block has 2 or 3, the last without a ReLU",
            )
        return tuple(units)

    def _shortcut(self, chain: list[Op], add: Op) -> tuple[Unit | None, Op | None, tuple[Op, ...]]:
        kinds = [op.kind for op in chain]
        self.used.update(map(id, chain))
        if "conv" not in kinds and all(kind in _WITHOUT_WEIGHTS for kind in kinds):
            return None, None, tuple(chain)
        pool = chain.pop(0) if kinds[0] == "average" else None
        if not chain or chain[0].kind != "conv":
            raise refuse(chain[0].text if chain else add.text, "is not a shortcut of a ResNet")
        for op in chain[1:]:
            if op.kind not in _BY_CHANNEL:
                raise refuse(op.text, "is in a shortcut, which no ResNet has")
        return Unit(layer=chain[0], rest=tuple(chain[1:])), pool, ()

    def _head(self, op: Op) -> tuple[Op | None, Unit | None, tuple[Op, ...]]:
        pool, linear = None, None
        after = self._next(op)
        if after is not None and after.kind in ("mean", "average"):
            pool = op = self._take(after)
            after = self._next(op)
        if after is not None and after.kind in ("conv", "linear"):
            layer = self._take(after)
            if layer.kind == "conv" and (layer.slide != _POINT or layer.groups != 1):
                raise refuse(layer.text, "is a classifier, but not a 1x1 convolution of all maps")
            rest, op = self._by_channel(layer)
            linear = Unit(layer=layer, rest=rest)
            after = self._next(op)
        end = []
        while linear is not None and after is not None and after.kind == "softmax":
            op = self._take(after)
            end.append(op)
            after = self._next(op)
        if self.users[id(op)]:
            raise refuse("after the last block", f"comes {self._said(op)}; a ResNet ends in a pool "
                         "and a linear layer")  # fmt: skip
        return pool, linear, tuple(end)


_LAYERS = ("conv", "linear")
_POINT = Slide(kernel=(1, 1))
_WITHOUT_WEIGHTS = ("slice", "pad", "average", "max")


def _ordered(output: Op) -> list[Op]:
    """The operations that ``output`` depends on, in topological order."""
    done: list[Op] = []
    seen: set[int] = set()
    stack = [(output, False)]
    while stack:
        op, finished = stack.pop()
        if finished:
            done.append(op)
        elif id(op) not in seen:
            seen.add(id(op))
            stack.append((op, True))
            stack += [(given, False) for given in op.inputs]
    return done
