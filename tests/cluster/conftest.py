"""A small network, and pictures of which some are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import resnetkit
from cluster_pictures import BROKEN, COUNT


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    module = resnetkit.build("resnet20", num_classes=10).eval()
    facts = resnetkit.Preprocess(size=32)
    resnetkit.Bundle.from_module(module, preprocess=facts, classes=tuple(map(str, range(10)))).save(
        path
    )
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / f"{number % 3}" / f"{number:04}.png"
        path.parent.mkdir(exist_ok=True)
        if number in BROKEN:
            path.write_bytes(b"no picture")
        else:
            PIL.Image.fromarray(noise.integers(0, 256, (40, 36, 3), np.uint8)).save(path)
    return folder
