"""The rows that need the demo world's judge: what a clip shows, and how much of what the tokens hold it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mindviz.evaluate.measure import TOKENS, flat
from mindviz.metrics import identify, label_score, mean_score
from mindviz.metrics.ratios import ratio_score
from mindviz.metrics.rows import Row, TestSet, centred_similarity, n_way_rows, papers_rule
from mindviz.simulate.films import Shot
from training.demo.judge import ASPECTS, Judge, shot_labels

JUDGE_WAYS = (2, 10, 50)
DERIVED = "derived"
SHOWN_OF_HELD, UNSEEN_OF_SEEN, OF_RIDGE = 0.8, 0.85, 1.0
"""Targets: shown over what a read-out of the tokens finds; unseen pairs over seen; the encoder over ridge."""


def labelled(test_set: TestSet, shots: Sequence[Shot], judge: Judge) -> TestSet:
    """The test_set with the class indices of each clip's shot, by aspect."""
    labels = [shot_labels(shots[i], judge.config) for i in test_set.shots]
    return replace(test_set, labels={a: np.array([label[a] for label in labels]) for a in ASPECTS})


# ---------------------------------------------------------------------- what the judge sees
def label_rows(
    method: str, by: str, said: Mapping[str, np.ndarray], test_set: TestSet, judge: Judge, permutations: int
) -> list[Row]:
    """Accuracy of labels (N,) by aspect, on each subset."""
    rows = []
    for subset, keep in test_set.subsets().items():
        for aspect, labels in said.items():
            predicted, truth = labels[keep], test_set.labels[aspect][keep]
            classes = len(judge.config.classes(aspect))
            score = label_score(aspect, by, predicted, truth, classes, test_set.shots[keep], permutations)
            rows.append(Row(method, subset, score))
    return rows


def judged_rows(method: str, clips: np.ndarray, test_set: TestSet, judge: Judge, permutations: int) -> list[Row]:
    """Accuracy of the judge's labels of `clips` for each aspect and subset, and n-way accuracy of the object.

    N-way by the paper's rule (the judge's three best classes of the true clip) and by the plain one.
    """
    probabilities = judge.probabilities(clips)
    said = {aspect: probabilities[aspect].argmax(axis=1) for aspect in ASPECTS}
    rows = label_rows(method, "judge", said, test_set, judge, permutations)
    plain = {"plain": test_set.labels["object"][:, None]}
    wanted = plain | papers_rule(judge.probabilities(test_set.clips)["object"])
    for ways in JUDGE_WAYS:
        rows += n_way_rows(method, "judge", "object", probabilities["object"], wanted, test_set, ways)
    return rows


# ---------------------------------------------------------------------- one accuracy against another
def derived_rows(
    shown: Mapping[str, np.ndarray], held: Mapping[str, Mapping[str, np.ndarray]], test_set: TestSet, held_by: str
) -> list[Row]:
    """What the decoded clips show over what a read-out of their tokens finds, and unseen pairs over seen ones.

    `shown` are labels (N,) by aspect; `held` likewise, for each source of tokens that was read out.
    """
    scores = []
    right = {a: (labels == test_set.labels[a]).astype(float) for a, labels in shown.items()}
    for source, said in held.items():
        for aspect, found in said.items():
            below = (found == test_set.labels[aspect]).astype(float)
            name, by = f"{aspect}: decoded over read-out of {source} tokens", f"judge; {held_by}"
            scores.append(ratio_score(name, by, right[aspect], below, test_set.shots, SHOWN_OF_HELD))
    subsets = test_set.subsets()
    pairs = [subsets[name] for name in ("whole shots, unseen pairs", "whole shots, seen pairs") if name in subsets]
    if len(pairs) == 2:
        for aspect, values in right.items():
            unseen, seen = (np.where(np.isin(np.arange(len(values)), keep), values, np.nan) for keep in pairs)
            name = f"{aspect}: unseen over seen pairs"
            scores.append(ratio_score(name, "judge", unseen, seen, test_set.shots, UNSEEN_OF_SEEN))
    return [Row(DERIVED, "all", score) for score in scores if score is not None]


def against_ridge_rows(encoder: np.ndarray, ridge: np.ndarray, wanted: np.ndarray, test_set: TestSet) -> list[Row]:
    """Identification by the encoder's tokens less that by ridge's, clip by clip, and their ratio.

    All are tokens (N, S, D); `wanted` those of the true captions.
    """
    found = [identify(centred_similarity(flat(t), flat(wanted)), test_set.shots) for t in (encoder, ridge)]
    n, rows = len(wanted), []
    for name, field in ((f"right clip of {n}", "right_clip"), (f"right shot among {n} clips", "right_shot")):
        ours, theirs = (getattr(f, field) for f in found)
        difference = mean_score(
            f"{name}: encoder minus ridge", TOKENS, ours - theirs, test_set.shots, {"no difference": 0.0}
        )
        ratio = ratio_score(f"{name}: encoder over ridge", TOKENS, ours, theirs, test_set.shots, OF_RIDGE)
        rows += [Row(DERIVED, "all", score) for score in (difference, ratio) if score is not None]
    return rows
