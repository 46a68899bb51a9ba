"""Accuracy of predicted labels, and its chance levels."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from mindviz.metrics.inference import bootstrap_interval, permutation_test
from mindviz.types import MindvizError


@dataclass(frozen=True)
class Chance:
    """Accuracy of guessing: uniformly, in proportion to the class frequencies of `truth`, or always the commonest."""

    uniform: float
    prior: float
    majority: float


@dataclass(frozen=True)
class Score:
    """One line of a report: a number, the levels to compare it with, and who measured it.

    Attributes
    ----------
    metric : what is measured, such as ``"category"`` or ``"ssim (uniform)"``.
    judge : the classifier or formula that measured it.
    value, low, high : the mean over clips and its 95 % interval (bootstrap over shots).
    num_clips : number of clips averaged.
    chance : chance levels by name (`Chance`, or baselines such as the mean training video).
    shuffled, p : the mean over truths permuted by shot, and the p-value; None where not tested.
    """

    metric: str
    judge: str
    value: float
    low: float
    high: float
    num_clips: int
    chance: dict[str, float]
    shuffled: float | None = None
    p: float | None = None


def chance_levels(truth: np.ndarray, num_classes: int) -> Chance:
    """Chance levels for integer labels `truth` (N,) in 0..num_classes-1."""
    truth = np.asarray(truth)
    if truth.ndim != 1 or len(truth) == 0 or truth.min() < 0 or truth.max() >= num_classes:
        raise MindvizError(f"labels must be a non-empty (N,) array of integers from 0 to {num_classes - 1}")
    share = np.bincount(truth, minlength=num_classes) / len(truth)
    return Chance(1 / num_classes, float((share**2).sum()), float(share.max()))


def label_score(
    metric: str,
    judge: str,
    predicted: np.ndarray,
    truth: np.ndarray,
    num_classes: int,
    shots: np.ndarray,
    num_permutations: int = 10_000,
    seed: int = 0,
) -> Score:
    """Accuracy of `predicted` (N,) against `truth` (N,), with chance, interval and permutation test by shot (N,)."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise MindvizError(f"predicted and true labels must have one shape, found {predicted.shape} and {truth.shape}")
    chance = chance_levels(truth, num_classes)
    test = permutation_test(predicted[:, None] == truth[None, :], shots, num_permutations, seed)
    low, high = bootstrap_interval(predicted == truth, shots, seed=seed)
    return Score(metric, judge, test.observed, low, high, len(truth), asdict(chance), test.shuffled, test.p)


def mean_score(
    metric: str, judge: str, values: np.ndarray, shots: np.ndarray, chance: dict[str, float], seed: int = 0
) -> Score:
    """The mean of one value per clip (N,), with its interval and the levels in `chance`."""
    low, high = bootstrap_interval(values, shots, seed=seed)
    return Score(metric, judge, float(np.mean(values)), low, high, len(values), dict(chance))
