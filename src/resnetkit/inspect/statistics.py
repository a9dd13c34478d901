"""Statistics of activations over a set of images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from resnetkit.architecture.layer import Activation
from resnetkit.architecture.text import aligned
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.prediction import Images
from resnetkit.data.decoding.decode import Image, UnreadableImageError, name_of, pixels_of
from resnetkit.data.listing import ImageEntry, ImageSource
from resnetkit.display import Displayed
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.inference.engines.engine import EngineName, Pixels
from resnetkit.inference.prediction import is_one
from resnetkit.inspect.layer_outputs import engine_for, open_outputs
from resnetkit.inspect.models import Model, as_bundle, check_count
from resnetkit.inspect.places import Place, places

Array = npt.NDArray[np.float32]
#: Images in one pass: their activations are in memory at the same time.
_BATCH = 4
#: Values from this share of an image's largest on count as saturated.
_SATURATED = 0.99
#: Unreadable images named in the warning.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRow:
    """One block's output, or one activation layer's, over all images.

    ``mean`` and ``std`` are over all finite values, ``zeros`` is the share of exact zeros,
    ``dead`` the number of ``channels`` that were never above zero. ``saturated`` is the share of
    values that are at least 99 % of the largest of their image, ``non_finite`` of NaN and infinity.
    A block has ``main_rms`` and ``shortcut_rms``, the root mean squares of the two outputs that it
    adds, and ``ratio``, the first by the second.
    """

    path: str
    kind: str
    channels: int
    mean: float
    std: float
    zeros: float
    dead: int
    saturated: float
    non_finite: float
    main_rms: float | None = None
    shortcut_rms: float | None = None

    @property
    def ratio(self) -> float | None:
        """How large the residual is, by the shortcut; None for a layer, and for a zero shortcut."""
        if self.main_rms is None or not self.shortcut_rms:
            return None
        return self.main_rms / self.shortcut_rms


HEADS = ("path", "kind", "mean", "std", "zeros", "dead", "saturated", "main", "shortcut", "ratio")
NOTES = (
    "zeros: share of exact zeros; dead: channels never above zero; saturated: share of values of "
    "at least 99 % of the largest of their image",
    "main, shortcut: root mean squares of the outputs that a block adds; ratio: the first by the "
    "second",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationStatistics(Displayed):
    """Statistics of each block and activation layer over ``images`` images, in order.

    ``problems`` are the unreadable images, which were passed over, with the reason.
    """

    network: str
    images: int
    rows: tuple[ActivationRow, ...]
    problems: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, path: str) -> ActivationRow:
        """The row of a block or layer. Raises ``KeyError`` for another path."""
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(path)

    @property
    def heading(self) -> str:
        """The line above the table."""
        passed = f", {len(self.problems)} unreadable" if self.problems else ""
        return f"{self.network}: activations over {self.images:,} images{passed}"

    def cells(self) -> list[tuple[str, ...]]:
        """The texts of each row, in the order of ``HEADS``."""
        return [
            (
                row.path,
                row.kind,
                _number(row.mean),
                _number(row.std),
                f"{row.zeros:.1%}",
                f"{row.dead}/{row.channels}",
                f"{row.saturated:.2%}",
                _number(row.main_rms),
                _number(row.shortcut_rms),
                _number(row.ratio),
            )
            for row in self.rows
        ]

    def notes(self) -> list[str]:
        """The lines below the table: values that are not finite, and what the columns mean."""
        bad = [row.path for row in self.rows if row.non_finite]
        return [*([f"! not finite: {', '.join(bad)}"] if bad else []), *NOTES]

    def __str__(self) -> str:
        head, *lines = aligned([HEADS, *self.cells()], {0, 1})
        rule = "-" * max(map(len, (head, *lines)))
        return "\n".join([self.heading, "", head, rule, *lines, "", *self.notes()])

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; a number that is not finite is None."""
        return {
            "network": self.network,
            "images": self.images,
            "problems": [{"image": name, "problem": why} for name, why in self.problems],
            "rows": [
                {
                    "path": row.path,
                    "kind": row.kind,
                    "channels": row.channels,
                    "mean": _finite(row.mean),
                    "std": _finite(row.std),
                    "zeros": row.zeros,
                    "dead": row.dead,
                    "saturated": row.saturated,
                    "non_finite": row.non_finite,
                    "main_rms": _finite(row.main_rms),
                    "shortcut_rms": _finite(row.shortcut_rms),
                    "ratio": _finite(row.ratio),
                }
                for row in self.rows
            ],
        }


