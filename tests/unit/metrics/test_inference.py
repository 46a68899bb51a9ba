"""Permutation tests and bootstrap intervals: exact small cases, error rates under the null, and the effect of shots."""

from itertools import permutations

import numpy as np
import pytest

from mindviz.metrics import (
    bootstrap_interval,
    chance_levels,
    label_score,
    mean_score,
    permutation_test,
    shuffled_by_shot,
)
from mindviz.types import MindvizError


def film(rng, num_shots=40, classes=8):
    """Shot index and label per clip; each shot has 1 to 4 clips of one label."""
    lengths = rng.integers(1, 5, num_shots)
    return np.repeat(np.arange(num_shots), lengths), np.repeat(rng.integers(0, classes, num_shots), lengths)


def test_shuffling_moves_whole_shots():
    shots = np.array([7, 7, 3, 3, 3, 9])
    rng = np.random.default_rng(0)
    orders = {tuple(shuffled_by_shot(shots, rng).tolist()) for _ in range(200)}
    blocks = [(0, 1), (2, 3, 4), (5,)]
    assert orders == {sum(order, ()) for order in permutations(blocks)}


def test_the_permutation_p_matches_all_orders_of_shots():
    rng = np.random.default_rng(1)
    shots = np.array([0, 0, 1, 2, 2, 2, 3])
    scores = rng.normal(size=(7, 7)) + 1.0 * np.eye(7)
    blocks = [(0, 1), (2,), (3, 4, 5), (6,)]
    exact = [scores[np.arange(7), list(sum(order, ()))].mean() for order in permutations(blocks)]
    observed = np.trace(scores) / 7
    test = permutation_test(scores, shots, num=20_000)
    assert test.observed == pytest.approx(observed)
    assert test.shuffled == pytest.approx(np.mean(exact), abs=0.02)
    assert test.p == pytest.approx(np.mean(np.array(exact) >= observed - 1e-12), abs=0.015)


def test_false_positives_stay_at_the_level_although_clips_are_dependent():
    """Autocorrelated predictions without information: 5 % of tests may fall below 0.05; without blocks, more do."""
    blocked, free = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shots, truth = film(rng, num_shots=20, classes=2)
        predicted = np.repeat(rng.integers(0, 2, 20), np.bincount(shots))
        match = predicted[:, None] == truth[None]
        blocked.append(permutation_test(match, shots, num=199, seed=seed).p)
        free.append(permutation_test(match, np.arange(len(shots)), num=199, seed=seed).p)
    rate, rate_free = np.mean(np.array(blocked) <= 0.05), np.mean(np.array(free) <= 0.05)
    assert rate <= 0.10
    assert rate_free > rate


def test_the_permutation_test_detects_a_true_effect():
    rng = np.random.default_rng(3)
    shots, truth = film(rng)
    score = label_score("category", "judge", truth, truth, 8, shots, num_permutations=999)
    assert score.value == 1 and score.p == 1 / 1000 and (score.low, score.high) == (1, 1)
    assert score.shuffled == pytest.approx(score.chance["prior"], abs=0.03)
    half = np.where(rng.random(len(truth)) < 0.5, truth, rng.integers(0, 8, len(truth)))
    mixed = label_score("category", "judge", half, truth, 8, shots, num_permutations=999)
    assert mixed.low < mixed.value < mixed.high and mixed.p == 1 / 1000


def test_bootstrap_covers_the_truth_when_shots_are_drawn_whole():
    covered, covered_free = [], []
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        shots = np.repeat(np.arange(40), 4)
        values = np.repeat(rng.normal(size=40), 4) + 0.3 * rng.normal(size=160)
        for blocks, results in ((shots, covered), (np.arange(160), covered_free)):
            low, high = bootstrap_interval(values, blocks, num=500, seed=seed)
            results.append(low <= 0 <= high)
    assert 0.88 <= np.mean(covered) <= 0.99
    assert np.mean(covered_free) < 0.8


def test_results_are_reproducible_with_a_seed():
    rng = np.random.default_rng(5)
    shots, truth = film(rng)
    values = rng.normal(size=len(shots))
    assert bootstrap_interval(values, shots, num=100, seed=1) == bootstrap_interval(values, shots, num=100, seed=1)
    assert bootstrap_interval(values, shots, num=100, seed=1) != bootstrap_interval(values, shots, num=100, seed=2)
    match = truth[:, None] == truth[None]
    nulls = [permutation_test(match, shots, 50, seed).null for seed in (1, 1, 2)]
    assert (nulls[0] == nulls[1]).all() and (nulls[0] != nulls[2]).any()


def test_chance_levels():
    chance = chance_levels(np.array([0, 0, 0, 1]), 4)
    assert (chance.uniform, chance.prior, chance.majority) == (0.25, 0.625, 0.75)
    score = mean_score("ssim", "uniform", np.array([0.1, 0.3, 0.5]), np.arange(3), {"grey": 0.2})
    assert score.value == pytest.approx(0.3) and score.chance == {"grey": 0.2} and score.p is None


def test_bad_input_is_refused():
    with pytest.raises(MindvizError, match="two shots"):
        permutation_test(np.eye(3), np.zeros(3))
    with pytest.raises(MindvizError, match="square"):
        permutation_test(np.ones((3, 2)), np.arange(3))
    with pytest.raises(MindvizError, match="two shots"):
        bootstrap_interval(np.ones(3), np.zeros(3))
    with pytest.raises(MindvizError, match="finite"):
        bootstrap_interval(np.array([1, np.nan]), np.arange(2))
    with pytest.raises(MindvizError, match="level"):
        bootstrap_interval(np.ones(2), np.arange(2), level=1.5)
    with pytest.raises(MindvizError, match="0 to 3"):
        chance_levels(np.array([4]), 4)
    with pytest.raises(MindvizError, match="one shape"):
        label_score("m", "j", np.zeros(2, int), np.zeros(3, int), 2, np.arange(3))
