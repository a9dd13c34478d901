"""Which decoders a file can reach, and what they may cost. Nothing that a file says is run."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.TiffImagePlugin
import pillow_heif
import pytest
import skimage.data

from hostile_images import hostile, traps_in
from resnetkit.data.datasets.image_folder import is_picture
from resnetkit.data.decoding import decode, fast_decode
from resnetkit.data.decoding.decode import UnreadableImageError, upright
from resnetkit.data.decoding.exif import MAX_SCANS, SCAN
from resnetkit.preprocess import Preprocess


def test_no_file_starts_a_program(tmp_path: Path) -> None:
    """Every hostile file under every usual name, with a PATH of traps."""
    traps = traps_in(tmp_path)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for kind, data in hostile().items():
        for suffix in (".jpg", ".png", ".tif", ".eps", ".iim", ".wmf"):
            (pictures / f"{kind}{suffix}").write_bytes(data)
    program = (
        "import sys; from pathlib import Path;"
        "from resnetkit.data.decoding import decode as pixels, fast_decode as fast;"
        "from resnetkit.preprocess import Preprocess; from resnetkit.errors import InputError\n"
        "read = 0\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    for cut in (pixels.pixels_of, fast.pixels_of):\n"
        "        for image in (path, path.read_bytes()):\n"
        "            try:\n"
        "                cut(image, Preprocess(size=8)); read += 1\n"
        "            except InputError as error: assert '\\n' not in str(error)\n"
        "print(read)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(pictures)],
        env={**os.environ, "PATH": str(traps)},
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
    assert not (tmp_path / "ran").exists()


def test_only_decoders_of_the_list_are_reached() -> None:
    """Whatever Pillow registers: a file of another kind is not known."""
    PIL.Image.init()
    others = set(PIL.Image.SAVE) - {*decode._USUAL, *decode._RARER}
    picture = PIL.Image.new("RGB", (8, 8), "red")
    tried = 0
    for kind in sorted(others):
        data = io.BytesIO()
        try:
            picture.save(data, kind)
            PIL.Image.open(io.BytesIO(data.getvalue())).load()
        except Exception:
            continue  # it writes no such picture, or needs a program to read it
        tried += 1
        with pytest.raises(UnreadableImageError, match="an unsupported format"):
            upright(data.getvalue())
    assert tried >= 3


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO",
                                  "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"])  # fmt: skip
def test_kinds_that_people_have(kind: str, tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(np.full((48, 48, 3), (200, 40, 90), np.uint8))
    path = tmp_path / "picture.any"
    picture.save(path, kind)
    for cut in (decode.pixels_of, fast_decode.pixels_of):
        for image in (path, path.read_bytes()):
            found = cut(image, Preprocess(size=16)).reshape(-1, 3).astype(int)
            assert abs(found - [200, 40, 90]).max() <= 8


def plain(comments: int = 0, side: int = 8) -> bytes:
    return b"P3 %d %d 255\n" % (side, side) + b"# x\n" * comments + b"200 40 90 " * side**2


def runs(pairs: int) -> bytes:
    """A BMP file of 8x8 pixels in runs, with as many that it has no room for."""
    data, start = b"\x08\x05\x00\x00" * (pairs // 2), 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(data), 0, 0, 256, 0)
    return (
        b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + bytes(1024) + data
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (plain(comments=3_000_000), "comments"),
        (plain(side=1400), "decoded slowly"),
        (b"P6 1700 1700 65535 " + bytes(1700**2 * 6), "decoded slowly"),
        (b"P6 2500 2500 254 " + bytes(2500**2 * 3), "decoded slowly"),
        (runs(10_000_000), "decoded slowly"),
    ],
)
def test_decoders_in_python_get_little(data: bytes, reason: str, tmp_path: Path) -> None:
    """Millions of comments took them hours, and a photograph of 16 bits a minute."""
    (tmp_path / "a.ppm").write_bytes(data)
    begin = time.process_time()
    for image in (data, tmp_path / "a.ppm"):
        with pytest.raises(UnreadableImageError, match=reason):
            upright(image)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("data", [plain(), plain(comments=3), runs(16)])
def test_small_ones_are_read(data: bytes) -> None:
    assert upright(data).size == (8, 8)


def photographed(kind: str) -> bytes:
    """A photograph as a file of a kind that is decoded in Python, or in very many pieces."""
    pixels = skimage.data.coffee()[:240, :320]
    if kind == "P3":
        return b"P3 320 240 255\n" + " ".join(map(str, pixels.ravel())).encode()
    if kind == "P6 of 16 bits":
        return b"P6 320 240 65535\n" + (pixels.astype(">u2") * 257).tobytes()
    if kind == "P6 of 254":
        return b"P6 320 240 254\n" + np.minimum(pixels, 254).tobytes()
    if kind == "BMP of runs":
        rows = (b"".join(b"\x01" + bytes([v]) for v in row) + b"\0\0" for row in pixels[..., 1])
        data, grey = b"".join(rows), bytes(v for n in range(256) for v in (n, n, n, 0))
        head = struct.pack("<IiiHHIIiiII", 40, 320, 240, 1, 8, 1, len(data), 0, 0, 256, 0)
        size = 54 + 1024 + len(data)
        return b"BM" + struct.pack("<IHHI", size, 0, 0, 54 + 1024) + head + grey + data
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "PNG")
    whole = data.getvalue()
    place = whole.index(b"IDAT") - 4
    packed = whole[place + 8 : place + 8 + int.from_bytes(whole[place : place + 4], "big")]
    parts = (b"IDAT" + packed[i : i + 256] for i in range(0, len(packed), 256))
    chunks = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return whole[:place] + b"".join(chunks) + whole[place + 12 + len(packed) :]


@pytest.mark.parametrize(
    "kind", ["P3", "P6 of 16 bits", "P6 of 254", "BMP of runs", "PNG of small chunks"]
)
def test_photographs_in_very_many_pieces(kind: str, tmp_path: Path) -> None:
    """The bound on parts is not for what a decoder reads pixel by pixel."""
    data = photographed(kind)
    (tmp_path / "a").write_bytes(data)
    right = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.std(right) > 20
    for image in (data, tmp_path / "a"):
        assert np.array_equal(np.asarray(upright(image)), right)


@pytest.mark.parametrize("kind", ["PNG", "DIB"])
def test_an_icon_holds_no_large_picture(kind: str, tmp_path: Path) -> None:
    """Pillow decodes the picture as it opens the file, whatever size the icon says it has."""
    inner = io.BytesIO()
    PIL.Image.new("RGB", (4000, 3000)).save(inner, kind)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner.getvalue()), 22)
    data = struct.pack("<HHH", 0, 1, 1) + entry + inner.getvalue()
    (tmp_path / "a.ico").write_bytes(data)
    for image in (data, tmp_path / "a.ico"):
        with pytest.raises(UnreadableImageError, match="an icon of 4000x3000 pixels"):
            upright(image)


def header_of(kind: str, count: int) -> bytes:
    """A file with ``count`` small parts before its pixels."""
    if kind == "PPM":
        return b"P6 #" + b"x" * count + b"\n2 2 255\n" + bytes(12)
    data = io.BytesIO()
    PIL.Image.new("L", (8, 8)).save(data, "JPEG" if kind in ("APP1", "COM", "fill") else kind)
    whole = data.getvalue()
    if kind == "PNG":
        place, part = (
            whole.index(b"IDAT") - 4,
            struct.pack(">I4sI", 0, b"abCd", zlib.crc32(b"abCd")),
        )
    elif kind == "JPEG2000":
        place, part = whole.index(b"jp2h") - 4, struct.pack(">I4s", 8, b"free")
    elif kind == "GIF":
        place, part = whole.rindex(b"\x2c\0\0\0\0"), b"\x21\xfe\x00"
    else:
        place = 2
        part = {"APP1": b"\xff\xe1\x00\x02", "COM": b"\xff\xfe\x00\x02", "fill": b"\xff"}[kind]
    return whole[:place] + part * count + whole[place:]


HEADERS = ["APP1", "COM", "GIF", "JPEG2000", "PNG", "PPM", "fill"]


@pytest.mark.parametrize("kind", HEADERS)
def test_millions_of_parts_are_not_read(kind: str, tmp_path: Path) -> None:
    """Each part took microseconds of Python, and some were kept: 3 GB for 32 MB of them."""
    data = header_of(kind, 2_000_000)
    (tmp_path / "a").write_bytes(data)
    begin = time.process_time()
    for cut in (decode.pixels_of, fast_decode.pixels_of):
        for image in (data, tmp_path / "a"):
            with pytest.raises(UnreadableImageError, match="too many parts"):
                cut(image, Preprocess(size=8))
    assert time.process_time() - begin < 4


def test_millions_of_segments_between_scans(tmp_path: Path) -> None:
    """libjpeg passes over them at once; the look for scans, in Python, does not."""
    data = io.BytesIO()
    PIL.Image.fromarray(skimage.data.coffee()).save(data, "JPEG", progressive=True)
    whole = data.getvalue()
    place = whole.index(SCAN, whole.index(SCAN) + 2)
    many = whole[:place] + b"\xff\xfe\x00\x04" + SCAN + whole[place:]
    assert decode.pixels_of(many, Preprocess(size=16)).shape == (16, 16, 3)
    many = whole[:place] + (b"\xff\xfe\x00\x04" + SCAN) * 2_000_000 + whole[place:]
    begin = time.process_time()
    for cut in (decode.pixels_of, fast_decode.pixels_of):
        with pytest.raises(UnreadableImageError, match="more than 10,000 segments"):
            cut(many, Preprocess(size=16))
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("kind", HEADERS)
def test_some_parts_are_read(kind: str) -> None:
    for cut in (decode.pixels_of, fast_decode.pixels_of):
        assert cut(header_of(kind, 300), Preprocess(size=8)).shape == (8, 8, 3)


def heic(turn: int = 1) -> bytes:
    """A picture as a phone writes it: red, but for its upper left corner."""
    pillow_heif.register_heif_opener()
    decode = np.full((48, 96, 3), (200, 40, 90), np.uint8)
    decode[:24, :24] = 255
    exif = PIL.Image.Exif()
    exif[274] = turn
    data = io.BytesIO()
    PIL.Image.fromarray(decode).save(data, "HEIF", exif=exif.tobytes(), quality=95)
    return data.getvalue()


HEIC = """
import sys
from resnetkit.data.decoding import decode as pixels, fast_decode as fast
from resnetkit.preprocess import Preprocess
preprocess = Preprocess(size=16, resize="squash", resize_to=None)
for cut in (pixels.pixels_of, fast.pixels_of):
    found = cut(sys.argv[1], preprocess).astype(int)
    assert abs(found[0, 0] - 255).max() <= 8, found[0, 0]
    assert abs(found[15, 15] - [200, 40, 90]).max() <= 8, found[15, 15]
