"""resnetkit: every ResNet, exactly - see it, train it, classify with it.

    network(name, **options) -> Network            a description; needs no torch
    catalog() -> tuple[Entry, ...]                 every named network; needs no torch
    explain(name_or_network, input=473)            rows and totals; prints as the table; no torch
    build(name_or_network, **options)              the torch module; `.network` is its description
    Bundle.from_module(module, preprocess=..., classes=...), bundle.save(path)
    load(path, strict=False, stride_on=...)        a bundle, or a checkpoint of any framework
                                               .module() .network .preprocess .classes
    bundle.save(path, dialect="timm")              another framework's file, proved
    fetch(source)                              a bundle of published weights, e.g. of
                                               "torchvision:resnet50", "hf:microsoft/resnet-50"
    bundle.predict(images, top=5)                  ranked classes

Each name is imported when it is first used, so that describing a network loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from resnetkit.version import __version__ as __version__

if TYPE_CHECKING:
    from resnetkit.architecture.explanation import explain
    from resnetkit.architecture.network import Network
    from resnetkit.architecture.registry import catalog, network
    from resnetkit.bundle.bundle import Bundle
    from resnetkit.errors import InputError
    from resnetkit.hub.fetching import fetch
    from resnetkit.hub.loading import load
    from resnetkit.nn.resnet import build
    from resnetkit.preprocess import Preprocess

__all__ = [
    "Bundle",
    "InputError",
    "Network",
    "Preprocess",
    "build",
    "catalog",
    "explain",
    "fetch",
    "load",
    "network",
]

_HOMES = {
    "Bundle": "resnetkit.bundle.bundle",
    "InputError": "resnetkit.errors",
    "Network": "resnetkit.architecture.network",
    "Preprocess": "resnetkit.preprocess",
    "build": "resnetkit.nn.resnet",
    "catalog": "resnetkit.architecture.registry",
    "explain": "resnetkit.architecture.explanation",
    "fetch": "resnetkit.hub.fetching",
    "load": "resnetkit.hub.loading",
    "network": "resnetkit.architecture.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resnetkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
