"""The fast path: the exact one's pixels within a few grey levels, the same images refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from resnetkit.data.decoding import decode, fast_decode
from resnetkit.data.decoding.exif import orientation, turned
from resnetkit.preprocess import Preprocess
from rubbish import mutations, originals

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
MODES = {
    "nearest": InterpolationMode.NEAREST_EXACT,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


def photograph(name: str, width: int, height: int) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(getattr(skimage.data, name)())
    return picture.resize((width, height), PIL.Image.Resampling.LANCZOS)


def jpeg(picture: PIL.Image.Image, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(int) - b)


@st.composite
def facts(draw: st.DrawFn) -> Preprocess:
    size = draw(st.integers(1, 40))
    squash = draw(st.booleans())
    return Preprocess(
        size=size,
        resize="squash" if squash else "shortest",
        resize_to=None if squash else size + draw(st.integers(0, 20)),
        interpolation=draw(st.sampled_from(tuple(MODES))),
        centre=draw(st.sampled_from(("even", "floor"))),
    )


PICTURES = st.builds(
    photograph,
    st.sampled_from(PHOTOGRAPHS),
    st.integers(1, 90),
    st.integers(1, 90),
)


@settings(max_examples=150)
@given(PICTURES, facts())
def test_exact_is_torchvision_bit_for_bit(picture: PIL.Image.Image, facts: Preprocess) -> None:
    how, size = MODES[facts.interpolation], facts.size
    if facts.resize == "squash":
        expected = functional.resize(picture, [size, size], how)
    else:
        resized = functional.resize(picture, [facts.resize_to], how)
        if facts.centre == "even":
            expected = functional.center_crop(resized, [size, size])
        else:
            top, left = (resized.height - size) // 2, (resized.width - size) // 2
            expected = functional.crop(resized, top, left, size, size)
    assert np.array_equal(decode.pixels_of(picture, facts), np.asarray(expected))


@pytest.mark.parametrize("without", [(), ("simplejpeg",), ("_TORCH",)])
def test_fast_is_exact_within_a_few_grey_levels(
    without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in without:
        monkeypatch.setattr(fast_decode, name, None)

    @settings(max_examples=60)
    @given(PICTURES, facts(), st.booleans())
    def check(picture: PIL.Image.Image, facts: Preprocess, grey: bool) -> None:
        data = jpeg(picture.convert("L") if grey else picture)
        # None of these is so much larger that it would be scaled down when it is decoded.
        width, height = picture.size
        if fast_decode._factor(width, height, facts) == 1:
            found = difference(fast_decode.pixels_of(data, facts), decode.pixels_of(data, facts))
            # The square may be moved by a part of a pixel; edges of small pictures are steep, and a
            # bicubic filter overshoots them.
            assert found.max() <= 12
            assert found.mean() <= 1

    check()


@pytest.mark.parametrize("without", [(), ("simplejpeg",), ("_TORCH",)])
@pytest.mark.parametrize("width", [1000, 1001, 2003])
@pytest.mark.parametrize("turn", [1, 3, 6])
def test_large_photographs_are_scaled_down_when_decoded(
    without: tuple[str, ...], width: int, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in without:
        monkeypatch.setattr(fast_decode, name, None)
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    facts = Preprocess(size=112, resize_to=128)
    data = jpeg(photograph("chelsea", width, width * 3 // 4), exif=exif)
    assert fast_decode._factor(width, width * 3 // 4, facts) > 1
    found = difference(fast_decode.pixels_of(data, facts), decode.pixels_of(data, facts))
    assert 0 < found.mean() < 1
    assert found.max() < 16


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("torch", [True, False])
def test_the_padding_of_a_scaled_side_is_no_part_of_the_image(torch: bool, turn: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    facts = Preprocess(size=64, resize_to=64)
    data = jpeg(photograph("chelsea", 1169, 1171), exif=exif)
    assert fast_decode._factor(1169, 1171, facts) == 8
    found = fast_decode.pixels_of(data, facts, torch=torch)
    assert difference(found, decode.pixels_of(data, facts)).mean() < 2


@pytest.mark.parametrize("torch", [True, False])
@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs(name: str, how: str, torch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_decode, "_TORCH", torch)
    facts = Preprocess(size=224, resize_to=256, interpolation=how)
    data = jpeg(photograph(name, 500, 375))
    found = difference(fast_decode.pixels_of(data, facts), decode.pixels_of(data, facts))
    assert found.mean() < 0.2
    assert found.max() <= 6


def test_grey_networks_and_nearest_pixels() -> None:
    data = jpeg(photograph("coffee", 90, 60))
    grey = Preprocess(size=20, resize_to=24, channels="L", mean=(0.0,), std=(1.0,))
    assert difference(fast_decode.pixels_of(data, grey), decode.pixels_of(data, grey)).max() <= 4
    nearest = Preprocess(size=20, resize_to=24, interpolation="nearest")
    assert np.array_equal(fast_decode.pixels_of(data, nearest), decode.pixels_of(data, nearest))


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_as_pillow_turns_them(turn: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    exif[0x010F] = "a camera"
    data = jpeg(photograph("rocket", 31, 20), exif=exif)
    assert orientation(data) == turn
    with PIL.Image.open(BytesIO(data)) as opened:
        found = turned(np.asarray(opened), turn)
    assert np.array_equal(found, np.asarray(decode.upright(data)))
    facts = Preprocess(size=10, resize_to=12)
    assert difference(fast_decode.pixels_of(data, facts), decode.pixels_of(data, facts)).max() <= 4


def test_what_a_jpeg_file_says_in_other_ways_is_left_to_pillow() -> None:
    plain = jpeg(photograph("rocket", 31, 20))
    assert orientation(plain) == 1
    exif = PIL.Image.Exif()
    exif[0x0112] = 9
    assert orientation(jpeg(photograph("rocket", 31, 20), exif=exif)) is None
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>"
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    assert orientation(plain[:2] + segment + plain[2:]) is None
    for cut in range(2, 200, 7):
        assert orientation(plain[:cut]) in (None, 1)


def verdict(data: bytes, facts: Preprocess) -> int | None:
    """How far the two paths' pixels are apart; None where both refuse it for the same reason."""
    found: list[object] = []
    for path in (decode, fast_decode):
        try:
            found.append(path.pixels_of(data, facts))
        except decode.UnreadableImageError as error:
            found.append(error.reason)
    exact, quick = found
    if isinstance(exact, np.ndarray) and isinstance(quick, np.ndarray):
        return int(difference(exact, quick).max())
    assert exact == quick
    return None


FEW_PIXELS = Preprocess(size=24, resize_to=28)


def check_mutations(count: int, seed: int) -> None:
    found = [verdict(data, FEW_PIXELS) for _, data in mutations(count, seed)]
    read = [levels for levels in found if levels is not None]
    assert count / 10 < len(read) < count * 9 / 10
    assert max(read) <= 12


@pytest.mark.parametrize("torch", [True, False])
def test_mutations_are_read_or_refused_by_both(
    torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_decode, "_TORCH", torch)
    check_mutations(200, 0)


@pytest.mark.slow
def test_many_mutations_are_read_or_refused_by_both() -> None:
    check_mutations(4000, 1)


def test_the_originals_are_read() -> None:
    for data in originals().values():
        levels = verdict(data, FEW_PIXELS)
        assert levels is not None
        assert levels <= 4


def test_large_files_and_pipes_are_not_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(photograph("coffee", 90, 60)))
    monkeypatch.setattr(fast_decode, "MAX_BYTES", 100)
    facts = Preprocess(size=24, resize_to=28)
    assert fast_decode._bytes(path) is None
    assert difference(fast_decode.pixels_of(path, facts), decode.pixels_of(path, facts)).max() <= 4