"""


def test_heic_is_read_without_a_word(tmp_path: Path) -> None:
    """Its decoder, a package of its own, is found when the first such file comes."""
    (tmp_path / "IMG_0001.HEIC").write_bytes(heic())
    subprocess.run([sys.executable, "-c", HEIC, str(tmp_path / "IMG_0001.HEIC")], check=True)
    assert is_picture("IMG_0001.HEIC")


@pytest.mark.parametrize("turn", range(1, 9))
def test_heic_is_turned_once(turn: int) -> None:
    data = heic(turn)
    right = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data))).convert("RGB")
    found, width, height = decode.scaled_upright(data, "RGB", None)
    assert (width, height) == right.size == found.size
    assert (width, height) == ((96, 48) if turn < 5 else (48, 96))
    assert np.array_equal(np.asarray(found), np.asarray(right))


def test_heic_without_its_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = heic()
    monkeypatch.delitem(PIL.Image.OPEN, "HEIF")
    monkeypatch.setattr(decode, "HEIC", False)
    (tmp_path / "a.heic").write_bytes(data)
    for image in (data, tmp_path / "a.heic"):
        with pytest.raises(UnreadableImageError, match=r"install resnetkit\[heic\]"):
            upright(image)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_an_orientation_is_followed_once(kind: str, turn: int, tmp_path: Path) -> None:
    corner = np.zeros((32, 64), np.uint8)
    corner[:16, :32] = 255
    picture = PIL.Image.fromarray(corner).convert("RGB")
    path = tmp_path / f"picture.{kind.lower()}"
    if kind == "TIFF":
        tags = PIL.TiffImagePlugin.ImageFileDirectory_v2()
        tags[274] = turn
        picture.save(path, tiffinfo=tags)
    else:
        exif = PIL.Image.Exif()
        exif[274] = turn
        picture.save(path, kind, exif=exif)
    with PIL.Image.open(path) as opened:
        right = PIL.ImageOps.exif_transpose(opened).convert("RGB")
    found, width, height = decode.scaled_upright(path, "RGB", None)
    assert (width, height) == right.size == found.size
    assert np.array_equal(np.asarray(found), np.asarray(right))
    preprocess = Preprocess(size=16, resize="squash", resize_to=None)
    exact, quick = (
        cut(path, preprocess).astype(int) for cut in (decode.pixels_of, fast_decode.pixels_of)
    )
    assert abs(exact - quick).max() <= 4


@pytest.mark.parametrize(("mode", "white"), [("I;16", 255), ("I;16", 4095), ("I;16", 65535),
                                             ("I", 255), ("I", 65535)])  # fmt: skip
def test_grey_values_of_more_bits_keep_their_brightness(
    mode: str, white: int, tmp_path: Path
) -> None:
    ramp = np.linspace(0, white, 256).round()
    values = np.tile(ramp.astype(np.uint16 if mode == "I;16" else np.int32), (4, 1))
    PIL.Image.fromarray(values).save(tmp_path / "picture.tif")
    found = np.asarray(upright(tmp_path / "picture.tif", "L")).astype(int)
    assert abs(found - np.arange(256)).max() <= 1


def empty_scans(count: int) -> bytes:
    """A progressive JPEG file of 64x64 pixels with so many scans more, each of a few bytes."""
    data = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "gray").save(data, "JPEG", progressive=True)
    whole = data.getvalue()
    last = whole.rindex(SCAN)
    return whole[:-2] + count * whole[last:-2] + whole[-2:]


@pytest.mark.parametrize("cut", [decode.pixels_of, fast_decode.pixels_of])
def test_scans_have_a_limit(cut, tmp_path: Path) -> None:
    path = tmp_path / "scans.jpg"
    path.write_bytes(empty_scans(2000))
    for image in (path, path.read_bytes()):
        with pytest.raises(UnreadableImageError, match=f"more than {MAX_SCANS} scans"):
            cut(image, Preprocess(size=16))
    assert cut(empty_scans(0), Preprocess(size=16)).shape == (16, 16, 3)


@pytest.mark.parametrize("cut", [decode.pixels_of, fast_decode.pixels_of])
def test_only_the_scans_of_the_picture_count(cut, tmp_path: Path) -> None:
    """A phone's moving photograph has a film behind it, others a thumbnail before the picture."""
    path = tmp_path / "moving.jpg"
    film = np.random.default_rng(0).integers(0, 256, 10 << 20, np.uint8).tobytes()
    assert film.count(SCAN) > MAX_SCANS
    whole = empty_scans(0)
    thumbnail = b"\xff\xec" + struct.pack(">H", 2 + 60_000) + 30_000 * SCAN
    path.write_bytes(whole[:2] + thumbnail + whole[2:] + film)
    assert cut(path, Preprocess(size=16)).shape == (16, 16, 3)
    path.write_bytes(whole[:2] + thumbnail + empty_scans(MAX_SCANS)[2:] + film)
    with pytest.raises(UnreadableImageError, match="more than 100 scans"):
        cut(path, Preprocess(size=16))


