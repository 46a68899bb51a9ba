"""The rows of a report: scores of each method's clips, by subset of the test clips and by judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from einops import rearrange

from mindviz.metrics.identification import cosine_similarity, identify
from mindviz.metrics.inference import permutation_test, shuffled_by_shot
from mindviz.metrics.nway import n_way_chance, n_way_top_k, top_classes
from mindviz.metrics.pixels import psnr, ssim
from mindviz.metrics.scores import Score, mean_score
from mindviz.types import MindvizError

DECODED = "decoded"
MOST_DB = 90.0
"""PSNR is capped here, because equal clips would make it and its mean infinite."""
_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "SSIM (uniform window)": lambda a, b: ssim(a, b, "uniform"),
    "SSIM (gaussian window)": lambda a, b: ssim(a, b, "gaussian"),
    "PSNR (dB)": lambda a, b: np.minimum(psnr(a, b), MOST_DB),
}


@dataclass(frozen=True)
class TestSet:
    """The true clips of one test run, with which the clips of all methods are compared.

    Attributes
    ----------
    clips : uint8 (N, F, H, W, 3)
    shots : (N,) the shot that fills most of each clip: the unit of permutation tests and bootstraps
    straddles, unseen : bool (N,): the clip contains a cut; no training film shows its (object, setting) pair
    labels : class indices (N,) of that shot, by aspect; empty if unknown
    """

    clips: np.ndarray
    shots: np.ndarray
    straddles: np.ndarray
    unseen: np.ndarray
    labels: Mapping[str, np.ndarray]
    __test__: ClassVar[bool] = False  # despite its name, pytest must not collect it

    def __post_init__(self) -> None:
        if len(np.unique(self.shots)) < 2:
            raise MindvizError(
                f"a report needs clips of at least two shots, found {len(self.clips)} clips of one (--limit)"
            )

    def subsets(self) -> dict[str, np.ndarray]:
        """Indices of the clips in each subset with at least two shots; `all` first."""
        whole = ~self.straddles
        masks = {"all": np.ones(len(self.shots), bool)}
        if self.straddles.any():
            masks |= {"whole shots": whole}
        if self.unseen.any():
            masks |= {"whole shots, seen pairs": whole & ~self.unseen, "whole shots, unseen pairs": whole & self.unseen}
        masks |= {"straddling a cut": self.straddles}
        return {name: np.flatnonzero(m) for name, m in masks.items() if len(np.unique(self.shots[m])) > 1}


@dataclass(frozen=True)
class Row:
    """A score of the clips of `method` on `subset`."""

    method: str
    subset: str
    score: Score


# ---------------------------------------------------------------------- n-way
def n_way_rows(
    method: str,
    judge: str,
    what: str,
    scores: np.ndarray,
    wanted: Mapping[str, np.ndarray],
    test_set: TestSet,
    ways: int,
) -> list[Row]:
    """N-way top-1 accuracy by each rule in `wanted`; rules with too few classes are skipped.

    Parameters
    ----------
    what : what is classified: ``"object"``, ``"frame"``, ``"video"``.
    scores : a classifier's scores for the method's clips, (N, C), or for each of their frames, (N, F, C).
    wanted : by rule name, the true classes (N, M) or (N, F, M); see `papers_rule`.
    """
    rows = []
    for rule, truth in wanted.items():
        classes, num_true = scores.shape[-1], truth.shape[-1]
        if ways > classes - num_true + 1:
            continue
        values = n_way_top_k(scores.reshape(-1, classes), truth.reshape(-1, num_true), ways)
        by_clip = values.reshape(len(scores), -1).mean(axis=1)
        chance = {"random scores": n_way_chance(ways, num_true=num_true)}
        score = mean_score(f"{what}, {ways}-way top-1, {rule}", judge, by_clip, test_set.shots, chance)
        rows.append(Row(method, "all", score))
    return rows


def papers_rule(scores: np.ndarray) -> dict[str, np.ndarray]:
    """The paper's truth: the three best classes of the true clip, from scores (..., C) to classes (..., 3)."""
    best = top_classes(scores.reshape(-1, scores.shape[-1]), 3)
    return {"paper's rule": best.reshape(*scores.shape[:-1], 3)}


