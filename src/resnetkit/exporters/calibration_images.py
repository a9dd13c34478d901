"""The images of an export, for calibration and for verification."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.bundle.bundle import Bundle
from resnetkit.data.datasets.dataset import Dataset, Sample
from resnetkit.data.datasets.image_folder import files_in
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import SplitRecord, load_record
from resnetkit.data.datasets.subset import matched
from resnetkit.errors import InputError

#: Number of calibration images, NNCF's default; more change little.
CALIBRATION = 300
#: Maximum number of verification images.
PROOF = 1000
#: The default verification images.
PHOTOGRAPHS = "64 JPEG crops of scikit-learn's two photographs"
NOISE = "64 JPEG files of coloured noise (with scikit-learn installed, photographs)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Disjoint ``calibration`` and ``proof`` images; ``data`` names the source of ``proof``, and
    ``labelled`` says whether its labels are indices of the bundle's classes."""

    calibration: tuple[Sample, ...]
    proof: tuple[Sample, ...]
    data: str
    labelled: bool


def material(
    bundle: Bundle,
    place: Path | None,
    *,
    calibrate: str | Path | None,
    agree_on: str | Path | None,
    quantise: bool,
) -> Material:
    """The given images, or those of the run that contains the bundle at ``place``.

    Calibration uses training images, verification others: those of ``agree_on``; else those held
    out by the run or ``calibrate``; else every second image of ``calibrate``; else photographs.
    Raises ``ValueError`` for unusable data, and if there are no calibration images.
    """
    record = None if place is None else load_record(place.resolve().parent)
    source = _source(calibrate, record)
    train: Sequence[Sample]
    held: Sequence[Sample]
    train, held = ((), ()) if source is None else _divided(source, record, calibrate is None)
    if quantise and not train:
        raise InputError(
            "int8 requires calibration images, and the bundle is not in a run that has some; "
            "give calibrate, a folder of images or digits",
            field="calibrate",
        )
    if agree_on is not None:
        source = _open(agree_on)
        held = source.examples
        if quantise:
            seen = {example.digest() for example in train}
            held = tuple(example for example in held if example.digest() not in seen)
            if not held:
                raise InputError(f"{agree_on} has only calibration images; give other images")
    data = PHOTOGRAPHS if find_spec("sklearn") else NOISE
    labelled = False
    if held and source is not None:
        data = source.name
        held, labelled = _labelled(bundle, source, _spread(held, PROOF))
    return Material(
        calibration=_spread(train, CALIBRATION) if quantise else (),
        proof=tuple(held) or photographs(),
        data=data,
        labelled=labelled,
    )


def photographs() -> tuple[Sample, ...]:
    """JPEG files of several sizes, cropped from the photographs in scikit-learn's wheel, or
    from noise where it is not installed."""
    draw = np.random.default_rng(0)
    found = []
    for number, image in enumerate(_pictures()):
        for index in range(32):
            height, width = draw.integers(120, 400, size=2)
            top = int(draw.integers(0, image.shape[0] - height))
            left = int(draw.integers(0, image.shape[1] - width))
            file = io.BytesIO()
            crop = image[top : top + height, left : left + width]
            PIL.Image.fromarray(crop).save(file, "JPEG", quality=90)
            name = f"photograph {number}, crop {index}"
            found.append(Sample(name=name, label=-1, image=file.getvalue()))
    return tuple(found)


def _pictures() -> Sequence[npt.NDArray[np.uint8]]:
    """Two pictures ``(427, 640, 3)``.

    The noise has the spectrum of photographs, whose amplitude falls with the frequency (Field
    1987, doi:10.1364/JOSAA.4.002379), and three times as much grey as colour.
    """
    if find_spec("sklearn"):
        from sklearn.datasets import load_sample_images

        found: Sequence[npt.NDArray[np.uint8]] = load_sample_images().images
        return found
    draw = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(427)[:, None], np.fft.rfftfreq(640)[None])
    pictures = []
    for _ in range(2):
        spectrum = np.fft.rfft2(draw.normal(size=(4, 427, 640))) / np.maximum(frequency, 1 / 640)
        grey, *colours = np.fft.irfft2(spectrum, (427, 640))
        levels = np.stack([3 * grey + colour for colour in colours], -1)
        low, high = np.quantile(levels, (0.01, 0.99))
        pictures.append(np.clip(255 * (levels - low) / (high - low), 0, 255).astype(np.uint8))
    return pictures


def _source(calibrate: str | Path | None, record: SplitRecord | None) -> Dataset | None:
    if calibrate is not None:
        return _open(calibrate)
    if record is None:
        return None
    try:
        return open_dataset(record.data, least=1)
    except InputError:
        return None  # the run's images no longer exist


def _open(data: str | Path) -> Dataset:
    """A source of labelled images, or a folder of images without classes."""
    try:
        return open_dataset(data, least=1)
    except InputError:
        files = files_in(Path(data)) if Path(data).is_dir() else []
        if not files:
            raise
        flat = tuple(Sample(name=str(file), label=-1, image=file) for file in files)
        return Dataset(name=str(data), classes=(), flat=flat, parts={})


def _divided(
    source: Dataset, record: SplitRecord | None, own: bool
) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The calibration and the held-out images."""
    parts = dict(source.parts)
    if source.flat and own and record is not None:
        parts = {part: record.part_of(source.flat, part) for part in record.parts}
    held = parts.get("test") or parts.get("validation") or ()
    train = parts.get("train") or ()
    if train and held:
        return train, held
    every = source.examples
    return every[::2], every[1::2]


def _spread(examples: Sequence[Sample], most: int) -> tuple[Sample, ...]:
    """``most`` evenly spaced examples, as they are often sorted by class."""
    if len(examples) <= most:
        return tuple(examples)
    chosen = np.linspace(0, len(examples) - 1, most).round().astype(int)
    return tuple(examples[number] for number in chosen.tolist())


def _labelled(
    bundle: Bundle, source: Dataset, examples: Sequence[Sample]
) -> tuple[tuple[Sample, ...], bool]:
    try:
        return tuple(matched(source, examples, bundle.classes)), bool(source.classes)
    except (InputError, IndexError):
        return tuple(examples), False
