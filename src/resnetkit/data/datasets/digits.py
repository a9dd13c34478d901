"""scikit-learn's 1797 handwritten digits, 8x8 pixels, with a fixed split."""

from __future__ import annotations

import numpy as np

from resnetkit.data.datasets.dataset import DIGITS, PARTS, Dataset, Sample
from resnetkit.data.datasets.splits import stratified
from resnetkit.errors import require

#: Shares of each class for validation and test.
VALIDATION, TEST = 0.15, 0.20
#: Constant, so that no run trains on another's test images.
_SEED = 0


def digits() -> Dataset:
    """1797 grey images of ten classes; one in five is a test image, whatever the seed.

    The grey values 0..16 become ``round(v * 255 / 16)``, uint8. Source: Alpaydin & Kaynak 1998,
    UCI optical recognition of handwritten digits, as shipped by scikit-learn.
    """
    data = require("sklearn.datasets", f"the dataset {DIGITS}").load_digits()
    pixels = np.round(data.images * 255 / 16).astype(np.uint8)
    examples = [
        Sample(name=f"{DIGITS}/{number:04}", label=int(label), image=image)
        for number, (label, image) in enumerate(zip(data.target, pixels, strict=True))
    ]
    labels = [example.label for example in examples]
    places = stratified(labels, validation=VALIDATION, test=TEST, seed=_SEED)
    return Dataset(
        name=DIGITS,
        classes=tuple(str(name) for name in data.target_names),
        parts={
            part: tuple(e for e, p in zip(examples, places, strict=True) if p == part)
            for part in PARTS
        },
    )