def test_while_torch_is_being_imported_nothing_is_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader thread must not ask a module for what it has not defined yet."""
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    assert upright(np.zeros((8, 8, 3), np.uint8)).size == (8, 8)


READ = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from resnetkit.data.decoding import fast_decode as fast
from resnetkit.preprocess import Preprocess
with ThreadPoolExecutor(8) as pool:
    for found in pool.map(lambda p: fast.pixels_of(p, Preprocess(size=32)), sys.argv[1:]):
        assert found.shape == (32, 32, 3)
"""


@pytest.mark.slow
def test_fresh_processes_lose_no_picture(tmp_path: Path) -> None:
    """The first pictures are read while one of the threads imports torch."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(32):
        path = tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}"
        PIL.Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(path)
        paths.append(str(path))
    for _ in range(3):
        subprocess.run([sys.executable, "-c", READ, *paths], check=True, timeout=120)


def test_large_pictures_are_decoded_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decode, "MANY_PIXELS", 100)
    path = tmp_path / "large.png"
    PIL.Image.new("RGB", (400, 400)).save(path)
    inside, most, guard = 0, 0, threading.Lock()
    decoded = decode._decoded

    def counted(*arguments: object) -> object:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        try:
            return decoded(*arguments)
        finally:
            with guard:
                inside -= 1

    monkeypatch.setattr(decode, "_decoded", counted)
    threads = [threading.Thread(target=upright, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