# ---------------------------------------------------------------------- pixels
def psnr_matrix(decoded: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PSNR of every decoded clip against every true clip, (N, N), from the mean squared errors."""
    x, y = (rearrange(c, "n f h w c -> n (f h w c)").astype(np.float32) / 255 for c in (decoded, truth))
    errors = ((x**2).mean(1)[:, None] + (y**2).mean(1)[None]) - 2 * (x @ y.T) / x.shape[1]
    return -10 * np.log10(np.maximum(errors, 10 ** (-MOST_DB / 10)))


def pixel_rows(
    clips: Mapping[str, np.ndarray], test_set: TestSet, baselines: Sequence[str], permutations: int, ssim_shuffles: int
) -> list[Row]:
    """SSIM and PSNR of the clips of each method, and the gain of the decoded ones over each of the `baselines`.

    SSIM is slow, so its permutation test uses only `ssim_shuffles` permutations: its p cannot fall below
    1 / (ssim_shuffles + 1). Baselines are methods in `clips` that do not depend on the scan.
    """
    present = [b for b in baselines if b in clips]
    rows = []
    for name, measure in _MEASURES.items():
        values = {method: measure(shown, test_set.clips) for method, shown in clips.items()}
        chance = {b: float(values[b].mean()) for b in present}
        scores = {m: mean_score(name, "formula", v, test_set.shots, chance) for m, v in values.items()}
        if DECODED in clips:
            shuffled, p = _pixel_control(name, measure, clips[DECODED], test_set, permutations, ssim_shuffles)
            scores[DECODED] = replace(scores[DECODED], shuffled=shuffled, p=p)
        rows += [Row(method, "all", score) for method, score in scores.items()]
        for b in present if DECODED in clips else ():
            gain = mean_score(f"{name}, gain over {b}", "formula", values[DECODED] - values[b], test_set.shots, {})
            rows.append(Row(DECODED, "all", gain))
    return rows


def _pixel_control(
    name: str,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    decoded: np.ndarray,
    test_set: TestSet,
    permutations: int,
    ssim_shuffles: int,
) -> tuple[float, float]:
    """The mean of a measure over truths permuted by shot, and its p."""
    if name.startswith("PSNR"):
        test = permutation_test(psnr_matrix(decoded, test_set.clips), test_set.shots, permutations)
        return test.shuffled, test.p
    rng = np.random.default_rng(0)
    orders = [shuffled_by_shot(test_set.shots, rng) for _ in range(ssim_shuffles)]
    null = np.array([measure(decoded, test_set.clips[order]).mean() for order in orders])
    observed = measure(decoded, test_set.clips).mean()
    return float(null.mean()), (1 + int((null >= observed).sum())) / (1 + len(null))


# ---------------------------------------------------------------------- embeddings
def centred_similarity(predicted: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Cosine (N, M) of predictions (N, D) with candidates (M, D), each set centred by its own mean.

    Centring removes what all clips share.
    """
    return cosine_similarity(predicted - predicted.mean(axis=0), candidates - candidates.mean(axis=0))


def identification_rows(
    judge: str,
    predicted: np.ndarray,
    candidates: np.ndarray,
    test_set: TestSet,
    permutations: int,
    method: str = DECODED,
) -> list[Row]:
    """Identification among the N test clips: embeddings (N, D) of the predictions against those of the true clips.

    Empty if all predictions are equal, as they then cannot distinguish clips.
    """
    if np.allclose(predicted, predicted[:1]):
        return []
    similarity = centred_similarity(predicted, candidates)
    found = identify(similarity, test_set.shots)
    n = len(similarity)
    measured = {
        f"right clip of {n}": (found.right_clip, found.chance_clip),
        f"right shot among {n} clips": (found.right_shot, found.chance_shot),
        "other clips less similar than the true one": (found.pairwise, 0.5),
    }
    rows = [
        Row(method, "all", mean_score(name, judge, values, test_set.shots, {"random": chance}))
        for name, (values, chance) in measured.items()
    ]
    test = permutation_test(similarity, test_set.shots, permutations)
    score = mean_score("similarity to the true clip", judge, np.diag(similarity), test_set.shots, {})
    return [*rows, Row(method, "all", replace(score, shuffled=test.shuffled, p=test.p))]


def similarity_rows(
    method: str, judge: str, shown: np.ndarray, true: np.ndarray, test_set: TestSet, permutations: int
) -> list[Row]:
    """The mean cosine, without centring, of embeddings (N, D) of a method's clips with those of the true ones."""
    similarity = cosine_similarity(shown, true)
    score = mean_score("picture similarity (cosine)", judge, np.diag(similarity), test_set.shots, {})
    test = permutation_test(similarity, test_set.shots, permutations)
    return [Row(method, "all", replace(score, shuffled=test.shuffled, p=test.p))]
