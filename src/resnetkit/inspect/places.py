"""The places of a network at which values are taken: stages, blocks and layers, by their paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from resnetkit.architecture.block import Block, Located
from resnetkit.architecture.layer import Add, Conv, Pool, Subsample
from resnetkit.architecture.network import Network
from resnetkit.errors import InputError
from resnetkit.inspect.models import hint

Level = Literal["stage", "block", "layer"]
LEVELS: tuple[Level, ...] = get_args(Level)
#: The kinds of shortcut: as it is, a strided 1x1 convolution, one after an average pool (ResNet-D),
#: or every second pixel with zeros appended.
ShortcutKind = Literal["identity", "projection", "avgpool+projection", "pad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stage, block or layer, whose output is that of ``layer``, the path of its last layer.

    A block has ``main`` and ``shortcut``, the paths of the layers whose outputs are added, and the
    ``kind`` of its shortcut.
    """

    path: str
    level: Level
    stage: str
    layer: str
    main: str | None = None
    shortcut: str | None = None
    kind: ShortcutKind | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose outputs are needed."""
        return tuple(path for path in (self.layer, self.main, self.shortcut) if path is not None)


def places(network: Network) -> dict[str, Place]:
    """Every place by path: a stage or block comes before its parts.

    Without a classifier the head is left out: its output is the embedding.
    """
    layers = [
        located
        for located in network.layers()
        if located.stage != "head" or network.options.num_classes is not None
    ]
    last = {located.stage: located.path for located in layers}
    last |= {located.block: located.path for located in layers if located.block is not None}
    added = {located.block: located for located in layers if isinstance(located.layer, Add)}
    blocks = {block.name: block for stage in network.stages for block in stage.blocks}
    return {place.path: place for place in _in_order(layers, last, added, blocks)}


def _in_order(
    layers: Sequence[Located],
    last: dict[str, str],
    added: dict[str | None, Located],
    blocks: dict[str, Block],
) -> Iterator[Place]:
    seen: set[str] = set()
    for located in layers:
        stage, block = located.stage, located.block
        if stage not in seen and stage != "head":
            seen.add(stage)
            yield Place(path=stage, level="stage", stage=stage, layer=last[stage])
        if block is not None and block not in seen:
            seen.add(block)
            main, shortcut = added[block].inputs
            yield Place(
                path=block,
                level="block",
                stage=stage,
                layer=last[block],
                main=main,
                shortcut=shortcut,
                kind=_kind(blocks[block]),
            )
        yield Place(path=located.path, level="layer", stage=stage, layer=located.path)


def _kind(block: Block) -> ShortcutKind:
    match block.shortcut:
        case ():
            return "identity"
        case (Pool(), *_):
            return "avgpool+projection"
        case (Subsample(), *_):
            return "pad"
        case (Conv(), *_):
            return "projection"
    raise TypeError(f"unsupported shortcut: {block.shortcut}")


def chosen(network: Network, at: str | Sequence[str] | None, default: Level) -> list[Place]:
    """The places ``at``, in the network's order: paths, or levels for all places of a level.

    A stage's torch name, e.g. ``layer4``, is accepted for ``stage4``. Raises ``ValueError`` for an
    unknown path, and suggests the nearest.
    """
    known = places(network)
    found: set[str] = set()
    given = [at or default] if at is None or isinstance(at, str) else list(at)
    if not given:
        raise InputError("at is empty; give a path, or stage, block or layer", field="at")
    for name in given:
        if name in LEVELS:
            found.update(path for path, one in known.items() if one.level == name)
        else:
            found.add(_named(network, known, name).path)
    return [one for path, one in known.items() if path in found]


def place_named(network: Network, at: str) -> Place:
    """The place of one path. Raises as ``chosen``."""
    return _named(network, places(network), at)


def _named(network: Network, known: dict[str, Place], name: str) -> Place:
    alias = {stage.path: stage.name for stage in network.stages if stage.path}
    if isinstance(name, str) and (found := known.get(alias.get(name, name))) is not None:
        return found
    blocks = [path for path, one in known.items() if one.level == "block"]
    raise InputError(
        f"{network.name} has no place {name!r}; {hint(str(name), list(known))}give a stage "
        f"(stage1), block ({blocks[0]}) or layer ({blocks[0]}.conv1)",
        field="at",
    )
