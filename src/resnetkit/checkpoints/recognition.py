"""Which dialect somebody's names are, and which network their shapes are.

Every dialect is asked whether the names that it would give are there. Whatever stands before them
is a wrapper and is peeled off; what the names do not use is left over and reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from resnetkit.architecture.layer import Shape
from resnetkit.architecture.options import NormKind, StemKind
from resnetkit.checkpoints.description import Kind, Part, Place, named
from resnetkit.checkpoints.dialect import Dialect
from resnetkit.checkpoints.dialects import DIALECTS, WRITTEN
from resnetkit.checkpoints.families import family
from resnetkit.checkpoints.reading import COUNTER, TRAINING, Reading, compare, segments
from resnetkit.checkpoints.settling import check_config, configured, settled, with_choices
from resnetkit.checkpoints.sketch import BlockSketch, ConvSketch, Sketch, describe
from resnetkit.errors import InputError

#: Below this share of tensors that fit, something is no ResNet of a dialect.
LEAST_SHARE = 0.9
#: Of two copies the one with the lower rank is read. An average comes first, as in timm's
#: ``load_state_dict(use_ema=True)``; MoCo's key encoder comes last, as in its own evaluation.
RANKS = {"state_dict_ema": -1, "model_ema": -1, "ema": -1, "encoder_k": 1, "momentum_encoder": 1}
_EMPTY = ConvSketch(kernel=None, votes=(), bias=False, norm="batch")


#: Whether two tensors of a file, by their names, hold the same numbers.
Same = Callable[[str, str], bool]


def recognise(
    shapes: Mapping[str, Shape],
    *,
    config: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    same: Same | None = None,
) -> Reading | None:
    """The network that has these tensors, or None where they are no ResNet of any dialect.

    ``shapes`` are names, with dots or slashes between their parts, and shapes. ``config`` is what
    the framework writes beside its weights, e.g. a ``config.json``. ``prefix`` chooses one of
    several networks in a file: what stands before the names of its tensors, or a beginning of that.
    With ``same``, networks that are equal count as one. Raises ``InputError`` where the choice is
    needed, and where ``config`` contradicts the shapes.
    """
    every = [r for r in _readings(shapes, config) if _share(r) >= LEAST_SHARE and _whole(r)]
    found = every if prefix is None else _under(every, prefix)
    if not found:
        return None
    best = min(
        found, key=lambda reading: (*_order(reading), not configured(reading.dialect, config))
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
    if best.dialect.evidence:  # which tells it from the others
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
    """The tensors of a copy, and what stands with it away from the network that is read."""
    below = {name for name in copy.shapes if name.startswith(copy.prefix)}
    return {*copy.names.values()} | {n for n in below if not n.startswith(best.prefix or " ")}


def _under(readings: list[Reading], prefix: str) -> list[Reading]:
    """The readings below a prefix, or all of those that begin with it."""
    exact = [r for r in readings if prefix in (r.prefix, r.prefix[:-1], r.body, r.body[:-1])]
    if exact or not prefix:
        return exact
    start = prefix if prefix[-1] in "./" else (f"{prefix}.", f"{prefix}/")
    return [r for r in readings if r.prefix.startswith(start)]


def _apart(readings: list[Reading]) -> list[Reading]:
    """The best readings of those that share tensors."""
    kept: list[Reading] = []
    for reading in sorted(readings, key=_order):
        if all(_disjoint(reading, other) for other in kept):
            kept.append(reading)
    return kept


def _beside(best: Reading) -> dict[str, str]:
    """Leftovers that are known to be no part of a network, with what they are."""
    found = {}
    key, slash, _ = best.prefix.partition("/")
    for name in best.leftover:
        first, inside, _ = name.partition("/")
        last = segments(name)[-1]
        if slash and first != key and inside and first in TRAINING:
            found[name] = "the state of training, beside the weights"
        elif slash and not inside and math.prod(best.shapes[name]) == 1:
            found[name] = "a single number beside the weights"
        elif last in ("queue", "queue_ptr") and "encoder_q" in best.wrappers:
            found[name] = "MoCo's queue of keys"
        elif last == "n_averaged":
            found[name] = "how many weights were averaged (torch's AveragedModel)"
        elif last in ("total_ops", "total_params"):
            found[name] = "what a counter of operations (thop) left there"
    return found


def read(
    shapes: Mapping[str, Shape],
    *,
    config: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    same: Same | None = None,
) -> Reading:
    """``recognise``, with an ``InputError`` that says what was looked for where there is none.

    A network whose names give away that it is another, or only nearly a ResNet, is refused by its
    name.
    """
    found = recognise(shapes, config=config, prefix=prefix, same=same)
    if found is not None:
        _check_family(found)
        return found
    where = "" if prefix is None else f" under {prefix!r}"
    other = family(shapes) if prefix is None else None
    if other is not None:
        raise InputError(f"this is {other}; resnetkit reads ResNets, and this is none that it has")
    some = ", ".join(list(shapes)[:3]) or "none"
    near = max(_readings(shapes, config), key=_share, default=None)
    nearest = ""
    if near is not None:
        lacking = [*near.missing.values(), *near.misshapen]
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
    """Raise ``InputError`` where what stands in or beside a body makes it another network."""
    below = [name for name in found.leftover if name.startswith(found.prefix)]
    other = family(below)
    if other is not None:
        raise InputError(f"this is {other}; a ResNet of the rest would answer differently")


def dialect(name: str) -> Dialect:
    """The dialect of that name. Raises ``InputError`` for an unknown one, with all names."""
    for candidate in WRITTEN:
        if candidate.name == name:
            return candidate
    if name == "onnx":
        raise InputError("onnx is read only; a graph to run is written by `resnetkit export`")
    if any(candidate.name == name for candidate in DIALECTS):
        raise InputError(f"{name} is read only; write torchvision's names")
    raise InputError(
        f"no dialect is named {name!r}; there are {', '.join(d.name for d in WRITTEN)}"
    )


def _share(reading: Reading) -> float:
    """The share of the network's tensors that fit; counters of batches do not count."""
    fit, lacking = (
        sum(not name.endswith(COUNTER) for name in names)
        for names in (reading.names, [*reading.missing, *reading.misshapen])
    )
    return fit / max(1, fit + lacking)


