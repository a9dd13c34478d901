"""Metrics are scikit-learn's and scipy's, which an evaluation does not need."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy.special import logsumexp
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from resnetkit.evaluation.ambiguity_trial import _chance
from resnetkit.evaluation.confidence import cross_entropy, wilson
from resnetkit.evaluation.evaluation import _Answer, _confused, _figures

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


@given(PAIRS)
def test_classes_and_confusion(pairs: list[tuple[int, int]]) -> None:
    truth, guess = zip(*pairs, strict=True)
    answers = [
        _Answer(number=n, label=t, predicted=g, in_top5=True, loss=1.0, confidence=0.5)
        for n, (t, g) in enumerate(pairs)
    ]
    found = _figures(answers, tuple("abcdef"), ())
    shown = sorted({*truth, *guess})
    assert found.names == tuple("abcdef"[number] for number in shown)
    assert found.accuracy == pytest.approx(accuracy_score(truth, guess))
    # One class that nothing belongs to, for scikit-learn warns of a single one.
    assert (found.confusion == confusion_matrix(truth, guess, labels=[*shown, -1])[:-1, :-1]).all()
    scores = precision_recall_fscore_support(truth, guess, labels=shown, zero_division=np.nan)
    ours = [(row.precision, row.recall, row.f1, row.support) for row in found.classes]
    for row, *expected in zip(ours, *scores, strict=True):
        for value, wanted in zip(row, expected, strict=True):
            assert (value is None and np.isnan(wanted)) or value == pytest.approx(wanted)


@given(PAIRS)
def test_up_to_four_of_each_confusion_are_kept(pairs: list[tuple[int, int]]) -> None:
    wrong = [
        _Answer(number=n, label=t, predicted=g, in_top5=True, loss=1.0, confidence=1 / (n + 1))
        for n, (t, g) in enumerate(pairs)
        if t != g
    ]
    kept = [(answer.label, answer.predicted) for answer in _confused(wrong)]
    counts = Counter((answer.label, answer.predicted) for answer in wrong)
    assert Counter(kept) == {pair: min(count, 4) for pair, count in counts.items()}
    order = list(dict.fromkeys(kept))
    assert [counts[pair] for pair in order] == sorted(counts.values(), reverse=True)


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_intervals(images: int, share: float) -> None:
    hits = round(share * images)
    expected = binomtest(hits, images).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(hits, images) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_sign_test(pairs: list[tuple[bool, bool]]) -> None:
    best, second = zip(*pairs, strict=True)
    only = sum(a and not b for a, b in pairs)
    other = sum(b and not a for a, b in pairs)
    expected = binomtest(only, only + other).pvalue if only + other else 1.0
    assert _chance(best, second) == pytest.approx(expected)


@given(
    arrays_of.arrays(np.float32, st.integers(2, 20), elements=st.floats(-100, 100, width=32)),
    st.data(),
)
def test_cross_entropy(logits: np.ndarray, data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))
    exact = logits.astype(np.float64)
    expected = logsumexp(exact) - exact[label]
    assert cross_entropy(logits, label) == pytest.approx(expected, rel=1e-9, abs=1e-9)
