"""Other projects' own modules, installed: their state dicts through the map, bit-equal."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
import transformers
from manifests import document, load, shapes_of

from resnetkit.checkpoints.checkpoint import Reading
from resnetkit.checkpoints.recognition import read
from resnetkit.errors import InputError
from resnetkit.nn.resnet import ResNet
from running_statistics import draw_statistics

# -------------------------------------------------------------------------------------- peers


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    draw_statistics(model)
    return model.eval()


def state_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def through(reading: Reading, state: dict[str, np.ndarray]) -> ResNet:
    module = ResNet(reading.network).eval()
    load(module, reading.to_ours(state))
    written = reading.dialect.write(reading.network, reading.to_ours(state))
    assert set(written) == set(state)
    return module


IMAGE = torch.randn(2, 3, 97, 129, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet26d", "resnet14t", "seresnet18", "seresnext26t_32x4d"]
)
def test_timm(name: str) -> None:
    model = randomised(timm.create_model(name, num_classes=11))
    reading = read({k: v.shape for k, v in state_of(model).items()})
    assert reading.network.name == name
    assert "timm" in (reading.dialect.name, *reading.also)
    with torch.inference_mode():
        assert torch.equal(through(reading, state_of(model))(IMAGE), model(IMAGE))


SMALL = {"embedding_size": 16, "hidden_sizes": [32, 64, 128], "depths": [1, 2, 1], "num_labels": 5}


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("early", [False, True])
def test_transformers(kind: str, early: bool) -> None:
    config = transformers.ResNetConfig(layer_type=kind, downsample_in_bottleneck=early, **SMALL)
    model = randomised(transformers.ResNetForImageClassification(config))
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    reading = read(shapes, config=config.to_dict())
    assert reading.dialect.name == "transformers"
    assert reading.network.options.depths == (1, 2, 1)
    if kind == "bottleneck":
        assert reading.known["stride_on"] == "the configuration"
        assert reading.network.options.stride_on == ("1x1" if early else "3x3")
    module = through(reading, state_of(model))
    with torch.inference_mode():
        expected = model(pixel_values=IMAGE).logits
        assert (module(IMAGE) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_transformers_without_a_head() -> None:
    config = transformers.ResNetConfig(**SMALL)
    for kind in (transformers.ResNetModel, transformers.ResNetBackbone):
        model = randomised(kind(config))
        reading = read({k: tuple(v.shape) for k, v in model.state_dict().items()})
        assert (reading.dialect.name, reading.head) == ("transformers", "none")
        module = ResNet(reading.network).eval()
        load(module, reading.to_ours(state_of(model)))
        with torch.inference_mode():
            out = model(pixel_values=IMAGE)
            expected = out.feature_maps[-1] if "feature_maps" in out else out.last_hidden_state
            actual = module.forward_features(IMAGE)
        assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_configuration_of_another_network_is_refused() -> None:
    config = document("transformers-resnet18")["config"]
    with pytest.raises(InputError, match=r"the configuration has .*, but the tensors have"):
        read(shapes_of("transformers-resnet50"), config=config)
    with pytest.raises(InputError, match="the configuration is of 'bert'"):
        read(shapes_of("transformers-resnet50"), config={"model_type": "bert"})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "ours", "size"),
    [
        ("resnet18", "resnet18", 224),
        ("resnetbc14b", "custom", 224),
        ("resnet50", "resnet50_v1", 224),
        ("resnext26_32x4d", "custom", 224),
        ("seresnet18", "seresnet18", 224),
        ("resnet20_cifar10", "custom", 32),
    ],
)
def test_pytorchcv(name: str, ours: str, size: int) -> None:
    provider = importlib.import_module("pytorchcv.model_provider")
    model = randomised(provider.get_model(name))
    reading = read({k: tuple(v.shape) for k, v in model.state_dict().items()})
    assert (reading.dialect.name, reading.prefix) == ("pytorchcv", "")
    if name == "resnetbc14b":
        reading = reading.settle(stride_on="3x3")
    assert reading.network.name == ours
    module = through(reading, state_of(model))
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(image)
        assert (module(image) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_recognising_loads_neither_torch_nor_numpy() -> None:
    check = (
        "import sys; from resnetkit.checkpoints.recognition import read\n"
        "from resnetkit.architecture.parameters import tensors\n"
        "from resnetkit.architecture import registry\n"
        "assert read(tensors(registry.network('resnet50'))).network.name == 'resnet50'\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
