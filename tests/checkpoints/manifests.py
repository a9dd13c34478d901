"""The reference manifests, and how arrays get into a module."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch

from resnetkit.nn.resnet import ResNet

REFERENCE = Path(__file__).parents[1] / "reference"


@functools.cache
def document(manifest: str) -> dict:
    return json.loads((REFERENCE / f"{manifest}.json").read_text())


def shapes_of(manifest: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in document(manifest)["keys"]}


def load(module: ResNet, arrays: dict[str, np.ndarray]) -> None:
    state = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    module.load_state_dict(state)
