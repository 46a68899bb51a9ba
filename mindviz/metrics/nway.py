"""N-way top-k accuracy of a classifier's scores, in closed form: no trials are drawn.

The published evaluation repeatedly draws `n_way - 1` other classes at random and counts how often a true class ranks
among the `top_k` of these and itself. The number of drawn classes that beat the best true class is hypergeometric, so
the mean over all draws is known exactly.
"""

from __future__ import annotations

from math import comb

import numpy as np
from scipy.stats import hypergeom

from mindviz.types import MindvizError


def top_classes(scores: np.ndarray, count: int = 3) -> np.ndarray:
    """The `count` classes with the highest scores, best first; with 3, what the paper takes as the truth of a clip.

    Parameters
    ----------
    scores : ndarray, shape (N, C)
        The classifier's scores of the true clips.

    Returns
    -------
    ndarray, shape (N, count), int64
    """
    if scores.ndim != 2 or not 1 <= count <= scores.shape[1]:
        raise MindvizError(f"the top {count} classes need scores of shape (N, at least {count}), found {scores.shape}")
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def n_way_top_k(scores: np.ndarray, truth: np.ndarray, n_way: int, top_k: int = 1) -> np.ndarray:
    """The probability that a true class is among the `top_k` of itself and `n_way - 1` randomly drawn other classes.

    With one true class per clip this is plain n-way accuracy. With the three best classes of the true clip
    (`top_classes`) it is the rule of the paper's evaluation: any of the three must beat the others.

    Parameters
    ----------
    scores : ndarray, shape (N, C)
        The classifier's scores (logits or probabilities) of the decoded clips.
    truth : ndarray, shape (N,) or (N, M), integer
        The true class, or the M true classes, of each clip. The others are drawn without replacement from the C - M
        classes that are not true.
    n_way : int
        2 <= n_way <= C - M + 1.
    top_k : int
        1 <= top_k; at top_k >= n_way the result is 1.

    Returns
    -------
    ndarray, shape (N,), float64
        Its mean is the accuracy. Ties are broken at random, in expectation.

    Raises
    ------
    MindvizError
        If shapes do not match, scores are not finite, or a class is out of range or named twice.
    """
    scores, truth = _checked(np.asarray(scores), np.asarray(truth), n_way, top_k)
    num_true = truth.shape[1]
    true_scores = np.take_along_axis(scores, truth, axis=1)
    best = true_scores.max(axis=1, keepdims=True)
    above = (scores > best).sum(axis=1)
    tied_true = (true_scores == best).sum(axis=1)
    tied_others = (scores == best).sum(axis=1) - tied_true
    others = scores.shape[1] - num_true
    result = hypergeom.cdf(top_k - 1, others, above, n_way - 1)
    for i in np.flatnonzero(tied_others):
        weights = _first_true(int(tied_others[i]), int(tied_true[i]))
        result[i] = weights @ hypergeom.cdf(top_k - 1, others, above[i] + np.arange(len(weights)), n_way - 1)
    return result


def n_way_chance(n_way: int, top_k: int = 1, num_true: int = 1) -> float:
    """The expected value of `n_way_top_k` for random scores.

    A trial fails when the top k of all ``n_way - 1 + num_true`` classes are drawn ones. For the paper's three true
    classes and k = 1, chance is 3 / (n_way + 2), so 0.75 for 2-way, not 0.5; for one true class it is top_k / n_way.

    Examples
    --------
    >>> n_way_chance(2, num_true=3)
    0.75
    >>> n_way_chance(50)
    0.02
    """
    if n_way < 2 or top_k < 1 or num_true < 1:
        raise MindvizError(
            f"n_way must be at least 2, top_k and num_true at least 1, found {n_way}, {top_k} and {num_true}"
        )
    drawn = n_way - 1
    return 1.0 - comb(drawn, top_k) / comb(drawn + num_true, top_k)


def _first_true(others: int, true: int) -> np.ndarray:
    """P(j of the tied others come before the first of the tied true classes), j = 0..others, in a random order."""
    total = comb(others + true, true)
    return np.array([comb(others - j + true - 1, true - 1) / total for j in range(others + 1)])


def _checked(scores: np.ndarray, truth: np.ndarray, n_way: int, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    truth = truth[:, None] if truth.ndim == 1 else truth
    if scores.ndim != 2 or truth.ndim != 2 or len(scores) != len(truth) or truth.shape[1] == 0 or len(scores) == 0:
        raise MindvizError(
            f"expected scores (N, C) and true classes (N,) or (N, M), found {scores.shape} and {truth.shape}"
        )
    num_classes = scores.shape[1]
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= num_classes:
        raise MindvizError(f"true classes must be integers from 0 to {num_classes - 1}, found others")
    if not np.isfinite(scores).all():
        raise MindvizError("scores must be finite, found NaN or infinity")
    if (np.diff(np.sort(truth, axis=1), axis=1) == 0).any():
        raise MindvizError("the true classes of a clip must differ, found one named twice")
    if top_k < 1 or not 2 <= n_way <= num_classes - truth.shape[1] + 1:
        raise MindvizError(
            f"n_way must be 2 to {num_classes - truth.shape[1] + 1} for {num_classes} classes of which "
            f"{truth.shape[1]} are true, and top_k at least 1, found n_way {n_way} and top_k {top_k}"
        )
    return scores, truth
