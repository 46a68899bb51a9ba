"""Ratios and their intervals, against explicit resampling of shots."""

import numpy as np
import pytest

from mindviz.metrics.ratios import bootstrap_ratio, ratio_score
from mindviz.types import MindvizError


def test_the_interval_equals_that_of_resampled_shots():
    rng = np.random.default_rng(0)
    shots = np.repeat(np.arange(30), [1, 2, 3] * 10)
    top, bottom = rng.random(60) * 0.5, rng.random(60) + 0.5
    ratio, low, high = bootstrap_ratio(top, bottom, shots, num=4000)
    assert ratio == pytest.approx(top.mean() / bottom.mean())
    drawn = []
    for _ in range(2000):
        keep = np.concatenate([np.flatnonzero(shots == s) for s in rng.integers(30, size=30)])
        drawn.append(top[keep].mean() / bottom[keep].mean())
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([low, high], abs=0.02)


def test_clips_may_count_in_only_one_of_the_two_means():
    values = np.array([1.0, 0, 1, 1, 1, 0])
    unseen = np.array([True, True, False, False, True, False])
    top, bottom = np.where(unseen, values, np.nan), np.where(~unseen, values, np.nan)
    ratio, low, high = bootstrap_ratio(top, bottom, np.arange(6))
    assert ratio == pytest.approx(1.0) and low <= 1 <= high
    score = ratio_score("unseen over seen", "judge", top, bottom, np.arange(6), 0.85)
    assert score is not None and score.num_clips == 3 and score.chance == {"target": 0.85}


def test_equal_values_have_a_ratio_of_one_with_no_uncertainty():
    values = np.random.default_rng(1).random(40)
    assert bootstrap_ratio(values, values, np.arange(40) // 2) == pytest.approx((1, 1, 1))


def test_a_ratio_with_an_empty_or_zero_denominator_is_refused():
    some, none = np.ones(4), np.full(4, np.nan)
    assert ratio_score("a", "b", some, np.zeros(4), np.arange(4), 1) is None
    assert ratio_score("a", "b", none, some, np.arange(4), 1) is None
    with pytest.raises(MindvizError, match="mean above 0"):
        bootstrap_ratio(some, np.zeros(4), np.arange(4))
    with pytest.raises(MindvizError, match="a shot for each"):
        bootstrap_ratio(some, some, np.arange(3))
