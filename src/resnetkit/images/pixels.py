"""From a file, picture or array to the upright 8-bit image, and from there to a network's input."""

from __future__ import annotations

import threading
import warnings
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from resnetkit.errors import InputError
from resnetkit.preprocess import Channels, Preprocess

#: What an image may be given as: a path, encoded bytes, a PIL image, an array ``(H, W)`` or
#: ``(H, W, C)``, or a tensor ``(H, W)`` or ``(C, H, W)``; arrays and tensors are uint8.
Image = str | Path | bytes | PIL.Image.Image | npt.NDArray[np.uint8] | Tensor

#: Images with more pixels are refused before they are decoded (Pillow's own warning limit).
MAX_PIXELS = 1024 * 1024 * 1024 // 12

#: What Pillow's decoders are known to raise for damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError)
INTERPOLATIONS = {
    "nearest": InterpolationMode.NEAREST_EXACT,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
# `warnings.catch_warnings` changes what all threads see, so only one may be inside.
_quietly = threading.Lock()


class UnreadableImageError(InputError):
    """An image cannot be decoded; ``reason`` says why, ``name`` which."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def name_of(image: Image) -> str:
    """What to call an image in a message: its path, or what kind of thing it is."""
    if isinstance(image, str | Path):
        return str(image)
    return {bytes: "bytes", Tensor: "tensor", np.ndarray: "array"}.get(type(image), "picture")


def upright(image: Image, channels: Channels = "RGB") -> PIL.Image.Image:
    """The image as people see it: turned as its EXIF data says, on white, 8 bits a channel.

    Mode ``L`` for channels ``L``, else ``RGB`` (``BGR`` is made by ``normalise``). Of an animation
    or a file with several pages the first is taken; 16-bit grey values are scaled to 8 bits.
    Raises ``UnreadableImageError`` for what is no image, truncated, empty or too large.
    """
    name = name_of(image)
    try:
        # What was opened here is closed here; a picture that was given stays open.
        with (
            nullcontext(image) if isinstance(image, PIL.Image.Image) else _picture(image) as opened
        ):
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise UnreadableImageError(
                    name, f"{width}x{height} pixels are more than the {MAX_PIXELS:,} that are read"
                )
            opened.load()
            picture = _on_white(_eight_bits(PIL.ImageOps.exif_transpose(opened)))
        return picture.convert("L" if channels == "L" else "RGB")
    except UnreadableImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise UnreadableImageError(name, "no image, or of a kind that is not known") from None
    except FileNotFoundError:
        raise UnreadableImageError(name, "there is no such file") from None
    except PIL.Image.DecompressionBombError:
        reason = f"it has more than the {MAX_PIXELS:,} pixels that are read"
        raise UnreadableImageError(name, reason) from None
    except _DAMAGE as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(name, text) from None


def cut(picture: PIL.Image.Image, preprocess: Preprocess) -> Tensor:
    """An upright image resized and cut to uint8 ``(C, size, size)``, channels as in the picture.

    The same pixels as torchvision's classification presets make of a PIL image. Raises
    ``UnreadableImageError`` for an image so elongated that resizing it would not fit in memory.
    """
    size = preprocess.size
    how = INTERPOLATIONS[preprocess.interpolation]
    if preprocess.resize == "squash":
        resized = functional.resize(picture, [size, size], interpolation=how, antialias=True)
    else:
        shorter, longer = min(picture.size), max(picture.size)
        if (preprocess.resize_to or size) ** 2 * longer > MAX_PIXELS * shorter:
            shape = f"{picture.width}x{picture.height}"
            raise UnreadableImageError(
                shape, "it is too elongated to be resized by its shorter side"
            )
        resized = functional.resize(
            picture, [preprocess.resize_to], interpolation=how, antialias=True
        )
        resized = functional.center_crop(resized, [size, size])
    return cast(Tensor, functional.pil_to_tensor(resized))


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 ``(..., C, size, size)`` in RGB or L to what the network takes, float32."""
    if preprocess.channels == "BGR":
        pixels = pixels.flip(-3)
    mean = torch.tensor(preprocess.mean).view(-1, 1, 1)
    std = torch.tensor(preprocess.std).view(-1, 1, 1)
    return pixels.float().div_(preprocess.divisor).sub_(mean).div_(std)


def pixels_of(image: Image, preprocess: Preprocess) -> Tensor:
    """Decode, turn, resize and cut: uint8 ``(C, size, size)``, RGB or L.

    Raises ``UnreadableImageError``.
    """
    try:
        return cut(upright(image, preprocess.channels), preprocess)
    except UnreadableImageError as error:
        raise UnreadableImageError(name_of(image), error.reason) from None


def to_input(image: Image, preprocess: Preprocess) -> Tensor:
    """From an image to float32 ``(C, size, size)``. Raises ``UnreadableImageError``."""
    return normalise(pixels_of(image, preprocess), preprocess)


def _picture(image: Image) -> PIL.Image.Image:
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        return _from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, bytes):
        return _opened(BytesIO(image), "bytes", len(image))
    if isinstance(image, str | Path):
        path = Path(image)
        if path.exists() and not path.is_file():
            raise UnreadableImageError(str(path), "it is no file")
        return _opened(path, str(path), path.stat().st_size)
    raise UnreadableImageError(
        type(image).__name__, "an image is a path, bytes, a PIL image, a uint8 array or tensor"
    )


def _opened(file: Path | BytesIO, name: str, size: int) -> PIL.Image.Image:
    if size == 0:
        raise UnreadableImageError(name, "the file is empty")
    # Pillow warns of odd, but readable files, and of large ones, which `upright` refuses.
    with _quietly, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PIL.Image.open(file)


def _from_array(array: npt.NDArray[np.uint8]) -> PIL.Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[-1] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour) or not array.size:
        shape = "x".join(map(str, array.shape))
        raise UnreadableImageError(
            f"{array.dtype} {shape}",
            "an array is uint8 (H, W) or (H, W, C), a tensor (C, H, W), with 1, 3 or 4 channels",
        )
    return PIL.Image.fromarray(np.ascontiguousarray(array))


def _eight_bits(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Grey values of 16 bits as 8; Pillow's own conversion cuts them off at 255."""
    if picture.mode == "F":
        raise ValueError("it has floating-point pixels, and where white lies is not known")
    if picture.mode not in _SIXTEEN_BITS:
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("it has 32-bit pixels, and where white lies is not known")
    return PIL.Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    transparent = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    if not transparent and "transparency" not in picture.info:
        return picture
    picture = picture.convert("RGBA")
    white = PIL.Image.new("RGBA", picture.size, "white")
    return PIL.Image.alpha_composite(white, picture)
