"""Modules that were pickled whole: the tensors of their ``state_dict``.

``torch.save(module)`` writes each module's ``__dict__``: ``_parameters``, ``_buffers`` and
``_modules``. TorchScript writes its attributes, with names of classes below ``__torch__``. Neither
the classes nor the program are needed to read the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resnetkit.formats.container import UnfitError
from resnetkit.formats.unpickler.arrays import Tensor
from resnetkit.formats.unpickler.machine import Inert

#: The prefix of compiled classes in torch.
SCRIPT = "__torch__."
#: Maximum nesting of modules; a ResNet has five levels.
_DEEPEST = 64
#: Attributes of a module's ``__dict__``, numbers and pairs, that define its computation.
SETTINGS = ("stride", "padding", "dilation", "groups", "kernel_size", "eps", "ceil_mode",
            "padding_mode", "num_groups", "output_size")  # fmt: skip


def is_module(value: object) -> bool:
    """Whether it is a pickled or compiled ``nn.Module``."""
    if not isinstance(value, Inert) or not isinstance(value.state, dict):
        return False
    return value.name.startswith(SCRIPT) or {"_parameters", "_modules"} <= set(value.state)


def submodules(module: Inert, name: str = "", depth: int = 0) -> Iterator[tuple[str, Inert]]:
    """The module and its submodules, by the names of ``named_modules``."""
    if depth > _DEEPEST:
        raise UnfitError(f"nests modules more than {_DEEPEST} deep")
    yield name, module
    for key, inner in _members(module, "_modules"):
        if isinstance(inner, Inert) and is_module(inner):
            yield from submodules(inner, f"{name}.{key}" if name else str(key), depth + 1)


def tensors(module: Inert) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers, by the names of ``state_dict``."""
    for name, inner in submodules(module):
        hidden = _names(inner.state.get("_non_persistent_buffers_set"))
        for group in ("_parameters", "_buffers"):
            for key, value in _members(inner, group):
                if isinstance(value, Tensor) and not (group == "_buffers" and key in hidden):
                    yield f"{name}.{key}" if name else str(key), value


def settings(module: Inert) -> dict[str, Any]:
    """The class and settings of each submodule, as JSON values."""
    found: dict[str, Any] = {}
    for name, inner in submodules(module):
        given = {key: _plain(inner.state[key]) for key in SETTINGS if key in inner.state}
        found[name] = {"class": inner.name, **{k: v for k, v in given.items() if v is not None}}
    return found


def _members(module: Inert, group: str) -> Iterator[tuple[object, object]]:
    state = module.state
    if module.name.startswith(SCRIPT):
        # Modules, parameters and buffers are all attributes.
        if group != "_buffers":
            wanted = Inert if group == "_modules" else Tensor
            yield from ((key, value) for key, value in state.items() if isinstance(value, wanted))
        return
    members = state.get(group)
    if isinstance(members, dict):
        yield from members.items()


def _names(value: object) -> set[Any]:
    return value if isinstance(value, set) else set()


def _plain(value: object) -> Any:
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(v, int) for v in value):
        return list(value)
    return None
