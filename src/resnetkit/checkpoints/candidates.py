"""Candidate readings: the network of one dialect below one prefix."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from resnetkit.architecture.layer import Shape
from resnetkit.architecture.option_fields import NormKind, StemKind
from resnetkit.architecture.parameters import NetworkPart, ParameterKind, Place
from resnetkit.checkpoints.checkpoint import COUNTER, TRAINING, Reading, compare
from resnetkit.checkpoints.dialect import Dialect
from resnetkit.checkpoints.dialects import DIALECTS
from resnetkit.checkpoints.infer_options import BlockSketch, ConvSketch, Sketch, describe
from resnetkit.checkpoints.resolve_facts import configured, settled
from resnetkit.errors import InputError

#: Of two copies the one with the lower rank is read. Averaged weights come first, as in timm's
#: ``load_state_dict(use_ema=True)``; MoCo's key encoder comes last, as in its own evaluation.
RANKS = {"state_dict_ema": -1, "model_ema": -1, "ema": -1, "encoder_k": 1, "momentum_encoder": 1}
#: Maximum number of positions where a network may begin.
MOST_STARTS = 500
_EMPTY = ConvSketch(kernel=None, votes=(), bias=False, norm="batch")


def readings(shapes: Mapping[str, Shape], config: Mapping[str, Any] | None) -> Iterator[Reading]:
    """The best reading of each dialect below each prefix."""
    lines = "\n" + "".join(f"{name}\n" for name in shapes)
    for dialect in DIALECTS:
        for prefix, rooted in _starts(dialect, shapes, lines):
            if dialect.evidence and not any(prefix + name in shapes for name in dialect.evidence):
                continue
            stated = shapes if dialect.respell is None else dialect.respell(shapes, prefix)
            tries = (
                _Try(
                    dialect=dialect,
                    shapes=shapes,
                    stated=stated,
                    prefix=prefix,
                    rooted=rooted,
                    stem=stem,
                    averaged=averaged,
                ).read(config)
                for stem in _stems(dialect)
                for averaged in _averaged(dialect)
            )
            readings = [reading for reading in tries if reading is not None]
            if readings:
                yield min(readings, key=order)


def _stems(dialect: Dialect) -> list[StemKind]:
    """The stem kinds of a framework, one of those with the same names."""
    kinds: tuple[StemKind, ...] = ("7x7", "deep", "3x3")
    found: dict[tuple[str, ...], StemKind] = {}
    for stem in kinds:
        if stem in dialect.holds.get("stem", kinds):
            count = 3 if stem == "deep" else 1
            at = partial(Place, kind="conv", part="stem", stem=stem)
            names = tuple(dialect.path(at(number=number + 1)) for number in range(count))
            found.setdefault(names, stem)
    return list(found.values())


def _averaged(dialect: Dialect) -> tuple[bool, ...]:
    """Whether to look for shortcuts with average pools as well."""
    shortcuts = dialect.holds.get("shortcut", ("avgpool+projection",))
    return (False, True) if "avgpool+projection" in shortcuts else (False,)


def _anchors(dialect: Dialect) -> tuple[str, ...]:
    """Names in every network of a dialect, below its root: the first block's."""
    if dialect.anchors:
        return dialect.anchors
    at = partial(Place, part="main", stage=1, block=0)
    first = [at(kind="conv", number=1), at(kind="conv", number=2), at(kind="norm", number=1)]
    return tuple(
        dialect.tensor(name, place.kind, "weight")
        for place in first
        for name in dialect.layer(place, rooted=False)
    )


