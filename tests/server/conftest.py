"""A small network that is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import resnetkit

CLASSES = ("cat", "dog", "owl", "emu")


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = resnetkit.build("resnet20", num_classes=len(CLASSES)).eval()
    bundle = resnetkit.Bundle.from_module(
        module, preprocess=resnetkit.Preprocess(size=32, resize_to=36), classes=CLASSES
    )
    path = tmp_path_factory.mktemp("served") / "animals.safetensors"
    bundle.save(path)
    return path


@pytest.fixture(scope="session")
def served(bundle_file: Path) -> Iterator[Any]:
    """A server of the Open Inference Protocol with its clients."""
    from inference_clients import protocol_serving

    with protocol_serving(bundle_file) as found:
        yield found
