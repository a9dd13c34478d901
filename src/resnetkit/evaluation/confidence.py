"""Confidence intervals for accuracy, and calibration of model confidence."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

#: Number of calibration bins, of equal width from 0 to 1 (Guo et al. 2017, section 5).
BINS = 15
#: The confidence level of an interval.
LEVEL = 0.95


def wilson(hits: int, images: int) -> tuple[float, float]:
    """The 95 % confidence interval of the proportion ``hits`` / ``images``.

    Wilson 1927, without continuity correction: unlike the normal approximation it holds near 0 and
    1, and for few images. It assumes independent samples.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, weight = hits / images, z * z / images
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / images + weight / (4 * images))
    # At the ends rounding would leave a share of 1e-17.
    return (
        0.0 if hits == 0 else max(0.0, middle - half),
        1.0 if hits == images else min(1.0, middle + half),
    )


def cross_entropy(logits: npt.NDArray[Any], label: int) -> float:
    """``-log softmax(logits)[label]`` of logits ``(num_classes,)``, in nats."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return float(np.log(np.exp(shifted).sum()) - shifted[label])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The images whose confidence is above ``low`` and at most ``high``.

    ``confidence`` is their mean, ``accuracy`` the share of correct predictions; None if there are
    no ``images``.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Calibration: whether 80 % of the predictions with confidence 0.8 are correct.

    Confidence is the largest softmax. ``ece`` is the expected calibration error of Guo et al. 2017
    (arXiv:1706.04599, equation 3): the mean over all images of the distance between confidence and
    accuracy of their bin, ``bins`` of equal width. 0 is perfect.
    """

    ece: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"ece": self.ece, "bins": [asdict(one) for one in self.bins]}


def calibration(
    confidences: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int = BINS
) -> Calibration:
    """The calibration of predictions with ``confidences`` ``(N,)``, 0 to 1."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidences, edges[1:-1], right=True)
    counts = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidences, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    return Calibration(
        ece=float(np.abs(hits - sure).sum() / len(confidences)),
        bins=tuple(
            Bin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                images=int(count),
                confidence=float(sure[number] / count) if count else None,
                accuracy=float(hits[number] / count) if count else None,
            )
            for number, count in enumerate(counts)
        ),
    )
