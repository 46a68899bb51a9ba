"""Is it above chance? Permutation tests and bootstrap intervals that respect shots.

Clips of one shot look alike and share scans, so they are not independent: both methods move whole shots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindviz.types import MindvizError

BLOCK = 15
"""Clips in a block that replaces a shot where none are known: 30 s at a TR of 2 s."""


def blocks(count: int) -> np.ndarray:
    """The block of each clip, (count,), for use in place of unknown shots."""
    return np.arange(count) // BLOCK


@dataclass(frozen=True)
class Permutation:
    """A permutation test. `p` is one-sided: how often shuffled truths score at least `observed`, never below 1/(num+1).

    `null` (num,) are the shuffled scores; `shuffled` is their mean, the score of shuffled scans.
    """

    observed: float
    shuffled: float
    p: float
    null: np.ndarray


def shuffled_by_shot(shots: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A permutation of the N clips that shuffles the shots and keeps the clips of each together.

    Assigning the truth of clip ``order[i]`` to prediction i preserves the autocorrelation of truths and predictions and
    breaks only their association. Shots may differ in length.

    Returns
    -------
    ndarray, shape (N,), int64: a permutation of 0..N-1
    """
    _, members = np.unique(shots, return_inverse=True)
    place = rng.permutation(members.max() + 1)
    return np.argsort(place[members], kind="stable")


def permutation_test(scores: np.ndarray, shots: np.ndarray, num: int = 10_000, seed: int = 0) -> Permutation:
    """Test the mean score of predictions against their own truth by assigning them the truths of other shots.

    Parameters
    ----------
    scores : ndarray, shape (N, N)
        ``scores[i, j]``: how well prediction i fits the truth of clip j (0/1 for a label, a similarity, …).
        The observed score is the mean of the diagonal.
    shots : ndarray, shape (N,)
        The shot of each clip; at least two shots.
    num : int
        Number of permutations.
    """
    scores, shots = np.asarray(scores, dtype=np.float64), np.asarray(shots)
    n = len(scores)
    if scores.shape != (n, n) or shots.shape != (n,) or num < 1:
        raise MindvizError(
            f"expected square scores, one shot per clip and at least one permutation, found {scores.shape}, "
            f"{shots.shape} and {num}"
        )
    _check(scores, shots)
    rng = np.random.default_rng(seed)
    rows = np.arange(n)
    null = np.array([scores[rows, shuffled_by_shot(shots, rng)].mean() for _ in range(num)])
    observed = float(np.diag(scores).mean())
    # The tolerance counts an equal mean, summed in another order, towards the null.
    p = (1 + int((null >= observed - 1e-12).sum())) / (1 + num)
    return Permutation(observed, float(null.mean()), p, null)


def bootstrap_interval(
    values: np.ndarray, shots: np.ndarray, level: float = 0.95, num: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` over shots drawn with replacement.

    For the interval of a difference between two methods on the same clips, pass the differences.

    Parameters
    ----------
    values : ndarray, shape (N,)
    shots : ndarray, shape (N,)
        At least two different shots.
    level : float
        Between 0 and 1.

    Returns
    -------
    low, high : float
    """
    values, shots = np.asarray(values, dtype=np.float64), np.asarray(shots)
    if values.ndim != 1 or shots.shape != values.shape or not 0 < level < 1 or num < 1:
        raise MindvizError(
            f"expected one value and one shot per clip, a level between 0 and 1 and num of at least 1, found "
            f"{values.shape}, {shots.shape}, {level} and {num}"
        )
    means = shot_means(values[:, None], shots, num, seed)[:, 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def shot_means(values: np.ndarray, shots: np.ndarray, num: int, seed: int = 0) -> np.ndarray:
    """Means (num, K) of `values` (N, K) over the clips of shots drawn with replacement, `num` times."""
    values, shots = np.asarray(values, dtype=np.float64), np.asarray(shots)
    if values.ndim != 2 or shots.shape != values.shape[:1] or num < 1:
        raise MindvizError(
            f"expected values (N, K), one shot for each of N clips and num of at least 1, found {values.shape}, "
            f"{shots.shape} and {num}"
        )
    _check(values, shots)
    _, members = np.unique(shots, return_inverse=True)
    sums = np.stack([np.bincount(members, weights=column) for column in values.T], axis=1)
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=num)
    means: np.ndarray = (draws @ sums) / (draws @ np.bincount(members))[:, None]
    return means


def _check(values: np.ndarray, shots: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise MindvizError("scores must be finite, found NaN or infinity")
    if len(np.unique(shots)) < 2:
        raise MindvizError(f"at least two shots are needed to shuffle or resample them, found {len(np.unique(shots))}")
