"""Intervals and calibration against their formulas, and against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from resnetkit.evaluation.confidence import calibration, wilson


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_formula(pair: tuple[int, int]) -> None:
    hits, n = pair
    share, z = hits / n, 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = wilson(hits, n)
    assert low == pytest.approx(max(0.0, middle - half), abs=1e-9)
    assert high == pytest.approx(min(1.0, middle + half), abs=1e-9)
    assert 0 <= low <= share <= high <= 1


def test_wilson_as_published() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81 of 263, 15 of 148, 0 of 20.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                               (0, 20, 0.0, 0.1611)):  # fmt: skip
        assert wilson(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.lists(st.tuples(st.floats(0.001, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_is_scikit_learns(pairs: list[tuple[float, bool]]) -> None:
    # scikit-learn's bins are open above; ours are open below, as Guo et al. print them.
    edges = np.linspace(0, 1, 16)
    sure = np.array([c for c, _ in pairs if np.abs(edges - c).min() > 1e-9])
    right = np.array([r for c, r in pairs if np.abs(edges - c).min() > 1e-9])
    if not len(sure):
        return
    found = calibration(sure, right)
    full = [one for one in found.bins if one.images]
    accuracies, confidences = calibration_curve(right, sure, n_bins=15)
    assert [one.accuracy for one in full] == pytest.approx(accuracies.tolist())
    assert [one.confidence for one in full] == pytest.approx(confidences.tolist())
    assert sum(one.images for one in found.bins) == len(sure)
    gaps = [one.images * abs(one.accuracy - one.confidence) for one in full]  # type: ignore[operator]
    assert found.ece == pytest.approx(sum(gaps) / len(sure))


def test_calibration_by_hand() -> None:
    sure = np.array([0.9, 0.92, 0.5, 0.52, 1.0])
    found = calibration(sure, np.array([True, False, True, True, True]), bins=10)
    # (0.4, 0.5] 1 right of 1; (0.5, 0.6] 1 of 1; (0.8, 0.9] 1 of 1; (0.9, 1] 1 of 2, mean 0.96.
    assert [one.images for one in found.bins] == [0, 0, 0, 0, 1, 1, 0, 0, 1, 2]
    assert found.ece == pytest.approx((0.5 + 0.48 + 0.1 + 2 * 0.46) / 5)
    assert found.bins[0].accuracy is None
    assert calibration(np.ones(3), np.ones(3, dtype=bool)).ece == 0
