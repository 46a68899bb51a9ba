"""The rows of a report: what each method's clips score, by subset of the test clips, and the tables they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from einops import rearrange

from mindviz.metrics import (
    Score,
    cosine_similarity,
    grey_clip,
    identify,
    label_score,
    mean_score,
    n_way_chance,
    n_way_top_k,
    permutation_test,
    psnr,
    shuffled_by_shot,
    ssim,
    top_classes,
)
from mindviz.simulate.films import PAIRS_HELD_OUT, Shot
from mindviz.types import MindvizError
from training.judge import ASPECTS, Judge, dominant_shot, shot_labels

WAYS = (2, 10)


@dataclass(frozen=True)
class Trial:
    """What the decoded clips are compared with: the true clips of one test run.

    Attributes
    ----------
    clips : uint8 (N, F, H, W, 3)
    labels : class indices (N,) by aspect, of the shot that fills most of the clip
    shots : (N,) that shot's number in the film: the block of permutation tests and bootstraps
    straddles, unseen : bool (N,): a cut falls into the clip; no training film shows its (object, setting) pair
    """

    clips: np.ndarray
    labels: dict[str, np.ndarray]
    shots: np.ndarray
    straddles: np.ndarray
    unseen: np.ndarray

    def subsets(self) -> dict[str, np.ndarray]:
        """Indices of the clips of each subset that has at least two shots; `all` first."""
        whole = ~self.straddles
        masks = {
            "all": np.ones(len(self.shots), bool),
            "whole shots": whole,
            "whole shots, seen pairs": whole & ~self.unseen,
            "whole shots, unseen pairs": whole & self.unseen,
            "straddling a cut": self.straddles,
        }
        return {name: np.flatnonzero(m) for name, m in masks.items() if len(np.unique(self.shots[m])) > 1}


@dataclass(frozen=True)
class Row:
    """A score, of whose clips (`method`) on which of them (`subset`)."""

    method: str
    subset: str
    score: Score


def make_trial(clips: np.ndarray, shots: Sequence[Shot], first_frames: np.ndarray, judge: Judge) -> Trial:
    """Label the true clips (N, F, H, W, 3), which begin at `first_frames` (N,) of the film."""
    found = [dominant_shot(shots, int(f), int(f) + clips.shape[1]) for f in first_frames]
    index = np.array([i for i, _ in found])
    labels = [shot_labels(shots[i], judge.config) for i in index]
    trial = Trial(
        clips,
        {a: np.array([label[a] for label in labels]) for a in ASPECTS},
        index,
        np.array([straddles for _, straddles in found]),
        np.array([(shots[i].object, shots[i].setting) in PAIRS_HELD_OUT for i in index]),
    )
    if len(np.unique(index)) < 2:
        raise MindvizError(f"a report needs clips of at least two shots, found {len(clips)} clips of one")
    return trial


# ---------------------------------------------------------------------- what the judge sees
def judged_rows(method: str, clips: np.ndarray, trial: Trial, judge: Judge, permutations: int) -> list[Row]:
    """Accuracy of the judge's labels of `clips` for each aspect and subset, and n-way accuracy of the object."""
    probabilities = judge.probabilities(clips)
    rows = []
    for subset, keep in trial.subsets().items():
        for aspect in ASPECTS:
            predicted, truth = probabilities[aspect][keep].argmax(axis=1), trial.labels[aspect][keep]
            classes = len(judge.config.classes(aspect))
            score = label_score(aspect, "judge", predicted, truth, classes, trial.shots[keep], permutations)
            rows.append(Row(method, subset, score))
    return rows + _n_way_rows(method, probabilities["object"], trial, judge)


def _n_way_rows(method: str, scores: np.ndarray, trial: Trial, judge: Judge) -> list[Row]:
    """The paper's rule (the judge's three best classes of the true clip) and the plain one, on the object's classes."""
    rules = {
        "plain": trial.labels["object"][:, None],
        "paper's rule": top_classes(judge.probabilities(trial.clips)["object"], 3),
    }
    rows = []
    for rule, truth in rules.items():
        for ways in WAYS:
            values = n_way_top_k(scores, truth, ways)
            chance = {"random scores": n_way_chance(ways, num_true=truth.shape[1])}
            score = mean_score(f"object, {ways}-way top-1, {rule}", "judge", values, trial.shots, chance)
            rows.append(Row(method, "all", score))
    return rows


