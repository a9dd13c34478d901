"""IDX files, as published: MNIST, Fashion-MNIST, KMNIST, EMNIST and similar.

Format: LeCun, Cortes & Burges, THE MNIST DATABASE: two zero bytes, the type (8: unsigned byte), the
number of dimensions, each dimension as a big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from resnetkit.data.datasets.class_names import CLASSES, numbered_names
from resnetkit.data.datasets.dataset import Dataset, Part, Sample
from resnetkit.errors import InputError

#: Prefixes of the published files; EMNIST's have a name before them.
_PARTS: dict[str, Part] = {"train": "train", "t10k": "test", "test": "test"}
#: Fashion-MNIST's class names (its README; Xiao et al. 2017, arXiv:1708.07747), which its files
#: lack, by the digests of its training and test labels.
_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_PUBLISHED = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": _FASHION,
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": _FASHION,
}


def idx_files(path: Path) -> dict[Part, tuple[Path, Path]]:
    """The files of images and of labels by split; empty if the folder has none."""
    found: dict[Part, tuple[Path, Path]] = {}
    if not path.is_dir():
        return found
    files = sorted(p for p in path.iterdir() if p.is_file())
    for word, part in _PARTS.items():
        images, labels = (
            [p for p in files if _is(p.name, word, kind)] for kind in ("images", "labels")
        )
        if images and labels and part not in found:
            found[part] = (images[0], labels[0])
    return found


def _is(name: str, word: str, kind: str) -> bool:
    plain = name.removesuffix(".gz").replace(".", "-")
    return plain.endswith("-ubyte") and f"{word}-{kind}-idx" in plain


def idx(path: Path, *, least: int = 2) -> Dataset:
    """The images of a folder of IDX files, ``.gz`` or not: train and test split.

    Class names are the lines of ``classes.txt``, else the published ones if the labels are those of
    Fashion-MNIST, else numbers. Raises ``ValueError`` for files that are damaged or do not match.
    """
    arrays = {part: _pair(*files) for part, files in idx_files(path).items()}
    if "train" not in arrays and least > 1:
        raise InputError(f"{path} has no train-images-idx3-ubyte with its labels; add them")
    highest = max(int(labels.max()) for _, labels in arrays.values())
    classes = numbered_names(path, highest, str(path))
    if not (path / CLASSES).exists():
        known = (hashlib.sha256(labels.tobytes()).hexdigest() for _, labels in arrays.values())
        classes = next((_PUBLISHED[digest] for digest in known if digest in _PUBLISHED), classes)
    if len(classes) < least:
        raise InputError(f"{path} has one class; training requires at least {least} classes")
    first = next(iter(arrays.values()))[0]
    parts: dict[Part, tuple[Sample, ...]] = {
        part: tuple(
            Sample(name=f"{part}/{number:05}", label=int(label), image=image)
            for number, (image, label) in enumerate(zip(images, labels, strict=True))
        )
        for part, (images, labels) in arrays.items()
    }
    return Dataset(
        name=str(path), classes=classes, parts=parts, shape=(1, first.shape[1], first.shape[2])
    )


def _pair(images: Path, labels: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    pixels, numbers = _array(images, 3), _array(labels, 1)
    if len(pixels) != len(numbers) or not len(pixels):
        raise InputError(
            f"{images} has {len(pixels)} images and {labels} {len(numbers)} labels; "
            "they do not belong together"
        )
    return pixels, numbers


def _array(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); get it again") from None
    head = 4 + 4 * dimensions
    if len(data) < head or data[:4] != bytes([0, 0, 8, dimensions]):
        raise InputError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
    shape = tuple(int.from_bytes(data[place : place + 4], "big") for place in range(4, head, 4))
    if len(data) - head != int(np.prod(shape, dtype=np.int64)):
        size = "x".join(map(str, shape))
        raise InputError(f"{path} has {len(data) - head} bytes for {size} values; get it again")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
