"""Splits the contents of a pickle into arrays, by their keys, and metadata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.formats.container import ArrayInfo, Container, UnfitError, listed, short
from resnetkit.formats.unpickler.allowlist import Namespace
from resnetkit.formats.unpickler.arrays import Dtype, PickledArray, Quantised, Storage, Tensor
from resnetkit.formats.unpickler.machine import Inert, Key, Name, Span
from resnetkit.formats.unpickler.modules import is_module, settings, tensors

if TYPE_CHECKING:
    import numpy as np

#: Limits on followed references, as a file may share objects, and on depth.
MOST_STEPS, DEEPEST = 300_000, 32
#: The attribute with the weight and bias of torch's quantised linear layer.
_PACKED = "._packed_params._packed_params"
#: Placeholder for arrays, and objects with only arrays, in the metadata.
_NOTHING = object()


class Tree:
    """The arrays and metadata of a pickle. Raises ``UnfitError`` if it is endless."""

    def __init__(self, root: object) -> None:
        self.found: list[tuple[ArrayInfo, PickledArray | Tensor]] = []
        self.modules: dict[str, Any] = {}
        self._steps = 0
        self._seen: set[int] = set()
        facts = self._take(root, ())
        self.facts: dict[str, Any] = facts if isinstance(facts, dict) else {"value": facts}
        if facts is _NOTHING:
            self.facts = {}

    def container(self, path: Path, kind: str, more: dict[str, Any] | None = None) -> Container:
        """The container of these arrays and facts, with ``more`` facts."""
        places = {info.name: array for info, array in self.found}

        def reader(name: str) -> np.ndarray[Any, Any]:
            return places[name].load(path)

        return Container(
            path=path,
            kind=kind,
            arrays=listed(info for info, _ in self.found),
            facts={**self.facts, **(more or {})},
            modules=self.modules,
            quantised=frozenset(n for n, array in places.items() if isinstance(array, Quantised)),
            reader=reader,
        )

    def _take(self, value: object, path: tuple[str, ...]) -> Any:
        self._spend(1)
        if len(path) > DEEPEST:
            raise UnfitError(f"is nested deeper than {DEEPEST} levels, too deep for a checkpoint")
        if isinstance(value, Namespace):
            value = value.values
        if isinstance(value, Inert):
            return self._inert(value, path)
        if isinstance(value, (PickledArray, Tensor)) and value.dtype:
            info = ArrayInfo(path=path, shape=value.shape, dtype=value.dtype)
            self.found.append((info, value))
            return _NOTHING
        if isinstance(value, dict):
            return self._dict(value, path)
        if isinstance(value, (list, tuple)):
            taken = [self._take(item, (*path, str(i))) for i, item in enumerate(value)]
            if taken and all(item is _NOTHING for item in taken):
                return _NOTHING
            return [None if item is _NOTHING else item for item in taken]
        if isinstance(value, (set, frozenset)):
            return [self._take(item, path) for item in sorted(value, key=repr)]
        return self._leaf(value)

    def _inert(self, value: Inert, path: tuple[str, ...]) -> Any:
        """An object whose class is not looked up: its name, and the arrays in it."""
        if id(value) in self._seen:  # objects may reference each other
            return value.name
        self._seen.add(id(value))
        if is_module(value):
            for name, tensor in tensors(value):
                self._spend(1)
                info = ArrayInfo(path=(*path, name), shape=tensor.shape, dtype=tensor.dtype)
                self.found.append((info, tensor))
            self.modules["/".join(path)] = settings(value)
            return value.name
        if len(path) < DEEPEST - 1:
            for within in (value.state, value.items, value.members):
                if isinstance(within, (dict, list, tuple)):
                    self._within(within, path)
        return value.name

    def _within(self, value: Any, path: tuple[str, ...]) -> None:
        """The arrays of an object's parts, at any depth."""
        deep = len(path) >= DEEPEST - 1
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            self._spend(1)
            if isinstance(item, (dict, list, tuple)) and not deep:
                self._within(item, (*path, str(key)))
            elif isinstance(item, (Inert, Tensor, PickledArray)):
                self._take(item, (*path, str(key)))

    def _dict(self, value: dict[Any, Any], path: tuple[str, ...]) -> Any:
        facts = {}
        for key, item in value.items():
            name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
            self._spend(len(name) // 64)
            if name.endswith(_PACKED) and isinstance(item, tuple):
                self._packed(item, (*path, name.removesuffix(_PACKED)))
                continue
            taken = self._take(item, (*path, name))
            if taken is not _NOTHING:
                facts[name] = taken
        return facts if facts or not value else _NOTHING

    def _packed(self, parts: tuple[Any, ...], path: tuple[str, ...]) -> None:
        """The weight and bias of torch's quantised linear layer, by their names elsewhere."""
        for name, part in zip(("weight", "bias"), parts, strict=False):
            self._take(part, (*path[:-1], f"{path[-1]}.{name}"))

    def _leaf(self, value: object) -> Any:
        match value:
            case None | bool() | int():
                return value
            case float():
                return value if math.isfinite(value) else str(value)
            case complex():
                return [self._leaf(value.real), self._leaf(value.imag)]
            case str() | bytes():
                self._spend(len(value) // 64)
                return value if isinstance(value, str) else value.decode("latin-1")
            case Span():
                return f"({value.length} bytes)"
            case Name():
                return value.name
            case Key():
                return str(value)
            case Storage() | PickledArray() | Dtype():
                return f"({type(value).__name__.lower()})"
        raise UnfitError(f"only holds a {short(type(value).__name__)}; get it again")

    def _spend(self, count: int) -> None:
        self._steps += count
        if self._steps > MOST_STEPS:
            raise UnfitError("repeats its parts too often for a checkpoint")