# ---------------------------------------------------------------------- pixels
def psnr_matrix(decoded: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PSNR of every decoded clip with every true clip, (N, N), from the mean squared errors."""
    x, y = (rearrange(c, "n f h w c -> n (f h w c)").astype(np.float32) / 255 for c in (decoded, truth))
    errors = ((x**2).mean(1)[:, None] + (y**2).mean(1)[None]) - 2 * (x @ y.T) / x.shape[1]
    return -10 * np.log10(np.maximum(errors, 1e-9))


def pixel_rows(
    decoded: np.ndarray, trial: Trial, mean_training: np.ndarray | None, permutations: int, ssim_shuffles: int
) -> list[Row]:
    """SSIM and PSNR of the decoded clips and of what knows nothing of the scan, and the gain over the latter.

    `mean_training` is the mean training video (F, H, W, 3), if the training films are at hand. SSIM is slow, so its
    shuffled control uses `ssim_shuffles` permutations: its p cannot fall below 1 / (ssim_shuffles + 1).
    """
    baselines = {"grey frame": grey_clip(*trial.clips.shape[1:4])}
    if mean_training is not None:
        baselines["mean training video"] = mean_training
    measures = {
        "SSIM (uniform window)": lambda a, b: ssim(a, b, "uniform"),
        "SSIM (gaussian window)": lambda a, b: ssim(a, b, "gaussian"),
        "PSNR (dB)": psnr,
    }
    rows = []
    for name, measure in measures.items():
        values = {"decoded": measure(decoded, trial.clips)}
        for baseline, clip in baselines.items():
            values[baseline] = measure(np.broadcast_to(clip, trial.clips.shape), trial.clips)
        chance = {b: float(values[b].mean()) for b in baselines}
        scores = {m: mean_score(name, "formula", v, trial.shots, chance) for m, v in values.items()}
        if name.startswith("PSNR"):
            test = permutation_test(psnr_matrix(decoded, trial.clips), trial.shots, permutations)
            shuffled, p = test.shuffled, test.p
        else:
            null = _shuffled_means(measure, decoded, trial, ssim_shuffles)
            p = (1 + int((null >= scores["decoded"].value).sum())) / (1 + len(null))
            shuffled = float(null.mean())
        scores["decoded"] = Score(**(asdict(scores["decoded"]) | {"shuffled": shuffled, "p": p}))
        rows += [Row(method, "all", score) for method, score in scores.items()]
        for b in baselines:
            gain = mean_score(f"{name}, gain over {b}", "formula", values["decoded"] - values[b], trial.shots, {})
            rows.append(Row("decoded", "all", gain))
    return rows


def _shuffled_means(measure: Any, decoded: np.ndarray, trial: Trial, num: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    orders = [shuffled_by_shot(trial.shots, rng) for _ in range(num)]
    return np.array([measure(decoded, trial.clips[order]).mean() for order in orders])


# ---------------------------------------------------------------------- identification
def identification_rows(
    judge_name: str, predicted: np.ndarray, candidates: np.ndarray, trial: Trial, permutations: int
) -> list[Row]:
    """Which of the N test clips was it: embeddings (N, D) of the predictions against those of the true clips.

    Each set is centred by its own mean, so that what all clips share does not count.
    """
    similarity = cosine_similarity(predicted - predicted.mean(axis=0), candidates - candidates.mean(axis=0))
    found = identify(similarity, trial.shots)
    n = len(similarity)
    measured = {
        f"right clip of {n}": (found.right_clip, found.chance_clip),
        f"right shot among {n} clips": (found.right_shot, found.chance_shot),
        "other clips less similar than the true one": (found.pairwise, 0.5),
    }
    rows = [
        Row("decoded", "all", mean_score(name, judge_name, values, trial.shots, {"random": chance}))
        for name, (values, chance) in measured.items()
    ]
    test = permutation_test(similarity, trial.shots, permutations)
    score = mean_score("similarity to the true clip", judge_name, np.diag(similarity), trial.shots, {})
    return [*rows, Row("decoded", "all", Score(**(asdict(score) | {"shuffled": test.shuffled, "p": test.p})))]


# ---------------------------------------------------------------------- tables
def markdown(title: str, facts: dict[str, Any], rows: Sequence[Row]) -> str:
    """The report as Markdown: the facts, then one table for each method and subset."""
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += ["Intervals: 95 %, bootstrap over shots. Shuffled and p: the truths of whole shots permuted.", ""]
    for group in dict.fromkeys((r.method, r.subset) for r in rows):
        lines += [f"## {group[0]}: {group[1]}", ""]
        lines += [
            "| measured | by | score | 95 % interval | chance and baselines | shuffled | p | clips |",
            "|" + "---|" * 8,
        ]
        lines += [_line(r.score) for r in rows if (r.method, r.subset) == group]
        lines.append("")
    return "\n".join(lines)


def _line(score: Score) -> str:
    chance = ", ".join(f"{name} {value:.3f}" for name, value in score.chance.items()) or "-"
    shuffled = "-" if score.shuffled is None else f"{score.shuffled:.3f}"
    p = "-" if score.p is None else f"{score.p:.4g}"
    cells = (score.metric, score.judge, f"{score.value:.3f}", f"{score.low:.3f} to {score.high:.3f}", chance)
    return "| " + " | ".join([*cells, shuffled, p, str(score.num_clips)]) + " |"
