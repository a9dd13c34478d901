"""Normalizes tensor names before they are matched."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from resnetkit.formats.opening import Container

#: Wrappers of single modules, anywhere in a name (torch.compile, FSDP, checkpointing).
INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: Other spellings of Caffe2's norm names.
_CAFFE2 = (
    (re.compile(r"_bn_gamma$"), "_bn_s"),
    (re.compile(r"_bn_beta$"), "_bn_b"),
    (re.compile(r"_bn_running_mean$"), "_bn_rm"),
    (re.compile(r"_bn_running_(inv_)?var$"), "_bn_riv"),
    (re.compile(r"(^|[./])conv1_bn_"), r"\1res_conv1_bn_"),
)
_FIRST = re.compile(r"(^|[./])res2_0_branch2a_w$")
_BIAS = re.compile(r"((^|[./])(conv1|res\d_\d+_branch\w+))_b$")


def respelled(container: Container) -> tuple[Container, tuple[str, ...]]:
    """The container with normalised names, and messages about it."""
    notes: list[str] = []
    if any(_FIRST.search(name) for name in container.arrays):
        container = _renamed(container, _caffe2) or container
        container, dropped = _without_zeros(container)
        if dropped:
            notes.append(f"{dropped} biases of convolutions are all 0 and are dropped")
    return container, tuple(notes)


def without_inner_wrappers(container: Container) -> Container | None:
    """The container without wrappers of single modules in names; None if there are none."""
    return _renamed(container, _peeled)


def _peeled(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in INNER)


def _caffe2(name: str) -> str:
    for sign, usual in _CAFFE2:
        name = sign.sub(usual, name)
    return name


def _without_zeros(container: Container) -> tuple[Container, int]:
    """Drop the biases of convolutions with a norm, if all of them are 0."""
    biases = [
        name
        for name in container.arrays
        if (match := _BIAS.search(name)) and f"{name[:-2]}_w" in container.arrays and match
    ]
    if not biases or any(container.read(name).any() for name in biases):
        return container, 0
    kept = {name: info for name, info in container.arrays.items() if name not in biases}
    return replace(container, arrays=kept), len(biases)


def _renamed(container: Container, rename: Callable[[str], str]) -> Container | None:
    """The renamed container; None if names would collide, or none changes."""
    names: Mapping[str, str] = {rename(name): name for name in container.arrays}
    if len(names) < len(container.arrays) or all(new == old for new, old in names.items()):
        return None
    return replace(
        container,
        arrays={
            new: replace(container.arrays[old], path=tuple(new.split("/")))
            for new, old in names.items()
        },
        quantised=frozenset(new for new, old in names.items() if old in container.quantised),
        reader=lambda name: container.reader(names[name]),
    )
