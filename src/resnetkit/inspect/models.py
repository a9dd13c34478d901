"""What can be looked into: a bundle, its file, or a torch module of ours."""

from __future__ import annotations

import difflib
import operator
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from resnetkit.architecture.network import Network
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.opening import open_model
from resnetkit.errors import NO_CLASSES, AssumptionWarning, InputError
from resnetkit.preprocess import Preprocess

if TYPE_CHECKING:
    from resnetkit.nn.resnet import ResNet

#: A bundle, the path of one, or a module made by ``resnetkit.build``.
Model: TypeAlias = "Bundle | str | Path | ResNet"


def as_bundle(model: Model, *, pictures: bool = True) -> Bundle:
    """The bundle of a model. A module's weights are copied, and run in evaluation mode.

    Warns with ``AssumptionWarning`` that a module has no preprocessing, if it is for ``pictures``.
    Raises ``ValueError`` for an exported file, whose graph has its final output only, and for any
    other object.
    """
    if isinstance(model, Bundle):
        return model
    if isinstance(model, str | Path):
        opened = open_model(model)
        if not isinstance(opened, Bundle):
            raise InputError(
                f"{model} is an exported file, of which only the output is known; give the bundle "
                "that it was made from",
                field="model",
            )
        return opened
    if not is_module(model):
        raise InputError(
            f"model is a {type(model).__name__}; it must be a bundle, its path, or a module of "
            "resnetkit.build",
            field="model",
        )
    preprocess = _preprocess(model.network)
    if pictures and preprocess.channels != "other":
        warnings.warn(
            f"a module has no preprocessing: {preprocess.text} is assumed; give a bundle for "
            "another one",
            AssumptionWarning,
            stacklevel=3,
        )
    return Bundle.from_module(model, preprocess=preprocess)


def _preprocess(network: Network) -> Preprocess:
    """ImageNet's, in grey for one channel; none for other numbers of channels."""
    size, count = network.input_size, network.options.in_chans
    if count == 3:
        return Preprocess(size=size)
    if count == 1:
        return Preprocess(size=size, channels="L", mean=(0.449,), std=(0.226,))
    return Preprocess(size=size, channels="other", mean=(0.0,) * count, std=(1.0,) * count)


def is_module(model: object) -> bool:
    """Whether it has a torch module's weights and a description."""
    return hasattr(model, "state_dict") and isinstance(getattr(model, "network", None), Network)


def class_number(bundle: Bundle, target: Any) -> int:
    """The index of a class, given by its index or name.

    Raises ``ValueError`` for an unknown class, and suggests the nearest name.
    """
    classes = bundle.classes
    if not classes:
        raise InputError(f"{bundle.network.name} {NO_CLASSES}", field="target")
    if isinstance(target, str):
        if target in classes:
            return classes.index(target)
        raise InputError(
            f"target {target!r} is not a class; {hint(target, classes)}give the name of one of the "
            f"{len(classes)} classes, or its index",
            field="target",
        )
    try:
        number = operator.index(target)
    except TypeError:
        number = -1
    if not 0 <= number < len(classes):
        raise InputError(
            f"target is {target!r}; it must be a class name, or an index from 0 to "
            f"{len(classes) - 1}",
            field="target",
        )
    return number


def hint(given: str, known: Sequence[str]) -> str:
    """``did you mean ...? ``, or nothing."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}? " if near else ""


def check_count(name: str, value: int) -> None:
    """Raise ``InputError`` unless the value is a whole number from 1."""
    if type(value) is not int or value < 1:
        raise InputError(f"{name} is {value!r}; it must be a whole number from 1", field=name)
