"""Every kind of image as people see it, and every broken one by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from resnetkit.data.decoding.decode import UnreadableImageError, upright, whole
from resnetkit.data.decoding.tensors import to_input
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

UPRIGHT = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
#: How the pixels lie in a file of each EXIF orientation (JEITA CP-3451, tag 0x0112).
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT, 2).transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation])).save(path, exif=exif)
    assert np.array_equal(np.asarray(upright(path)), UPRIGHT)


def saved(picture: PIL.Image.Image, path: Path, **options: object) -> np.ndarray:
    picture.save(path, **options)
    return np.asarray(upright(path))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    rgba = PIL.Image.new("RGBA", (2, 1), (200, 100, 0, 255))
    rgba.putpixel((1, 0), (200, 100, 0, 0))
    assert saved(rgba, path).tolist() == [[[200, 100, 0], [255, 255, 255]]]
    rgba.putpixel((1, 0), (0, 0, 0, 51))
    assert saved(rgba, path).tolist() == [[[200, 100, 0], [204, 204, 204]]]
    assert saved(rgba.convert("LA"), path)[0, 1].tolist() == [204, 204, 204]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palette_with_transparency(transparency: int | bytes, tmp_path: Path) -> None:
    palette = PIL.Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    pixels = saved(palette, tmp_path / "image.png", transparency=transparency)
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_colour_key_of_a_png_without_alpha(tmp_path: Path) -> None:
    picture = PIL.Image.new("RGB", (2, 1), (1, 2, 3))
    picture.putpixel((1, 0), (9, 9, 9))
    pixels = saved(picture, tmp_path / "image.png", transparency=(9, 9, 9))
    assert pixels.tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 32768, 65535]], dtype=np.uint16)
    pixels = saved(PIL.Image.fromarray(values), tmp_path / "image.png")
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    colour = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = saved(colour, tmp_path / "image.jpg", quality=95)
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 3


def test_grey_and_bilevel_images_have_three_equal_channels(tmp_path: Path) -> None:
    grey = skimage.data.camera()[::8, ::8]
    pixels = saved(PIL.Image.fromarray(grey), tmp_path / "image.png")
    assert all(np.array_equal(pixels[..., channel], grey) for channel in range(3))
    bilevel = PIL.Image.fromarray(grey > 128)
    assert set(np.unique(saved(bilevel, tmp_path / "image.png"))) == {0, 255}


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [PIL.Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(upright(tmp_path / "image.gif", "L")).tolist() == [[10] * 4] * 4


def bomb(path: Path) -> Path:
    """The header of a PNG of 30000x30000 pixels; there are none behind it."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(chunk))
    idat = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc + idat)
    return path


def broken(folder: Path, kind: str) -> Path:
    path = folder / "image.jpg"
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "bomb":
        return bomb(path)
    elif kind == "floating":
        path = folder / "image.tif"
        PIL.Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(path)
    else:
        PIL.Image.fromarray(skimage.data.coffee()).save(path)
        whole = path.read_bytes()
        contents = {"truncated": whole[:5000], "empty": b"", "text": b"hello" * 50}
        path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("folder", "not a file"),
        ("bomb", "pixels"),
        ("floating", "floating-point"),
        ("truncated", "truncated"),
        ("empty", "empty"),
        ("text", "not an image"),
    ],
)
def test_broken_images_have_a_name_and_a_reason(kind: str, reason: str, tmp_path: Path) -> None:
    path = broken(tmp_path, kind)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        to_input(path, Preprocess(size=8))
    assert caught.value.name == str(path)
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)


def test_an_image_too_elongated_to_resize_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="elongated"):
        to_input(PIL.Image.new("L", (30_000, 1)), Preprocess(size=224))


def test_same_as_the_classification_preset_of_torchvision() -> None:
    picture = PIL.Image.fromarray(skimage.data.chelsea())
    for how in (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC):
        preset = ImageClassification(crop_size=64, resize_size=73, interpolation=how)
        ours = to_input(picture, Preprocess(size=64, resize_to=73, interpolation=how.value))
        assert ours.shape == (3, 64, 64)
        torch.testing.assert_close(ours, preset(picture))


def test_caffe_preprocessing() -> None:
    picture = PIL.Image.fromarray(skimage.data.chelsea()[:32, :32])
    caffe = Preprocess(
        size=32, channels="BGR", divisor=1, mean=(103.9, 116.8, 123.7), std=(1.0, 1.0, 1.0)
    )
    expected = np.asarray(picture)[..., ::-1].astype(np.float32) - [103.9, 116.8, 123.7]
    got = to_input(picture, caffe).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_squash_and_grey() -> None:
    facts = Preprocess(size=6, resize="squash", channels="L", mean=(0.0,), std=(1.0,))
    pixels = to_input(np.full((4, 9, 3), 51, dtype=np.uint8), facts)
    assert pixels.shape == (1, 6, 6)
    assert torch.allclose(pixels, torch.tensor(0.2))


def test_all_ways_to_give_an_image_agree(tmp_path: Path) -> None:
    array = skimage.data.chelsea()[:40, :50]
    path = tmp_path / "image.png"
    PIL.Image.fromarray(array).save(path)
    facts = Preprocess(size=16)
    expected = to_input(path, facts)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for image in (str(path), path.read_bytes(), array, tensor, PIL.Image.open(path)):
        assert torch.equal(to_input(image, facts), expected)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UnreadableImageError, match="uint8"):
        to_input(array, Preprocess(size=4))


@pytest.mark.parametrize(
    ("size", "resize", "reason"),
    [((9_000_000, 1), "shortest", "too elongated"), ((9_000_000, 1), "squash", "too long")],
)
def test_a_graph_is_not_given_sides_that_it_could_not_resize(
    size: tuple[int, int], resize: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "long.png"
    PIL.Image.new("L", size).save(path)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        whole(path, Preprocess(size=32, resize=resize))
    assert caught.value.name == str(path)
    PIL.Image.new("L", (900, 3)).save(path)
    assert whole(path, Preprocess(size=32, resize=resize)).shape == (3, 900, 3)
