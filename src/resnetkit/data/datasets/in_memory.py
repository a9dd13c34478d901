"""Images in memory as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnetkit.data.datasets.dataset import IN_MEMORY, Dataset, Sample
from resnetkit.data.decoding.decode import Image


def in_memory(images: Sequence[Image], labels: Sequence[int], classes: Sequence[str]) -> Dataset:
    """A flat dataset of images with class indices, named by their numbers, and paths if any."""
    shapes = {image.shape if isinstance(image, np.ndarray) else None for image in images}
    shape = shapes.pop() if len(shapes) == 1 else None
    return Dataset(
        name=IN_MEMORY,
        classes=tuple(classes),
        flat=tuple(
            Sample(
                name=f"{number}, {image}" if isinstance(image, Path) else f"{number}",
                label=label,
                image=image,
            )
            for number, (image, label) in enumerate(zip(images, labels, strict=True))
        ),
        parts={},
        shape=None if shape is None else (shape[2] if len(shape) == 3 else 1, *shape[:2]),
    )
