"""Parcels and planted truths, against manual counts and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from mindviz.brain import parcellations
from mindviz.metrics.cortex import parcel_summary, truth_intervals, truth_score
from mindviz.metrics.inference import bootstrap_interval
from mindviz.types import MindvizError

YEO = parcellations.load("yeo7")
VISUAL, DEFAULT = (np.flatnonzero(YEO.labels == YEO.index(name))[:6] for name in ("Visual", "Default"))
VERTICES = np.concatenate([VISUAL, DEFAULT[:2]])  # three quarters of the voxels are visual
SHOTS = np.repeat(np.arange(5), 4)


def _maps(visual: float, default: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0.5, 1.5, (20, 8))
    return noise * np.r_[np.full(6, visual), np.full(2, default)]


def test_sums_shares_and_enrichment_match_manual_values() -> None:
    maps = np.tile(np.r_[np.ones(6), 3.0, 3.0], (20, 1))
    found = parcel_summary(maps, VERTICES, YEO, SHOTS)
    assert found.names == ("Visual", "Default") and found.counts.tolist() == [6, 2]
    np.testing.assert_allclose(found.mean, [1, 3])
    np.testing.assert_allclose(found.share, [0.5, 0.5])
    np.testing.assert_allclose(found.enrichment, [0.5 / 0.75, 0.5 / 0.25])
    np.testing.assert_allclose(found.share_interval, [[0.5, 0.5], [0.5, 0.5]])  # all clips are equal


def test_a_uniform_map_is_enriched_nowhere() -> None:
    found = parcel_summary(np.ones((20, 8)), VERTICES, YEO, SHOTS)
    np.testing.assert_allclose(found.enrichment, 1)


def test_intervals_equal_those_of_the_bootstrap_over_shots() -> None:
    maps = _maps(1, 2) * np.repeat([1, 2, 3, 4, 5], 4)[:, None]
    found = parcel_summary(maps, VERTICES, YEO, SHOTS, num=500, seed=3)
    expected = bootstrap_interval(maps[:, :6].mean(1), SHOTS, num=500, seed=3)
    np.testing.assert_allclose(found.mean_interval[0], expected)
    assert (found.enrichment_interval[:, 0] < found.enrichment).all()
    assert (found.enrichment_interval[:, 1] > found.enrichment).all()


def test_truth_scores_match_brute_force() -> None:
    rng = np.random.default_rng(0)
    answers, values, ceiling = rng.random(60) < 0.4, rng.random(60).round(1), rng.random(60)
    pairs = [
        (values[i] > values[j]) + (values[i] == values[j]) / 2
        for i in np.flatnonzero(answers)
        for j in np.flatnonzero(~answers)
    ]
    found = truth_score(values, answers, ceiling)
    assert found.auroc == pytest.approx(np.mean(pairs))
    perfect = truth_score(np.where(answers, ceiling, -1), answers, ceiling)
    assert perfect.auroc == 1 and perfect.rho == pytest.approx(1) and perfect.rho_within == pytest.approx(1)


def test_intervals_of_a_truth_score_equal_those_of_resampled_shots() -> None:
    """Against explicit draws: five hundred times, draw five shots and score the mean map of their clips."""
    rng = np.random.default_rng(0)
    answers, ceiling, maps = rng.random(30) < 0.4, rng.random(30), rng.random((20, 30))
    maps += 0.2 * answers * rng.random((20, 1))
    found = truth_intervals(maps, answers, ceiling, SHOTS, seed=7)
    sums = np.stack([maps[shot == SHOTS].sum(0) for shot in range(5)])
    draws = np.random.default_rng(7).multinomial(5, np.full(5, 1 / 5), size=500)
    scores = [truth_score(draw @ sums / 20, answers, ceiling) for draw in draws]
    np.testing.assert_allclose(found.auroc, np.quantile([s.auroc for s in scores], [0.025, 0.975]))
    np.testing.assert_allclose(found.rho_within, np.quantile([s.rho_within for s in scores], [0.025, 0.975]))
    assert found.auroc[0] < truth_score(maps.mean(0), answers, ceiling).auroc < found.auroc[1]
    assert found == truth_intervals(maps, answers, ceiling, SHOTS, seed=7)
    assert found != truth_intervals(maps, answers, ceiling, SHOTS, seed=8)
    same = truth_intervals(np.tile(maps[0], (20, 1)), answers, ceiling, SHOTS)
    assert same.auroc[0] == same.auroc[1]
    with pytest.raises(MindvizError, match="level between 0 and 1"):
        truth_intervals(maps, answers, ceiling, SHOTS, level=1.0)


def test_undefined_scores_are_nan() -> None:
    answers, ceiling = np.array([True, True, False]), np.array([0.5, 0.7, 0.2])
    constant = truth_score(np.ones(3), answers, ceiling)
    assert constant.auroc == 0.5 and np.isnan(constant.rho) and np.isnan(constant.rho_within)
    assert np.isnan(truth_score(np.arange(3.0), np.ones(3, bool), ceiling).auroc)


def test_voxels_without_a_value_are_left_out() -> None:
    rng = np.random.default_rng(3)
    answers, ceiling, maps = rng.random(30) < 0.4, rng.random(30), rng.random((20, 30))
    gaps = maps.copy()
    gaps[:, [2, 5, 11]] = np.nan
    kept = np.isfinite(gaps[0])
    assert truth_score(gaps.mean(0), answers, ceiling) == truth_score(
        maps[:, kept].mean(0), answers[kept], ceiling[kept]
    )
    expected = truth_intervals(maps[:, kept], answers[kept], ceiling[kept], SHOTS)
    assert truth_intervals(gaps, answers, ceiling, SHOTS) == expected
    for values, ceilings in ((maps[0] + np.inf, ceiling), (maps[0], ceiling * np.nan)):
        with pytest.raises(MindvizError, match="must be finite"):
            truth_score(values, answers, ceilings)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.ones((20, 7)), r"expected one value for each of 8 voxels, found maps \(20, 7\)"),
        (-np.ones((20, 8)), "not below 0"),
        (np.full((20, 8), np.nan), "must be finite"),
        (np.zeros((20, 8)), "found one of zeros only"),
    ],
)
def test_bad_maps_are_refused(maps: np.ndarray, message: str) -> None:
    with pytest.raises(MindvizError, match=message):
        parcel_summary(maps, VERTICES, YEO, SHOTS)


def test_voxels_outside_every_parcel_are_refused() -> None:
    outside = np.flatnonzero(YEO.labels == 0)[:8]
    assert outside.size == 8
    with pytest.raises(MindvizError, match="yeo7: expected a parcel with a voxel, found none"):
        parcel_summary(np.ones((20, 8)), outside, YEO, SHOTS)


@pytest.mark.parametrize("part", ["values", "answers", "ceiling"])
def test_a_truth_of_another_shape_is_refused(part: str) -> None:
    given = {"values": np.ones(4), "answers": np.ones(4, bool), "ceiling": np.ones(4)}
    given[part] = given[part][:3]
    with pytest.raises(MindvizError, match="must have one shape"):
        truth_score(**given)
