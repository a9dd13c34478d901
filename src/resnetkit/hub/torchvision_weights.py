"""torchvision's published weights: URLs, preprocessing, classes.

All of it is read from the installed torchvision (``torchvision.models.get_model_weights``).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from resnetkit.checkpoints.config_json import distinct
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

#: The digits of a SHA-256 in a file's name, as in ``resnet18-f37072fd.pth`` (torch.hub).
_DIGITS = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One weight set: ``label`` is its name in torchvision, ``url`` its file."""

    network: str
    label: str
    url: str
    preprocess: Preprocess
    classes: tuple[str, ...]


def published(name: str, label: str | None = None) -> Published:
    """The weight set ``label`` of torchvision's network ``name``, or its default.

    Raises ``InputError`` for unknown names, with the nearest name and all weight sets.
    """
    from torchvision import models

    resnets = networks()
    if name not in resnets:
        near = difflib.get_close_matches(name, resnets, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"torchvision has no ResNet {name!r}; {hint}it has {', '.join(resnets)}")
    sets = models.get_model_weights(name)
    if label is None:
        chosen = sets["DEFAULT"]
    elif label in sets.__members__:
        chosen = sets[label]
    else:
        labels = [weights.name for weights in sets]
        near = difflib.get_close_matches(label.upper(), labels, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"torchvision's {name} has no weights {label!r}; {hint}it has {', '.join(labels)}"
        )
    return Published(
        network=name,
        label=chosen.name,
        url=chosen.url,
        preprocess=_preprocess(chosen.transforms()),
        classes=distinct(chosen.meta["categories"]),
    )


def networks() -> tuple[str, ...]:
    """torchvision's networks whose code is its ``resnet.py``: ResNet, ResNeXt, Wide ResNet."""
    from torchvision import models

    return tuple(
        name
        for name in models.list_models(module=models)
        if models.get_model_builder(name).__module__ == models.resnet.__name__
    )


def imagenet() -> tuple[str, ...]:
    """torchvision's names of ImageNet's 1000 classes."""
    return published("resnet50").classes


def digits(url: str) -> str | None:
    """The first digits of the SHA-256 in a file's name, or None."""
    found = _DIGITS.search(urlsplit(url).path)
    return found[1] if found else None


def _preprocess(preset: Any) -> Preprocess:
    """The preprocessing of torchvision's ``ImageClassification``."""
    return Preprocess(
        size=preset.crop_size[0],
        resize_to=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
