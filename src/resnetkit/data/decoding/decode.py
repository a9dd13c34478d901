"""Decodes a file, PIL image or array to an upright 8-bit image, resized and cropped."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import PIL.ExifTags
import PIL.Image

from resnetkit.data.decoding.crop import frame
from resnetkit.data.decoding.exif import jpeg_problem
from resnetkit.data.decoding.limits import Bounded, icon_problem, is_slow, slow_problem
from resnetkit.errors import InputError
from resnetkit.preprocess import Channels, Preprocess

if TYPE_CHECKING:
    from torch import Tensor

#: An image: a path, encoded bytes, a PIL image, an array ``(H, W)`` or ``(H, W, C)``, or a tensor
#: ``(H, W)`` or ``(C, H, W)``; arrays and tensors are uint8.
Image: TypeAlias = "str | Path | bytes | PIL.Image.Image | npt.NDArray[np.uint8] | Tensor"
#: An image resized and cropped: uint8 ``(size, size, C)``, RGB, or grey with one channel.
Cut = npt.NDArray[np.uint8]

#: Images with more pixels are rejected before decoding (Pillow's own warning limit).
MAX_PIXELS = 1024 * 1024 * 1024 // 12

#: Supported formats, by Pillow's names, in the order tried. No other decoder of Pillow is
#: reachable: EPS starts Ghostscript, IPTC opens its content as any format, WMF and FPX delegate the
#: file, FITS and the like contain no photographs and are decoded in Python. None of the supported
#: formats opens another file, or another format inside itself except PNG in ICO.
_USUAL = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF")
_RARER = ("MPO", "AVIF", "JPEG2000", "DIB", "ICO", "PCX", "TGA", "HEIF")
#: Whether HEIC files are supported: their decoder, libheif, is in a separate package.
HEIC = find_spec("pillow_heif") is not None
#: Number of bytes of a JPEG file searched for scans.
MAX_JPEG = 256 << 20
#: Images with more pixels are decoded one at a time, whatever the number of threads, as each needs
#: up to 20 bytes per pixel.
MANY_PIXELS = 16 << 20
#: Held while one of them is decoded; a process that decodes for another waits for that one.
many: AbstractContextManager[object] = threading.Lock()
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
#: Pillow's filters by their names in ``Preprocess``; all but nearest are antialiased.
FILTERS = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
}
_HEIC_BRANDS = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1"))
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
# The reason has the error; without a handler, logging would print it as well.
logging.getLogger("PIL").addHandler(logging.NullHandler())
# `warnings.catch_warnings` affects all threads, so only one may be inside.
_quietly = threading.Lock()


class UnreadableImageError(InputError):
    """An image cannot be decoded; ``reason`` says why, ``name`` which."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def name_of(image: Image) -> str:
    """The name of an image in a message: its path or type."""
    if isinstance(image, str | Path):
        return str(image)
    if _is_tensor(image):
        return "tensor"
    return {bytes: "bytes", np.ndarray: "array"}.get(type(image), "picture")


def upright(image: Image, channels: Channels = "RGB") -> PIL.Image.Image:
    """The image oriented by its EXIF data, on white, with 8 bits per channel.

    Mode ``L`` for channels ``L``, else ``RGB`` (the engine converts to ``BGR``). Only the first
    frame or page is used; 16-bit grey values are scaled to 8 bits; invalid EXIF data is ignored.
    Raises ``UnreadableImageError`` if it is not an image, truncated, empty or too large.
    """
    return scaled_upright(image, channels, None)[0]


def scaled_upright(
    image: Image, channels: Channels, factor: Callable[[int, int], int] | None
) -> tuple[PIL.Image.Image, int, int]:
    """As ``upright``, with the upright image's original width and height.

    A JPEG file is decoded at 1/``factor(width, height)`` of its size: 1/1, 1/2, 1/4 or 1/8.
    """
    name = name_of(image)
    try:
        with _picture(image) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise UnreadableImageError(
                    name, f"{width}x{height} pixels are more than the {MAX_PIXELS:,} that are read"
                )
            with in_turn(width, height):
                return _decoded(opened, channels, factor)
    except UnreadableImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise UnreadableImageError(name, _unknown(image)) from None
    except FileNotFoundError:
        raise UnreadableImageError(name, "there is no such file") from None
    except PIL.Image.DecompressionBombError:
        reason = f"it has more than the {MAX_PIXELS:,} pixels that are read"
        raise UnreadableImageError(name, reason) from None
    except MemoryError:
        raise UnreadableImageError(name, "there is not enough memory for it") from None
    except Exception as error:  # a decoder may raise anything for a damaged file
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(name, " ".join(str(text).split())) from None


