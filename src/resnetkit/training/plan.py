"""A recipe with sensible choices for the data at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from resnetkit.architecture import catalog
from resnetkit.architecture.network import Network
from resnetkit.bundle import Bundle
from resnetkit.errors import InputError
from resnetkit.images import digits
from resnetkit.images.opening import open_source
from resnetkit.images.sources import DIGITS, Source
from resnetkit.prediction import device_named
from resnetkit.preprocess import Preprocess
from resnetkit.training.augment import Augment
from resnetkit.training.recipe import Recipe

#: Mean and standard deviation of the digits' training pixels, 0 to 1.
_DIGITS_MEAN, _DIGITS_STD = (0.305,), (0.377,)


def usual_model(data: str | Path) -> str:
    """The network that is trained where none is named."""
    return "resnet20" if str(data) == DIGITS else "resnet18"


def plan(
    data: str | Path = DIGITS,
    model: str | Network | None = None,
    *,
    start: Bundle | None = None,
    size: int | None = None,
    augment: bool = True,
    device: str | None = None,
    **choices: Any,
) -> Recipe:
    """The recipe to train ``model`` on ``data``; ``choices`` are fields of ``Recipe`` to change.

    ``digits`` is trained with ``resnet20`` at 16x16 pixels, grey, moved by a pixel; a folder with
    ``resnet18`` at the network's usual size, cropped and flipped. With ``start`` it is that
    bundle's network that is trained further, on images prepared as it has been used to, for fewer
    epochs and at a tenth of the learning rate. Choices that are None are made here. Raises
    ``ValueError`` for data, a network or a choice that cannot be used.
    """
    source = open_source(data)
    given = {name: value for name, value in choices.items() if value is not None}
    if start is not None and model is not None:
        raise InputError("the network to train further is that of --from; leave --model out")
    usual_for = _for_digits if source.name == DIGITS else _for_folder
    if start is None:
        usual = usual_for(source, model, size, given)
    else:
        usual = usual_for(source, start.network, size, given)
        usual |= _further(usual, start, size, given)
    recipe = _recipe(usual, given)
    if not augment:
        recipe = replace(recipe, augment=Augment())
    return replace(recipe, device=device_named(device))


def _for_digits(
    source: Source, model: str | Network | None, size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    for name in ("validation", "test"):
        if name in given:
            raise InputError(f"{DIGITS} has a fixed split; leave --{name} out")
    network = _fitted(model or usual_model(DIGITS), source, channels=1)
    # The ImageNet networks make 1/32 of the size; at 32 pixels something is left.
    if size is None:
        size = 16 if network.options.natural_stride <= 8 else 32
    return {
        "data": DIGITS,
        "network": replace(network, input_size=size),
        "preprocess": Preprocess(size=size, channels="L", mean=_DIGITS_MEAN, std=_DIGITS_STD),
        "augment": Augment(shift=max(1, size // 16)),
        "epochs": 20,
        "batch_size": 64,
        "lr": 0.1,
        "validation": digits.VALIDATION,
        "test": digits.TEST,
    }


def _for_folder(
    source: Source, model: str | Network | None, size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    network = _fitted(model or usual_model(source.name), source, channels=3)
    size = network.input_size if size is None else size
    # At least some eight steps an epoch, so that the norms' statistics keep up with the weights.
    count = len(source.parts.get("train", source.flat))
    batch_size = given.get("batch_size") or next((n for n in (32, 16, 8) if 8 * n <= count), 4)
    return {
        "data": str(Path(source.name).resolve()),
        "network": replace(network, input_size=size),
        "preprocess": Preprocess(size=size, resize_to=size * 8 // 7),
        "augment": Augment(flip=True, crop=0.35),
        "epochs": 30,
        "batch_size": batch_size,
        "lr": 0.1 * min(64, batch_size) / 64,
    }


def _further(
    usual: dict[str, Any], start: Bundle, size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    """What differs where ``start`` is trained further: its preprocessing, few and small steps."""
    used_to = start.preprocess
    size = used_to.size if size is None else size
    channels = start.network.options.input_channels
    return {
        "network": replace(usual["network"].override(input_channels=channels), input_size=size),
        "preprocess": replace(
            used_to,
            size=size,
            resize_to=used_to.resize_to and used_to.resize_to * size // used_to.size,
        ),
        "epochs": 10,
        "lr": 0.01 * min(64, given.get("batch_size", usual["batch_size"])) / 64,
        "start": start.network.name,
    }


def _fitted(model: str | Network, source: Source, *, channels: int) -> Network:
    return catalog.network(model, classes=len(source.classes), input_channels=channels)


def _recipe(usual: dict[str, Any], given: dict[str, Any]) -> Recipe:
    epochs = given.get("epochs", usual["epochs"])
    if isinstance(epochs, int):
        usual["warmup"] = min(2.0, epochs / 5)
    try:
        return Recipe(**{**usual, **given})
    except TypeError as error:
        raise InputError(f"this is no choice of a recipe: {error}") from None