def _starts(dialect: Dialect, shapes: Mapping[str, Shape], lines: str) -> list[tuple[str, bool]]:
    """The prefixes of a dialect's names, and whether they include its root.

    ``lines`` are the names, each between newlines: one search in all is a hundred times as fast as
    one in each.
    """
    found: dict[tuple[str, bool], None] = {}
    for anchor in _anchors(dialect):
        at = -1
        while (at := lines.find(f"{anchor}\n", at + 1)) >= 0:
            prefix = lines[lines.rfind("\n", 0, at) + 1 : at]
            if prefix and prefix[-1] not in "./":
                continue
            if dialect.root and prefix.endswith(dialect.root):
                outer = prefix.removesuffix(dialect.root)
                sign = re.compile(re.escape(outer) + dialect.beside_root)
                if not dialect.beside_root or any(map(sign.match, shapes)):
                    found[outer, True] = None
            found[prefix, not dialect.root] = None
            if len(found) > MOST_STARTS:
                raise InputError(
                    f"more than {MOST_STARTS} networks may begin in the file, e.g. under "
                    f"{prefix[:60]!a}; give a file of fewer"
                )
    return list(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    """One way to read a file: a dialect below a prefix, with or without its root.

    ``stated`` are the tensors by names that determine places, ``shapes`` those of the file.
    """

    dialect: Dialect
    shapes: Mapping[str, Shape]
    stated: Mapping[str, Shape]
    prefix: str
    rooted: bool
    stem: StemKind
    averaged: bool

    def seen(self, kind: ParameterKind, part: NetworkPart, **where: Any) -> dict[str, Shape]:
        """The present tensors of the layer at a place, in our layout."""
        place = Place(kind=kind, part=part, stem=self.stem, averaged=self.averaged, **where)
        found: dict[str, Shape] = {}
        for layer in self.dialect.layer(place, rooted=self.rooted):
            for name in self.dialect.suffixes[kind]:
                theirs = self.prefix + self.dialect.tensor(layer, kind, name)
                if theirs in self.stated:
                    found[name] = self.dialect.our_shape(self.stated[theirs])
        return found

    def conv(self, part: NetworkPart, **where: Any) -> ConvSketch | None:
        """The convolution at a place and its norm, or None if neither is present."""
        conv, norm = self.seen("conv", part, **where), self.seen("norm", part, **where)
        if not conv and not norm:
            return None
        kernel = conv.get("weight", ())
        votes = [shape[0] for shape in norm.values() if len(shape) == 1]
        votes += [shape[0] for shape in conv.values() if shape]
        square = len(kernel) == 4 and min(kernel) > 0
        return ConvSketch(
            kernel=kernel if square else None,
            votes=tuple(votes),
            bias="bias" in conv,
            norm=self.norm(norm),
        )

    def norm(self, tensors: Collection[str]) -> NormKind:
        """The framework's kind of norm with these tensors."""
        batch = {"running_mean", "running_var", COUNTER}
        kind: NormKind = "batch" if batch & set(tensors) else "group"
        if not tensors:
            kind = "none"
        return kind if self.dialect.has("norm", kind) else "batch"

    def block(self, stage: int, block: int) -> BlockSketch | None:
        at = {"stage": stage, "block": block}
        main = [self.conv("main", number=number, **at) for number in (1, 2, 3)]
        if not any(main):
            return None
        pooled = self.averaged and stage > 1
        shortcut = self.conv("shortcut", pooled=pooled, **at)
        if pooled and (shortcut is None or shortcut.kernel is None):
            # A dilated stage has no pool (mmpretrain), so its names are those without a pool.
            other = self.conv("shortcut", pooled=False, **at)
            if other is not None and other.kernel is not None:
                shortcut, pooled = other, False
        gated = self.dialect.holds.get("squeeze_excitation") != (None,)
        gate = [self.seen("conv", "gate", number=number, **at) for number in (1, 2) if gated]
        inner = gate[0].get("bias", gate[0].get("weight", ())) if gated else ()
        efficient = self.dialect.has("efficient_attention", True)
        along = self.seen("conv", "gate", efficient=True, **at) if efficient else {}
        return BlockSketch(
            main=tuple(conv or _EMPTY for conv in (main if main[2] else main[:2])),
            shortcut=shortcut,
            pooled=pooled,
            gated=any(gate) or bool(along),
            squeezed=inner[0] if inner else None,
            attention=along["weight"][-1] if along.get("weight") else None,
        )

    def sketch(self) -> Sketch | None:
        count = 3 if self.stem == "deep" else 1
        *stem, pool = (self.conv("stem", number=number + 1) for number in range(count + 1))
        if not any(stem) or not self._is_worth_it(stem):
            return None
        stages: list[tuple[BlockSketch, ...]] = []
        while blocks := self._blocks(len(stages) + 1):
            stages.append(blocks)
        if not stages:
            return None
        linear = self.seen("linear", "head")
        classes = [shape[0] for shape in linear.values() if shape]
        return Sketch(
            stem=tuple(conv or _EMPTY for conv in stem),
            stages=tuple(stages),
            classes=classes[0] if classes else None,
            averaged=self.averaged,
            pool=pool if self.dialect.has("stem_pool", "conv") and self.stem != "3x3" else None,
        )

    def _is_worth_it(self, stem: Sequence[ConvSketch | None]) -> bool:
        """Whether there is a kernel of a deep stem, and one after the pool of a shortcut.

        Otherwise the same names are better read as a plain network.
        """
        if self.stem == "deep" and not any(conv and conv.kernel for conv in stem):
            return False
        behind = (
            self.seen("conv", "shortcut", stage=stage, pooled=True).get("weight", ())
            for stage in (2, 3, 4)
        )
        return not self.averaged or any(len(kernel) == 4 for kernel in behind)

    def _blocks(self, stage: int) -> tuple[BlockSketch, ...]:
        blocks: list[BlockSketch] = []
        while (block := self.block(stage, len(blocks))) is not None:
            blocks.append(block)
        return tuple(blocks)

    def read(self, config: Mapping[str, Any] | None) -> Reading | None:
        """The reading with the dialect's documented facts; None if it is not a network."""
        sketch = self.sketch()
        if sketch is None:
            return None
        stated = configured(self.dialect, config)
        try:
            network, known, ambiguous = settled(self.dialect, describe(sketch), stated)
        except InputError:
            return None
        if self.dialect.cannot(network.options) is not None:
            return None
        found = compare(self.dialect, self.shapes, self.prefix, self.rooted, network)
        return replace(found, known=known, ambiguous=ambiguous)


def rank(reading: Reading) -> int:
    """Averaged weights first; auxiliary copies of training last."""
    kept = 3 * bool(TRAINING & set(reading.wrappers))
    return sum(RANKS.get(segment, 0) for segment in reading.wrappers) + kept


def order(reading: Reading) -> tuple[int, int, int]:
    problems = len(reading.missing) + len(reading.misshapen) + len(reading.leftover)
    return rank(reading), problems, len(reading.wrappers)
