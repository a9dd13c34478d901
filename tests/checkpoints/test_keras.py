"""Keras itself: what it saves is read, and what is written it loads, with equal logits."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from manifests import document

import resnetkit
from resnetkit.checkpoints.dialects.keras import ordered, path
from resnetkit.checkpoints.identification import identify
from resnetkit.errors import InputError
from resnetkit.formats import hdf5_writer
from resnetkit.formats.opening import open_container
from resnetkit.hub.conversion import convert
from resnetkit.hub.source_framework import verify
from resnetkit.hub.weights import load

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras'
SIZE = 64
SPELLINGS = {"keras-h5": "a.h5", "keras-h5-tf": "a.hdf5", "keras-weights": "a.weights.h5"}


@pytest.fixture(scope="module")
def code() -> ModuleType:
    """The applications' own builder, on the torch backend."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("keras.src.applications.resnet")


def stages(code: ModuleType) -> Callable[[Any], Any]:
    def stack(x: Any) -> Any:
        for number, (width, depth) in enumerate([(8, 2), (8, 1), (16, 1)]):
            stride = 2 if number else 1
            x = code.stack_residual_blocks_v1(x, width, depth, stride, name=f"conv{number + 2}")
        return x

    return stack


def filled(model: Any) -> Any:
    """Numbers that are not fresh; variances so small that the epsilon shows."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        name, shape = variable.path, variable.shape
        if name.endswith(("gamma", "moving_variance")):
            value = random.uniform(0.5, 1.5, shape)
            value *= 1e-5 if name.endswith("variance") else 2**-7
        else:
            value = random.normal(0, (2 / max(1, np.prod(shape[:-1]))) ** 0.5 / 2, shape)
        variable.assign(value.astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model(code: ModuleType) -> Any:
    shape = (SIZE, SIZE, 3)
    return filled(
        code.ResNet(
            *(stages(code), False, True),
            weights=None,
            classes=7,
            input_shape=shape,
            classifier_activation=None,
        )
    )


def logits(model: Any, size: int = SIZE) -> torch.Tensor:
    return model(image(size).permute(0, 2, 3, 1).numpy(), training=False).detach()


def image(size: int = SIZE) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def difference(bundle: resnetkit.Bundle, expected: torch.Tensor, size: int = SIZE) -> float:
    """Relative to the largest logit."""
    with torch.inference_mode():
        answer = bundle.module()(image(size)).flatten(1)
    return float((answer - expected).abs().max() / expected.abs().max())


def save(model: Any, path: Path) -> None:
    """The four files that Keras writes; its warning about the legacy one is not ours."""
    if path.name == "legacy.h5":
        legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
        with h5py.File(path, "w") as file:
            legacy.save_weights_to_hdf5_group(file, model)
    elif path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)


FILES = {
    "whole.keras": "keras-weights",
    "numbered.weights.h5": "keras-weights",
    "whole.h5": "keras-h5",
    "legacy.h5": "keras-h5",
}


@pytest.mark.parametrize("name", FILES)
def test_what_keras_saves_is_read(name: str, model: Any, tmp_path: Path) -> None:
    file = tmp_path / name
    save(model, file)
    expected = logits(model)
    bundle = load(file, preprocess="keras.applications")  # else nothing is open
    assert bundle.origin["dialect"] == FILES[name]
    assert difference(bundle, expected) <= 1e-5
    network = bundle.network.override(norm_epsilon=1e-5)
    assert difference(replace(bundle, network=network), expected) > 1e-4


@pytest.fixture(scope="module")
def bundle(model: Any, tmp_path_factory: pytest.TempPathFactory) -> resnetkit.Bundle:
    file = tmp_path_factory.mktemp("keras") / "source.weights.h5"
    save(model, file)
    return small(load(file))


@pytest.mark.parametrize(("to", "name"), SPELLINGS.items())
def test_what_is_written_keras_loads(
    to: str, name: str, model: Any, bundle: resnetkit.Bundle, tmp_path: Path
) -> None:
    expected = logits(model)
    done = convert(bundle, tmp_path / name, to=to)
    assert done.difference == 0 < done.largest
    values = [variable.numpy() for variable in model.variables]
    for variable in model.variables:
        variable.assign(np.full(variable.shape, 3, np.float32))
    model.load_weights(tmp_path / name)
    for variable, value in zip(model.variables, values, strict=True):
        assert variable.numpy().tobytes() == value.tobytes(), variable.path
    assert torch.equal(logits(model), expected)
    assert identify(tmp_path / name).reading.dialect.name == to
    with h5py.File(tmp_path / name) as file:
        assert json.loads(file.attrs["origin"])["proof"]["difference"] == 0


def small(bundle: resnetkit.Bundle) -> resnetkit.Bundle:
    return replace(bundle, preprocess=replace(bundle.preprocess, size=SIZE))


def test_a_backbone(code: ModuleType, tmp_path: Path) -> None:
    shape = (SIZE, SIZE, 3)
    given = {"weights": None, "input_shape": shape, "include_top": False, "pooling": "avg"}
    theirs = filled(code.ResNet(stages(code), False, True, **given))
    expected = logits(theirs)
    theirs.save_weights(tmp_path / "a.weights.h5")
    bundle = small(load(tmp_path / "a.weights.h5"))
    assert bundle.network.options.num_classes is None
    assert difference(bundle, expected) <= 1e-5
    convert(bundle, tmp_path / "b.h5", to="keras-h5")
    other = filled(code.ResNet(stages(code), False, True, **given))
    for variable in other.variables:
        variable.assign(np.ones(variable.shape, np.float32))
    other.load_weights(tmp_path / "b.h5")
    assert torch.equal(logits(other), expected)


def test_the_source_framework_agrees(model: Any, bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    for name in ("whole.keras", "legacy.h5"):
        save(model, tmp_path / name)
        found = verify(tmp_path / name, bundle)
        assert found.framework.startswith("keras 3.")
        assert found.found.relative <= 1e-5
    convert(bundle, tmp_path / "paths.safetensors", to="keras")
    with pytest.raises(InputError, match=r"load_weights requires a \.h5"):
        verify(tmp_path / "paths.safetensors", bundle)


@pytest.mark.slow
def test_the_applications_resnet50(code: ModuleType, tmp_path: Path) -> None:
    theirs = filled(code.ResNet50(weights=None, classifier_activation=None))
    expected = logits(theirs, 224)
    for name in FILES:
        save(theirs, tmp_path / name)
        bundle = load(tmp_path / name)
        assert bundle.network.name == "resnet50_keras"
        assert difference(bundle, expected, 224) <= 1e-5
    for to, name in SPELLINGS.items():
        convert(bundle, tmp_path / name, to=to)
        for variable in theirs.variables:
            variable.assign(np.zeros(variable.shape, np.float32))
        theirs.load_weights(tmp_path / name)
        assert torch.equal(logits(theirs, 224), expected)


# --------------------------------------------------------------------------- without Keras


def keras_bundle() -> resnetkit.Bundle:
    options = {"depths": (1, 1), "widths": (8, 8), "num_classes": 3}
    module = resnetkit.build("resnet50_keras", **options)
    return resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=32))


def test_layers_stand_in_the_order_of_the_manifest() -> None:
    told = [layer for layer, _ in document("keras-resnet50")["weights_h5"]["groups"]]
    network = resnetkit.network("resnet50_keras")
    found = [
        "predictions" if place.part == "head" else path(place)
        for place in ordered(network).values()
    ]
    assert found == told


@pytest.mark.parametrize(
    ("to", "name", "reason"),
    [
        ("keras-h5", "a.weights.h5", r"'\.weights\.h5'; keras-h5 requires \.h5, \.hdf5"),
        ("keras-h5-tf", "a.safetensors", r"keras-h5-tf requires \.h5, \.hdf5"),
        ("keras-weights", "a.h5", r"keras-weights requires \.weights\.h5"),
        ("keras", "a.h5", r"keras requires \.safetensors, \.pth, \.pt, \.pkl"),
        ("keras", "a.keras", r"a Keras model.s configuration.*keras-weights.*keras-h5"),
        ("resnetkit", "a.h5", r"resnetkit requires \.safetensors, "),
    ],
)
def test_an_ending_has_a_meaning(to: str, name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        convert(keras_bundle(), tmp_path / name, to=to)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_only_where_keras_reads_it(tmp_path: Path) -> None:
    bundle = keras_bundle()
    arrays = {k: v.bfloat16() if v.is_floating_point() else v for k, v in bundle.arrays.items()}
    bundle = replace(bundle, arrays=arrays)
    with pytest.raises(InputError, match=r"bfloat16, which a \.h5 file cannot hold.*weights\.h5"):
        convert(bundle, tmp_path / "a.h5", to="keras-h5")
    with pytest.raises(InputError, match=r"bfloat16, which a \.pkl file cannot hold"):
        convert(bundle, tmp_path / "a.pkl", to="keras")
    assert list(tmp_path.iterdir()) == []
    convert(bundle, tmp_path / "a.weights.h5", to="keras-weights")
    again = load(tmp_path / "a.weights.h5", dtype=None)
    assert torch.equal(again.arrays["fc.weight"], arrays["fc.weight"])
    assert again.arrays["fc.weight"].dtype is torch.bfloat16


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'resnetkit\[keras\]'"):
        convert(keras_bundle(), tmp_path / "a.h5", to="keras-h5")


def test_lists_too_long_for_an_attribute_are_split(tmp_path: Path) -> None:
    """As Keras splits and joins them: ``names0``, ``names1``, ..."""
    names = [f"a_rather_long_name_of_a_layer_{number}" for number in range(4000)]
    arrays = {"x/y": np.arange(3.0)}
    hdf5_writer.write(tmp_path / "a.h5", arrays, {"": {"names": names}, "x": {"short": ["y"]}})
    with h5py.File(tmp_path / "a.h5") as file:
        assert "names" not in file.attrs
        parts = [file.attrs[f"names{number}"] for number in range(len(file.attrs))]
        assert len(parts) > 1
        assert [part.decode() for chunk in parts for part in chunk] == names
        assert list(file["x"].attrs["short"]) == [b"y"]
    assert np.array_equal(open_container(tmp_path / "a.h5").read("x/y"), arrays["x/y"])


def test_keras_is_imported_for_verifying_only() -> None:
    for file in Path(resnetkit.__file__).parent.rglob("*.py"):
        text = file.read_text()
        assert not re.search(r"^\s*import keras", text, re.MULTILINE), file
        assert "from keras" not in text, file
        assert ('import_module("keras' in text) == (file.name == "source_framework.py"), file
