"""Ratios of one accuracy to another, with bootstrap intervals over shots."""

from __future__ import annotations

import numpy as np

from mindviz.metrics.scores import Score
from mindviz.types import MindvizError


def bootstrap_ratio(
    top: np.ndarray, bottom: np.ndarray, shots: np.ndarray, level: float = 0.95, num: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """The ratio of the mean of `top` to that of `bottom`, and its percentile interval over resampled shots.

    Both are resampled together, so that variation of shots that affects both alike does not widen the interval.

    Parameters
    ----------
    top, bottom : ndarray, shape (N,)
        One value per clip; NaN where a clip does not count. The two may count different clips.
    shots : ndarray, shape (N,)

    Returns
    -------
    ratio, low, high : float
        Draws in which `bottom` has a mean of 0 or counts no clip are left out of the interval.

    Raises
    ------
    MindvizError
        If shapes do not match, either of the two counts no clip, or the mean of `bottom` is not above 0.
    """
    top, bottom, shots = np.asarray(top, np.float64), np.asarray(bottom, np.float64), np.asarray(shots)
    if top.ndim != 1 or top.shape != bottom.shape or shots.shape != top.shape:
        raise MindvizError(
            f"a ratio: expected values (N,) and a shot for each, found {top.shape}, {bottom.shape} and {shots.shape}"
        )
    if np.isnan(top).all() or np.isnan(bottom).all() or not np.nanmean(bottom) > 0:
        raise MindvizError("a ratio: expected clips in both parts and a denominator with a mean above 0, found none")
    _, members = np.unique(shots, return_inverse=True)
    sums = [np.bincount(members, weights=np.nan_to_num(v)) for v in (top, bottom)]
    counts = [np.bincount(members, weights=~np.isnan(v)) for v in (top, bottom)]
    shot_count = len(sums[0])
    draws = np.random.default_rng(seed).multinomial(shot_count, np.full(shot_count, 1 / shot_count), size=num)
    with np.errstate(divide="ignore", invalid="ignore"):
        above, below = ((draws @ s) / (draws @ c) for s, c in zip(sums, counts, strict=True))
        ratios = above / below
    low, high = np.quantile(ratios[np.isfinite(ratios)], [(1 - level) / 2, (1 + level) / 2])
    return float(np.nanmean(top) / np.nanmean(bottom)), float(low), float(high)


def ratio_score(
    metric: str, judge: str, top: np.ndarray, bottom: np.ndarray, shots: np.ndarray, target: float
) -> Score | None:
    """`bootstrap_ratio` as a line of a report, with the `target` it should reach; None if the ratio is undefined."""
    if np.isnan(top).all() or np.isnan(bottom).all() or not np.nanmean(bottom) > 0:
        return None
    ratio, low, high = bootstrap_ratio(top, bottom, shots)
    return Score(metric, judge, ratio, low, high, int((~np.isnan(top)).sum()), {"target": target})
