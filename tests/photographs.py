"""Folders of class folders, cut from the photographs that scikit-image ships in its wheel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import skimage.data

CLASSES = ("brick", "chelsea", "coffee", "immunohistochemistry", "rocket")


def photograph(name: str) -> np.ndarray:
    """uint8 ``(H, W)`` or ``(H, W, 3)``."""
    return getattr(skimage.data, name)()


def crops(name: str, count: int, columns: tuple[float, float], seed: int) -> list[PIL.Image.Image]:
    """Crops of mixed sizes from the given share of the columns of one photograph."""
    image = photograph(name)
    width = image.shape[1]
    image = image[:, int(columns[0] * width) : int(columns[1] * width)]
    draw = np.random.default_rng([seed, CLASSES.index(name)])
    found = []
    for _ in range(count):
        rows, cols = draw.integers(56, 110, size=2)
        top = draw.integers(0, image.shape[0] - rows)
        left = draw.integers(0, image.shape[1] - cols)
        found.append(PIL.Image.fromarray(image[top : top + rows, left : left + cols]))
    return found


def write_classes(
    root: Path,
    count: int,
    *,
    columns: tuple[float, float] = (0, 1),
    classes: tuple[str, ...] = CLASSES,
    seed: int = 0,
) -> Path:
    """``root/CLASS/NN.jpg`` or ``.png``, ``count`` of each class."""
    for name in classes:
        folder = root / name
        folder.mkdir(parents=True)
        for number, crop in enumerate(crops(name, count, columns, seed)):
            crop.save(folder / f"{number:02}.{'png' if number % 4 == 0 else 'jpg'}")
    return root


def write_divided(root: Path, train: int, held: int) -> Path:
    """Training images from the left of each photograph, the others from the right."""
    write_classes(root / "train", train, columns=(0, 0.55))
    write_classes(root / "val", held, columns=(0.55, 1), seed=1)
    write_classes(root / "test", held, columns=(0.55, 1), seed=2)
    return root


def add_odd_files(folder: Path) -> None:
    """A grey-scale, a palette with transparency, a CMYK and a turned image; two that are broken."""
    first = crops("coffee", 1, (0, 1), seed=9)[0]
    first.convert("L").save(folder / "grey.png")
    palette = first.convert("P")
    palette.info["transparency"] = 0
    palette.save(folder / "palette.png")
    first.convert("CMYK").save(folder / "cmyk.jpg")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    first.save(folder / "turned.jpg", exif=exif)
    first.save(folder / "truncated.jpg")
    (folder / "truncated.jpg").write_bytes((folder / "truncated.jpg").read_bytes()[:900])
    (folder / "empty.png").touch()
