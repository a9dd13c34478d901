"""Recipes with defaults for the given data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.architecture import registry
from resnetkit.architecture.network import Network
from resnetkit.bundle.bundle import Bundle
from resnetkit.data.datasets import digits
from resnetkit.data.datasets.dataset import DIGITS, IN_MEMORY, Dataset, labels_of
from resnetkit.data.datasets.idx import idx_files
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import held_back
from resnetkit.data.storage import is_address
from resnetkit.errors import InputError
from resnetkit.inference.engines.torch import device_named
from resnetkit.preprocess import Preprocess
from resnetkit.training.batch_size_finder import BatchSizeResult, find_batch_size
from resnetkit.training.recipe.augmentation import NAMES as AUGMENT
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.published import QUICK, Preset, named
from resnetkit.training.recipe.recipe import AUTO, SUBJECT, Recipe

#: The default networks of small images and of others.
SMALL_MODEL, MODEL = "resnet20", "resnet18"
#: Mean and standard deviation of the digits' training pixels, 0 to 1.
_DIGITS_MEAN, _DIGITS_STD = (0.305,), (0.377,)


def usual_model(data: str | Path) -> str:
    """The name of the default network."""
    small = str(data) == DIGITS or (not is_address(data) and idx_files(Path(data)))
    return SMALL_MODEL if small else MODEL


def make_recipe(
    data: str | Path | Dataset = DIGITS,
    model: str | Network | None = None,
    *,
    pretrained: Bundle | None = None,
    recipe: str | Path | None = None,
    size: int | None = None,
    augment: bool = True,
    device: str | None = None,
    fitted: Callable[[BatchSizeResult], None] = lambda _: None,
    **choices: Any,
) -> Recipe:
    """The recipe to train ``model`` on ``data``; ``choices`` are fields of ``Recipe`` or
    ``Augment`` to change.

    ``recipe`` is a name of ``RECIPES`` or a TOML file with some or all fields. The default,
    ``quick``, depends on the data: ``digits`` is trained with ``resnet20`` at 16x16 pixels, grey,
    shifted by a pixel; a folder with ``resnet18`` at its default size, cropped and flipped.
    ``pretrained`` is fine-tuned with its own preprocessing, for fewer epochs and at a tenth of the
    learning rate. Choices that are None get defaults. ``batch_size="auto"`` is measured on this
    machine (``find_batch_size``), and ``fitted`` is called with the result. Raises ``ValueError``
    for unusable data, networks or choices.
    """
    base = named(QUICK if recipe is None else recipe)
    source = data if isinstance(data, Dataset) else open_dataset(data)
    given = {name: value for name, value in choices.items() if value is not None}

    def made() -> Recipe:
        try:
            return _planned(source, model, pretrained, base, size, augment, device, dict(given))
        except (TypeError, KeyError, AttributeError) as error:
            if not isinstance(base, dict):
                raise
            raise InputError(f"{recipe} is not a training recipe: {error}") from None

    if given.get("batch_size") != AUTO:
        return made()
    del given["batch_size"]
    usual = made()
    outcome = find_batch_size(usual, _trained_on(source, usual))
    fitted(outcome)
    given["batch_size"] = outcome.batch
    return made()


def _trained_on(source: Dataset, recipe: Recipe) -> int:
    """The approximate number of training images."""
    held = 0.0 if "validation" in source.parts else recipe.images.validation
    if source.flat:
        held += recipe.images.test
    return round(len(source.flat or source.parts.get("train", ())) * (1 - held))


def _planned(
    source: Dataset,
    model: str | Network | None,
    pretrained: Bundle | None,
    base: Preset | dict[str, Any] | None,
    size: int | None,
    augment: bool,
    device: str | None,
    given: dict[str, Any],
) -> Recipe:
    if pretrained is not None and model is not None:
        raise InputError(
            "pretrained determines the network; leave model out",
            field=("pretrained", "model"),
        )
    if isinstance(base, dict) and "network" in base and model is None and pretrained is None:
        model = Network.from_dict(base["network"])
    usual_for = _for_digits if source.name == DIGITS else _for_folder
    if source.shape is not None:
        usual_for = _for_arrays
    if pretrained is None:
        usual = usual_for(source, model, size, given)
    else:
        usual = usual_for(source, pretrained.network, size, given)
        usual |= _further(usual, pretrained, size, given)
    if isinstance(base, Preset):
        usual |= _published(base, usual, given, source, prepared=pretrained is not None)
    elif base is not None:
        usual |= _written(base, usual, size, source)
    changed = {name: given.pop(name) for name in AUGMENT if name in given}
    if changed:
        usual["augment"] = replace(usual["augment"], **changed)
    planned = _recipe(usual, given)
    if not augment:
        planned = replace(planned, augment=Augment())
    return planned.override(device=device_named(device))


def _published(
    base: Preset, usual: dict[str, Any], given: dict[str, Any], source: Dataset, *, prepared: bool
) -> dict[str, Any]:
    """The fields set by ``base``: its values, sizes and learning rate.

    Its batch is halved until an epoch has eight. The learning rate of SGD is proportional to the
    batch (Goyal et al. 2017, arXiv:1706.02677), that of AdamW and LAMB to its square root (You et
    al. 2019, arXiv:1904.00962).
    """
    values, count = dict(base.values), len(source.parts.get("train", source.flat))
    batch = reference = values["batch_size"]
    while batch > 4 and 8 * batch > count:
        batch //= 2
    values["batch_size"] = given.get("batch_size", batch)
    share = values["batch_size"] / reference
    values["lr"] *= share if values.get("optimizer", "sgd") == "sgd" else math.sqrt(share)
    size = usual["preprocess"].size
    if base.trained != 1:
        values["train_size"] = round(size * base.trained)
    if base.first is not None:
        values["start_size"] = round(size * base.first)
    if not prepared:
        values["preprocess"] = replace(
            usual["preprocess"],
            resize_to=round(size * base.shown),
            interpolation=base.interpolation,
        )
    return {**values, "augment": Augment(**base.augment)}


def _written(
    document: dict[str, Any], usual: dict[str, Any], size: int | None, source: Dataset
) -> dict[str, Any]:
    """The fields set by a file, except for its data and network."""
    values = {k: v for k, v in document.items() if k not in SUBJECT}
    if source.name == DIGITS:
        # The split is fixed.
        values = {k: v for k, v in values.items() if k not in ("validation", "test")}
    if "augment" in document:
        values["augment"] = Augment.from_dict({**usual["augment"].to_dict(), **document["augment"]})
    if "preprocess" in document and size is None:
        prepared = Preprocess.from_dict(document["preprocess"])
        # Other data may have another number of channels.
        if prepared.channel_count == usual["network"].options.in_chans:
            values["preprocess"] = prepared
            values["network"] = replace(usual["network"], input_size=prepared.size)
    return values


def _for_digits(
    source: Dataset, model: str | Network | None, size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    for name in ("validation", "test"):
        if name in given:
            raise InputError(f"{DIGITS} has a fixed split; leave {name} out", field=name)
    network = _fitted(model or usual_model(DIGITS), source, channels=1)
    # ImageNet networks have stride 32, so they require 32 pixels.
    if size is None:
        size = 16 if network.options.natural_stride <= 8 else 32
    return {
        "data": DIGITS,
        "network": replace(network, input_size=size),
        "preprocess": Preprocess(size=size, channels="L", mean=_DIGITS_MEAN, std=_DIGITS_STD),
        "augment": Augment(shift=max(1, size // 16)),
        "epochs": 20,
        "batch_size": given.get("batch_size", 64),
        "lr": _scaled(0.1, given.get("batch_size", 64)),
        "validation": digits.VALIDATION,
        "test": digits.TEST,
    }


def _for_folder(
    source: Dataset, model: str | Network | None, size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    network = _fitted(model or usual_model(source.name), source, channels=3)
    size = network.input_size if size is None else size
    # About eight steps per epoch, so that the norms' statistics keep up with the weights.
    count = len(source.parts.get("train", source.flat))
    least = max(1, min(4, _few_left(source, given)))
    batch_size = given.get("batch_size") or next((n for n in (32, 16, 8) if 8 * n <= count), least)
    return {
        "data": _place_of(source),
        "network": replace(network, input_size=size),
        "preprocess": Preprocess(size=size, resize_to=size * 8 // 7),
        "augment": Augment(flip=True, crop=0.35),
        "epochs": 30,
        "batch_size": batch_size,
        "lr": _scaled(0.1, batch_size),
    }


def _few_left(source: Dataset, given: dict[str, Any]) -> int:
    """The number of training images of a small source."""
    validation = 0.0 if "validation" in source.parts else given.get("validation", 0.15)
    shares = (validation, given.get("test", 0.15) if source.flat else 0.0)
    counts = np.bincount(labels_of(source.flat or source.parts.get("train", ())))
    return int(sum(max(1, count - sum(held_back(int(count), *shares))) for count in counts))


def _for_arrays(
    source: Dataset, model: str | Network | None, size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Small images of one shape, e.g. MNIST: unscaled, with their own mean and deviation."""
    assert source.shape is not None
    channels, *sides = source.shape
    network = _fitted(model or SMALL_MODEL, source, channels=channels)
    size = max(sides) if size is None else size
    # A few thousand images give two digits of a mean.
    pixels = np.stack([np.asarray(e.image) for e in source.examples[:10_000]]) / 255.0
    return {
        "data": _place_of(source),
        "network": replace(network, input_size=size),
        "preprocess": Preprocess(
            size=size,
            # No part of such an image is cropped.
            resize="shortest" if sides[0] == sides[1] else "squash",
            channels="L" if channels == 1 else "RGB",
            mean=(round(float(pixels.mean()), 4),) * channels,
            std=(round(float(pixels.std()), 4) or 1.0,) * channels,
        ),
        "augment": Augment(shift=max(1, size // 14)),
        "epochs": 20,
        "batch_size": given.get("batch_size", 64),
        "lr": _scaled(0.1, given.get("batch_size", 64)),
    }


def _place_of(source: Dataset) -> str:
    if source.name == IN_MEMORY or is_address(source.name):
        return source.name
    return str(Path(source.name).resolve())


def _further(
    usual: dict[str, Any], pretrained: Bundle, size: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Defaults for fine-tuning: the preprocessing of ``pretrained``, fewer and smaller steps."""
    used_to = pretrained.preprocess
    size = used_to.size if size is None else size
    channels = pretrained.network.options.in_chans
    return {
        "network": replace(usual["network"].override(in_chans=channels), input_size=size),
        "preprocess": replace(
            used_to,
            size=size,
            resize_to=used_to.resize_to and used_to.resize_to * size // used_to.size,
        ),
        "epochs": 10,
        "lr": _scaled(0.01, given.get("batch_size", usual["batch_size"])),
        "pretrained": pretrained.network.name,
    }


def _scaled(lr: float, batch_size: int) -> float:
    """Scale ``lr`` for batches of 64 to smaller ones."""
    return lr * min(64, max(1, batch_size)) / 64


def _fitted(model: str | Network, source: Dataset, *, channels: int) -> Network:
    return registry.network(model, num_classes=len(source.classes), in_chans=channels)


def _recipe(usual: dict[str, Any], given: dict[str, Any]) -> Recipe:
    epochs = given.get("epochs", usual["epochs"])
    if isinstance(epochs, int):
        usual["warmup"] = min(usual.get("warmup", 2.0), epochs / 5)
    if given.get("schedule", "step") != "step":
        # Those of the recipe belong to its own schedule.
        usual["milestones"] = ()
    return Recipe.of(**{**usual, **given})