def activation_statistics(
    model: Model,
    images: Images,
    *,
    limit: int | None = None,
    engine: EngineName = "auto",
) -> ActivationStatistics:
    """Statistics of each block and activation layer over images.

    ``images`` are as in ``predict``: paths of images, folders and shards, or images in memory, any
    number of them; ``limit`` is the largest number used. Four are in memory at a time. ``model``
    and ``engine`` are as in ``feature_maps``.

    Warns with ``AssumptionWarning`` if unreadable images were passed over. Raises ``ValueError`` if
    none could be read, for paths without images, and for an unusable model or engine.

    >>> statistics = activation_statistics(model, "seven.png")
    >>> statistics["layer1.0"].channels
    64
    """
    if limit is not None:
        check_count("limit", limit)
    bundle = as_bundle(model)
    bundle.preprocess.check_pictures()
    rows = list(_measured(bundle))
    wanted = [layer for place, _ in rows for layer in place.layers]
    run = open_outputs(bundle, wanted, engine_for(model, engine))
    sums: dict[str, _Sums] = {}
    problems: list[tuple[str, str]] = []
    count = 0
    for pixels in _batches(bundle, islice(_entries(images), limit), problems):
        count += len(pixels)
        for path, values in run(pixels).items():
            sums.setdefault(path, _Sums()).add(values)
    if not count:
        reason = f" ({problems[0][0]}: {problems[0][1]})" if problems else ""
        raise InputError(f"no image could be read{reason}; give others", field="images")
    if problems:
        named = ", ".join(name for name, _ in problems[:_NAMED])
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        warnings.warn(
            f"{len(problems)} unreadable images were passed over: {named}{more}",
            AssumptionWarning,
            stacklevel=2,
        )
    return ActivationStatistics(
        network=bundle.network.name,
        images=count,
        rows=tuple(_row(place, kind, sums) for place, kind in rows),
        problems=tuple(problems),
    )


def _measured(bundle: Bundle) -> Iterator[tuple[Place, str]]:
    """Blocks, and activation layers except the last of each block, which is the block's output."""
    layers = {located.path: located.layer for located in bundle.network.layers()}
    known = places(bundle.network).values()
    last = {place.layer for place in known if place.level == "block"}
    for place in known:
        layer = layers.get(place.path)
        if place.level == "block":
            yield place, "block"
        elif isinstance(layer, Activation) and place.path not in last:
            yield place, layer.text


def _entries(images: Images) -> Iterator[ImageEntry]:
    """Paths may be folders and shards; anything else is an image."""
    if is_one(images):
        given: Iterable[Image] = [cast("Image", images)]
    else:
        given = cast("Iterable[Image]", images)
    for one in given:
        if isinstance(one, str | Path):
            yield from ImageSource([str(one)])
        else:
            yield ImageEntry(name=name_of(one), image=one)


def _batches(
    bundle: Bundle, entries: Iterable[ImageEntry], problems: list[tuple[str, str]]
) -> Iterator[Pixels]:
    found: list[npt.NDArray[np.uint8]] = []
    for entry in (one.loaded() for one in entries):
        if entry.image is None:
            problems.append((entry.name, entry.problem or ""))
            continue
        try:
            found.append(pixels_of(entry.image, bundle.preprocess))
        except UnreadableImageError as error:
            problems.append((entry.name, error.reason))
        if len(found) == _BATCH:
            yield np.stack(found)
            found = []
    if found:
        yield np.stack(found)


@dataclass(slots=True)
class _Sums:
    """Sums over images, in float64; values that are not finite are only counted."""

    count: int = 0
    non_finite: int = 0
    total: float = 0.0
    squares: float = 0.0
    zeros: int = 0
    saturated: int = 0
    highest: Array = field(default_factory=lambda: np.empty(0, np.float32))

    def add(self, values: Array) -> None:
        """Add a batch ``(N, C, ...)``."""
        values = values.reshape(*values.shape[:2], -1)
        good = np.isfinite(values)
        bad = values.size - int(good.sum())
        if bad:
            values = np.where(good, values, np.float32(0))
        self.count += values.size
        self.non_finite += bad
        self.total += float(values.sum(dtype=np.float64))
        self.squares += float(np.square(values, dtype=np.float64).sum())
        self.zeros += values.size - bad - int(np.count_nonzero(values))
        most = values.max(axis=(1, 2), keepdims=True)
        self.saturated += int(((values >= _SATURATED * most) & (most > 0)).sum())
        highest = values.max(axis=(0, 2))
        self.highest = np.maximum(self.highest, highest) if self.highest.size else highest

    @property
    def finite(self) -> int:
        return self.count - self.non_finite

    @property
    def mean_square(self) -> float:
        return self.squares / self.finite if self.finite else math.nan

    @property
    def mean(self) -> float:
        return self.total / self.finite if self.finite else math.nan


def _row(place: Place, kind: str, sums: dict[str, _Sums]) -> ActivationRow:
    found = sums[place.layer]
    rms = {
        name: None if path is None else math.sqrt(sums[path].mean_square)
        for name, path in (("main_rms", place.main), ("shortcut_rms", place.shortcut))
    }
    return ActivationRow(
        path=place.path,
        kind=kind,
        channels=len(found.highest),
        mean=found.mean,
        std=math.sqrt(max(0.0, found.mean_square - found.mean**2)),
        zeros=found.zeros / found.count,
        dead=int((found.highest <= 0).sum()),
        saturated=found.saturated / found.count,
        non_finite=found.non_finite / found.count,
        **rms,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
