"""Statistics of activations are those of all values at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import resnetkit
from inspected import bundle_of, hooked, photo
from photographs import write_classes
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.inspect import activation_statistics


def pictures(count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (40 + n, 50, 3), np.uint8) for n in range(count)]


@pytest.mark.parametrize("kind", ["basic", "squeeze-excitation", "cifar"])
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_they_are_those_of_all_values(kind: str, engine: str) -> None:
    bundle, images = bundle_of(kind), pictures(6)
    seen = [hooked(bundle, image) for image in images]
    found = activation_statistics(bundle, images, engine=engine)
    assert found.images == 6
    for row in found.rows:
        values = np.stack([one[row.path][-1] for one in seen]).astype(np.float64)
        assert row.channels == values.shape[1]
        assert row.mean == pytest.approx(values.mean(), rel=1e-4)
        assert row.std == pytest.approx(values.std(), rel=1e-4)
        assert row.zeros == pytest.approx((values == 0).mean(), abs=1e-3)
        assert row.dead == (values.max((0, 2, 3)) <= 0).sum()
        most = values.max((1, 2, 3), keepdims=True)
        assert row.saturated == pytest.approx((values >= 0.99 * most).mean(), abs=1e-3)
        assert row.non_finite == 0
        if row.kind != "block":
            assert row.ratio is None
            continue
        main, shortcut = (
            np.sqrt(np.square([one[f"{row.path}.add"][n] for one in seen]).mean()) for n in (0, 1)
        )
        assert row.main_rms == pytest.approx(main, rel=1e-4)
        assert row.shortcut_rms == pytest.approx(shortcut, rel=1e-4)
        assert row.ratio == pytest.approx(main / shortcut, rel=1e-4)


def test_its_rows() -> None:
    """Each block, and each activation layer but the last of a block, once."""
    found = activation_statistics(bundle_of("squeeze-excitation"), pictures(1))
    assert [row.path for row in found.rows[:6]] == [
        "relu", "layer1.0", "layer1.0.relu1", "layer1.0.se.relu", "layer1.0.se.gate", "layer1.1",
    ]  # fmt: skip
    assert {row.kind for row in found.rows} == {"block", "ReLU", "sigmoid"}
    assert found["layer1.0.se.gate"].zeros == 0
    with pytest.raises(KeyError):
        found["layer1.0.relu2"]


def test_dead_channels_and_saturation() -> None:
    module = bundle_of("basic").module()
    with torch.no_grad():
        module.get_parameter("layer1.0.bn1.weight")[:3] = 0
        module.get_parameter("layer1.0.bn1.bias")[:3] = -1
        module.get_parameter("layer2.0.bn1.weight")[:] = 0
        module.get_parameter("layer2.0.bn1.bias")[:] = 2
        module.get_parameter("layer3.0.bn2.weight")[:] = 0
        module.get_parameter("layer3.0.bn2.bias")[:] = 0
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=64))
    found = activation_statistics(bundle, pictures(2))
    assert found["layer1.0.relu1"].dead >= 3
    assert found["layer2.0.relu1"].saturated == 1
    assert found["layer3.0"].main_rms == pytest.approx(0, abs=1e-6)
    assert found["layer3.0"].ratio == pytest.approx(0, abs=1e-6)


def test_values_that_are_not_finite_are_counted() -> None:
    module = bundle_of("basic").module()
    with torch.no_grad():
        module.get_parameter("layer4.0.bn1.bias")[:8] = torch.inf
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=64))
    found = activation_statistics(bundle, pictures(5), engine="torch")
    row = found["layer4.0.relu1"]
    assert row.non_finite == pytest.approx(8 / 64)
    assert np.isfinite(row.mean)
    assert "! not finite: " in str(found)
    assert "layer4.0.relu1" in str(found)
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["rows"][0]["path"] == "relu"


def test_folders_lists_and_limits(tmp_path: Path) -> None:
    bundle = bundle_of("cifar")
    write_classes(tmp_path / "pictures", 3, classes=("brick", "coffee"))
    paths = sorted((tmp_path / "pictures").rglob("*.*g"))
    by_folder = activation_statistics(bundle, tmp_path / "pictures")
    by_list = activation_statistics(bundle, paths)
    in_memory = activation_statistics(bundle, [PIL.Image.open(path) for path in paths])
    assert by_folder == by_list == in_memory
    assert by_folder.images == 6
    assert activation_statistics(bundle, str(tmp_path / "pictures"), limit=2).images == 2
    assert activation_statistics(bundle, photo()).images == 1


def test_unreadable_images_are_said(tmp_path: Path) -> None:
    bundle = bundle_of("cifar")
    write_classes(tmp_path, 1, classes=("brick",))
    (tmp_path / "brick" / "broken.png").write_bytes(b"broken")
    with pytest.warns(AssumptionWarning, match="1 unreadable images were passed over: .*broken"):
        found = activation_statistics(bundle, tmp_path)
    assert found.images == 1
    assert found.problems[0][0].endswith("broken.png")
    assert "over 1 images, 1 unreadable" in str(found)
    with pytest.raises(InputError, match=r"no image could be read \(.*broken.png: "):
        activation_statistics(bundle, tmp_path / "brick" / "broken.png")
    with pytest.raises(InputError, match="no image could be read; give others"):
        activation_statistics(bundle, [])
    with pytest.raises(InputError, match="limit is 0"):
        activation_statistics(bundle, photo(), limit=0)
    with pytest.raises(InputError, match="nowhere does not exist"):
        activation_statistics(bundle, tmp_path / "nowhere")


def test_the_text_has_a_row_for_each() -> None:
    found = activation_statistics(bundle_of("cifar"), pictures(1))
    lines = str(found).splitlines()
    assert lines[0] == "resnet20: activations over 1 images"
    assert len(lines) == 4 + len(found.rows) + 3
    assert lines[2].split() == [
        "path", "kind", "mean", "std", "zeros", "dead", "saturated", "main", "shortcut", "ratio",
    ]  # fmt: skip