def _whole(reading: Reading) -> bool:
    """Whether it is more than the beginning of another network that happens to fit (HRNet)."""
    return len(reading.network.options.depths) > 1 or not reading.leftover


def _rank(reading: Reading) -> int:
    """The average over training first; what training keeps for itself last."""
    kept = 3 * bool(TRAINING & set(reading.wrappers))
    return sum(RANKS.get(segment, 0) for segment in reading.wrappers) + kept


def _order(reading: Reading) -> tuple[int, int, int]:
    problems = len(reading.missing) + len(reading.misshapen) + len(reading.leftover)
    return _rank(reading), problems, len(reading.wrappers)


def _disjoint(one: Reading, other: Reading) -> bool:
    return not set(one.names.values()) & set(other.names.values())


def _check_choice(best: Reading, copies: list[Reading], same: Same | None) -> None:
    """Raise ``InputError`` where a network could as well be another that is in the file."""
    rivals = [
        copy for copy in copies if _rank(copy) == _rank(best) and not _equal(best, copy, same)
    ]
    if rivals:
        listed = sorted({r.body: len(r.names) for r in (best, *rivals)}.items())
        text = ", ".join(f"{body!r} ({count} tensors)" for body, count in listed)
        raise InputError(
            f"the file has {len(listed)} networks, under {text}; "
            f"choose one, e.g. prefix={best.body!r}",
            command=f"the file has {len(listed)} networks, under {text}; "
            f"choose one, e.g. --prefix {best.body}",
        )


def _equal(one: Reading, other: Reading, same: Same | None) -> bool:
    """Whether the same network stands in the file twice, equal to the last bit."""
    return (
        same is not None
        and one.names.keys() == other.names.keys()
        and all(same(theirs, other.names[ours]) for ours, theirs in one.names.items())
    )