def in_turn(width: int, height: int) -> AbstractContextManager[object]:
    """Lock that prevents decoding two images of more than ``MANY_PIXELS`` at once."""
    return many if width * height > MANY_PIXELS else nullcontext()


def _decoded(
    opened: PIL.Image.Image, channels: Channels, factor: Callable[[int, int], int] | None
) -> tuple[PIL.Image.Image, int, int]:
    if opened.format == "TIFF":
        opened.load()  # Pillow 10.1 and later orient TIFF files on load, and remove the tag
    width, height = opened.size
    turn = _orientation(opened)
    if turn >= 5:
        width, height = height, width
    if factor is not None and opened.format == "JPEG":
        part = factor(width, height)
        opened.draft(None, (opened.width // part, opened.height // part))
    opened.load()
    picture = opened if turn == 1 else opened.transpose(_TURNS[turn])
    picture = _on_white(_eight_bits(picture))
    return picture.convert("L" if channels == "L" else "RGB"), width, height


def _orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if its data is damaged."""
    with _quietly, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            turn = picture.getexif().get(PIL.ExifTags.Base.Orientation, 1)
        except Exception:  # pixel errors are reported when they are loaded
            return 1
    return turn if turn in _TURNS else 1


def cut(picture: PIL.Image.Image, preprocess: Preprocess) -> Cut:
    """Resize and crop an upright image to uint8 ``(size, size, C)``, with its own channels.

    Bit-equal to torchvision's classification presets on a PIL image. Raises
    ``UnreadableImageError`` for an image too elongated to be resized in memory.
    """
    check_shape(*picture.size, preprocess)
    where = frame(*picture.size, preprocess)
    resized = picture.resize((where.width, where.height), FILTERS[preprocess.interpolation])
    sides = (where.left, where.top, where.left + where.size, where.top + where.size)
    return as_cut(resized.crop(sides))


def check_shape(width: int, height: int, preprocess: Preprocess) -> None:
    """Raise ``UnreadableImageError`` if the resized image would not fit in memory."""
    if preprocess.resize == "squash":
        return
    shorter, longer = sorted((width, height))
    if (preprocess.resize_to or preprocess.size) ** 2 * longer > MAX_PIXELS * shorter:
        raise UnreadableImageError(
            f"{width}x{height}", "it is too elongated to be resized by its shorter side"
        )


def as_cut(picture: PIL.Image.Image) -> Cut:
    """The pixels ``(H, W, C)`` of a PIL image in mode ``L`` or ``RGB``; read-only."""
    pixels: Cut = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def pixels_of(image: Image, preprocess: Preprocess) -> Cut:
    """Decode, orient, resize and crop: uint8 ``(size, size, C)``, RGB or L.

    Raises ``UnreadableImageError``.
    """
    preprocess.check_pictures()
    try:
        return cut(upright(image, preprocess.channels), preprocess)
    except UnreadableImageError as error:
        raise UnreadableImageError(name_of(image), error.reason) from None


def whole(image: Image, preprocess: Preprocess) -> Cut:
    """Decode and orient without resizing: uint8 ``(H, W, C)``, RGB or L.

    Raises ``UnreadableImageError`` as ``pixels_of`` does, and for sides too long for the resize
    weights of a graph, one for each pixel of the side and of ``size``.
    """
    preprocess.check_pictures()
    picture = upright(image, preprocess.channels)
    try:
        check_shape(*picture.size, preprocess)
    except UnreadableImageError as error:
        raise UnreadableImageError(name_of(image), error.reason) from None
    if max(picture.size) * preprocess.size > MAX_PIXELS:
        raise UnreadableImageError(name_of(image), "its longer side is too long to be resized")
    return as_cut(picture)


def _is_tensor(image: object) -> bool:
    # Without torch imported, nothing is a tensor; another thread may be importing it.
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(image, kind)


@contextmanager
def _picture(image: Image) -> Iterator[PIL.Image.Image]:
    """The PIL image; closed afterwards if it was opened here."""
    if isinstance(image, PIL.Image.Image):
        yield image
    elif _is_tensor(image):
        array = cast("Tensor", image).detach().cpu().numpy()
        yield _from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array)
    elif isinstance(image, np.ndarray):
        yield _from_array(image)
    elif isinstance(image, bytes):
        with open_picture(BytesIO(image), "bytes", len(image)) as picture:
            yield picture
    elif isinstance(image, str | Path):
        path = Path(image)
        if path.exists() and not path.is_file():
            raise UnreadableImageError(str(path), "it is not a file")
        with (
            path.open("rb") as file,
            open_picture(file, str(path), path.stat().st_size) as picture,
        ):
            yield picture
    else:
        raise UnreadableImageError(
            type(image).__name__, "an image is a path, bytes, a PIL image, a uint8 array or tensor"
        )


@contextmanager
def open_picture(file: BinaryIO, name: str, size: int) -> Iterator[PIL.Image.Image]:
    """Open a file of ``size`` bytes in a supported format, not yet decoded.

    Raises ``UnreadableImageError``, ``PIL.UnidentifiedImageError`` and errors of decoders.
    """
    if size == 0:
        raise UnreadableImageError(name, "the file is empty")
    bounded = Bounded(file, size)
    with _open(file, bounded, name) as picture:
        problem = None
        if picture.format in ("JPEG", "MPO"):
            problem = jpeg_problem(_beginning(file))
        elif is_slow(picture):
            problem = slow_problem(_beginning(file), size)
            bounded.allow(size)
        if problem is not None:
            raise UnreadableImageError(name, problem)
        yield picture


def _beginning(file: BinaryIO) -> bytes:
    place = file.tell()
    file.seek(0)
    data = file.read(MAX_JPEG)
    file.seek(place)
    return data


def _open(file: BinaryIO, bounded: Bounded, name: str) -> PIL.Image.Image:
    given = cast("IO[bytes]", bounded)
    # Pillow warns about odd but readable files, and large ones, which `upright` rejects.
    with _quietly, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return PIL.Image.open(given, formats=_USUAL)
        except PIL.UnidentifiedImageError:
            PIL.Image.init()
            if problem := icon_problem(_beginning(file)):
                raise UnreadableImageError(name, problem) from None
            if HEIC and "HEIF" not in PIL.Image.OPEN:
                from pillow_heif import register_heif_opener

                register_heif_opener(thumbnails=False)
            rarer = [kind for kind in _RARER if kind in PIL.Image.OPEN]
            return PIL.Image.open(given, formats=rarer)


def _unknown(image: Image) -> str:
    """Why the file cannot be read."""
    beginning = image[:12] if isinstance(image, bytes) else b""
    if isinstance(image, str | Path):
        with suppress(OSError), Path(image).open("rb") as file:
            beginning = file.read(12)
    if beginning[4:] in _HEIC_BRANDS and not HEIC:
        return "a HEIC image, which requires pillow-heif; install resnetkit[heic]"
    return "not an image, or of an unsupported format"


def _from_array(array: npt.NDArray[np.uint8]) -> PIL.Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[-1] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour) or not array.size:
        shape = "x".join(map(str, array.shape))
        raise UnreadableImageError(
            f"{array.dtype} {shape}",
            "arrays must be uint8 (H, W) or (H, W, C), tensors (C, H, W), with 1, 3 or 4 channels",
        )
    return PIL.Image.fromarray(np.ascontiguousarray(array))


def _eight_bits(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Scale 16-bit grey values to 8 bits; Pillow's own conversion clips them at 255.

    Files do not record how many bits are used. White is 255 or 4095 if no value is above it, as
    written by cameras and scanners with 8 and 12 bits.
    """
    if picture.mode == "F":
        raise ValueError("it has floating-point pixels, whose white level is unknown")
    if picture.mode not in _SIXTEEN_BITS:
        return picture
    values = np.asarray(picture)
    highest = int(values.max())
    if values.min() < 0 or highest > 65535:
        raise ValueError("it has 32-bit pixels, whose white level is unknown")
    white = next(white for white in (255, 4095, 65535) if highest <= white)
    scaled = values.astype(np.uint32)
    scaled *= 255
    scaled += white // 2
    scaled //= white
    return PIL.Image.fromarray(scaled.astype(np.uint8))


def _on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    transparent = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    if not transparent and "transparency" not in picture.info:
        return picture
    picture = picture.convert("RGBA")
    white = PIL.Image.new("RGBA", picture.size, "white")
    return PIL.Image.alpha_composite(white, picture)
