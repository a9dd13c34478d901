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

if TYPE_CHECKING:
    from resnetkit.architecture.catalog import catalog, network
    from resnetkit.architecture.network import Network
    from resnetkit.architecture.table import explain
    from resnetkit.bundle import Bundle
    from resnetkit.errors import InputError
    from resnetkit.fetching.fetch import fetch
    from resnetkit.loading import load
    from resnetkit.module.build import build
    from resnetkit.preprocess import Preprocess

__version__ = "0.1.0"
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
    "Bundle": "resnetkit.bundle",
    "InputError": "resnetkit.errors",
    "Network": "resnetkit.architecture.network",
    "Preprocess": "resnetkit.preprocess",
    "build": "resnetkit.module.build",
    "catalog": "resnetkit.architecture.catalog",
    "explain": "resnetkit.architecture.table",
    "fetch": "resnetkit.fetching.fetch",
    "load": "resnetkit.loading",
    "network": "resnetkit.architecture.catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resnetkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