def _readings(shapes: Mapping[str, Shape], config: Mapping[str, Any] | None) -> Iterator[Reading]:
    """The best reading of each dialect below each prefix."""
    for dialect in DIALECTS:
        for prefix, rooted in _starts(dialect, shapes):
            if dialect.evidence and not any(prefix + name in shapes for name in dialect.evidence):
                continue
            told = shapes if dialect.respell is None else dialect.respell(shapes, prefix)
            tries = (
                _Try(
                    dialect=dialect,
                    shapes=shapes,
                    told=told,
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
                yield min(readings, key=_order)


def _stems(dialect: Dialect) -> list[StemKind]:
    """The kinds of stems that a framework has, one of those with the same names."""
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
    """Whether to look for shortcuts with average pools, besides those without."""
    shortcuts = dialect.holds.get("shortcut", ("avgpool+projection",))
    return (False, True) if "avgpool+projection" in shortcuts else (False,)


def _anchors(dialect: Dialect) -> tuple[str, ...]:
    """Names that every network of a dialect has, below its root: the first block's."""
    if dialect.anchors:
        return dialect.anchors
    at = partial(Place, part="main", stage=1, block=0)
    first = [at(kind="conv", number=1), at(kind="conv", number=2), at(kind="norm", number=1)]
    return tuple(
        dialect.tensor(name, place.kind, "weight")
        for place in first
        for name in dialect.layer(place, rooted=False)
    )


def _starts(dialect: Dialect, shapes: Mapping[str, Shape]) -> list[tuple[str, bool]]:
    """What stands before the names of a dialect, and whether its root is among that."""
    found: dict[tuple[str, bool], None] = {}
    for anchor in _anchors(dialect):
        for name in shapes:
            prefix = name[: -len(anchor)]
            if not name.endswith(anchor) or (prefix and prefix[-1] not in "./"):
                continue
            if dialect.root and prefix.endswith(dialect.root):
                found[prefix.removesuffix(dialect.root), True] = None
            found[prefix, not dialect.root] = None
    return list(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    """One way to read a file: a dialect below a prefix, with or without its root.

    ``told`` are the tensors by names that tell places, ``shapes`` those of the file.
    """

    dialect: Dialect
    shapes: Mapping[str, Shape]
    told: Mapping[str, Shape]
    prefix: str
    rooted: bool
    stem: StemKind
    averaged: bool

    def seen(self, kind: Kind, part: Part, **where: Any) -> dict[str, Shape]:
        """The tensors that are there of the layer at a place, in our layout."""
        place = Place(kind=kind, part=part, stem=self.stem, averaged=self.averaged, **where)
        found: dict[str, Shape] = {}
        for layer in self.dialect.layer(place, rooted=self.rooted):
            for name in self.dialect.suffixes[kind]:
                theirs = self.prefix + self.dialect.tensor(layer, kind, name)
                if theirs in self.told:
                    found[name] = self.dialect.our_shape(self.told[theirs])
        return found

    def conv(self, part: Part, **where: Any) -> ConvSketch | None:
        """The convolution at a place and its norm, or None where neither has left a trace."""
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
        """The kind of norm that has these tensors, of those that the framework has."""
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
            # A dilated stage has no pool (mmpretrain), so that its names are those of no pool.
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
        """Whether there is a kernel of a deep stem, and one behind the pool of a shortcut.

        Where there is none, the same names are read better as those of a plain network.
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
        """The reading with the facts as the dialect documents them; None where it is no network."""
        sketch = self.sketch()
        if sketch is None:
            return None
        told = configured(self.dialect, config)
        try:
            network, known, ambiguous = settled(self.dialect, describe(sketch), told)
        except InputError:
            return None
        if self.dialect.cannot(network.options) is not None:
            return None
        found = compare(self.dialect, self.shapes, self.prefix, self.rooted, network)
        return replace(found, known=known, ambiguous=ambiguous)
