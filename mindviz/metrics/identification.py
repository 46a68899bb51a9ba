"""Identification: which of N candidate clips was seen, judged from a prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindviz.types import MindvizError


@dataclass(frozen=True)
class Identification:
    """How well each of N predictions picks its own clip among N candidates; all arrays have shape (N,), float64.

    Attributes
    ----------
    right_clip : 1 where the most similar candidate is the true clip (1/k where k candidates tie for first place).
    right_shot : 1 where the most similar candidate lies in the true clip's shot (a share in case of ties).
    rank : of the true clip, from 1; ties count half a rank each.
    pairwise : the share of the other candidates that are less similar than the true clip; chance 0.5.
    chance_clip, chance_shot : expected for random similarities.
    """

    right_clip: np.ndarray
    right_shot: np.ndarray
    rank: np.ndarray
    pairwise: np.ndarray
    chance_clip: float
    chance_shot: float


def cosine_similarity(predicted: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Cosine of each prediction (N, D) with each candidate (M, D): (N, M). A zero vector is an error."""
    if predicted.ndim != 2 or candidates.ndim != 2 or predicted.shape[1] != candidates.shape[1]:
        raise MindvizError(
            f"expected embeddings (N, D) and (M, D) of one width, found {predicted.shape} and {candidates.shape}"
        )
    different, which = np.unique(candidates, axis=0, return_inverse=True)
    # Each distinct candidate once: rounding of the dot products depends on the column, and equal candidates must tie.
    similarity: np.ndarray = (_unit(predicted) @ _unit(different).T)[:, which]
    return similarity


def identify(similarity: np.ndarray, shots: np.ndarray) -> Identification:
    """Score a similarity matrix whose row i is the prediction for clip i, and column j candidate clip j.

    Parameters
    ----------
    similarity : ndarray, shape (N, N)
    shots : ndarray, shape (N,)
        The shot of each clip (any labels).
    """
    similarity, shots = np.asarray(similarity, dtype=np.float64), np.asarray(shots)
    n = len(similarity)
    if similarity.shape != (n, n) or shots.shape != (n,) or n < 2:
        raise MindvizError(
            f"expected a square similarity matrix of at least 2 clips and one shot for each, found "
            f"{similarity.shape} and {shots.shape}"
        )
    if not np.isfinite(similarity).all():
        raise MindvizError("similarities must be finite, found NaN or infinity")
    own = np.diag(similarity)[:, None]
    above = (similarity > own).sum(axis=1)
    equal = (similarity == own).sum(axis=1) - 1
    first = similarity == similarity.max(axis=1, keepdims=True)
    first = first / first.sum(axis=1, keepdims=True)
    same_shot = shots[:, None] == shots[None, :]
    rank = 1 + above + equal / 2
    return Identification(
        right_clip=np.diag(first).copy(),
        right_shot=(first * same_shot).sum(axis=1),
        rank=rank,
        pairwise=1 - (rank - 1) / (n - 1),
        chance_clip=1 / n,
        chance_shot=float(same_shot.mean()),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise MindvizError("embeddings must be finite and not zero to be compared")
    return vectors / norms
