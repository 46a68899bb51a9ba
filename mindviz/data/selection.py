"""Which vertices respond reliably to a repeated film (Wen et al. 2018; MinD-Video, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mindviz.types import MindvizError


@dataclass(frozen=True)
class Selection:
    """The reliability of every cortical vertex over repeats.

    Attributes
    ----------
    vertices : ndarray, shape (V,), int32
        Selected vertices, ascending.
    t : ndarray, shape (cortex,), float32
        One-sample t over training segments of the Fisher z.
    significant : ndarray, shape (cortex,), bool
        One-sided p below alpha after Bonferroni over all vertices.
    """

    vertices: np.ndarray
    t: np.ndarray
    significant: np.ndarray

    def among(self, read: np.ndarray, cortex: int) -> Selection:
        """The selection over all `cortex` vertices, of which only `read`, shape (n,), were tested; others get t = 0."""
        t, significant = np.zeros(cortex, np.float32), np.zeros(cortex, bool)
        t[read], significant[read] = self.t, self.significant
        return Selection(read[self.vertices].astype(np.int32), t, significant)


def fisher_z(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Fisher z of the correlation between two repeats, row by row: two z-scored [V, time] -> float32 [V]."""
    correlation = np.einsum("vt,vt->v", first, second) / first.shape[1]
    return np.arctanh(np.clip(correlation, -0.9999, 0.9999)).astype(np.float32)


def check_segments(count: int, whose: str = "") -> None:
    """Refuse fewer training segments than the t-test needs."""
    if count < 2:
        raise MindvizError(
            f"{whose}selecting vertices needs at least 2 training segments with two repeats, found {count}"
        )


def select_reliable(fisher: np.ndarray, alpha: float = 0.01, fraction: float = 0.5) -> Selection:
    """Keep the most reliable `fraction` of the significant vertices.

    Parameters
    ----------
    fisher : ndarray, shape (segments, cortex)
        Fisher z of each training segment's two repeats.
    alpha : float
        Level of the one-sided test that the mean z is above 0, after Bonferroni over the vertices.
    fraction : float
        Share of the significant vertices to keep, those with the largest t.

    Raises
    ------
    MindvizError
        For fewer than 2 segments, or if no vertex is significant.
    """
    segments, cortex = fisher.shape
    check_segments(segments)
    spread = fisher.std(axis=0, ddof=1)
    t = np.divide(fisher.mean(axis=0) * np.sqrt(segments), spread, out=np.zeros(cortex, np.float64), where=spread > 0)
    significant = stats.t.sf(t, segments - 1) * cortex < alpha
    if not significant.any():
        needed = stats.t.isf(alpha / cortex, segments - 1)
        alike = "; the correlations of all segments are equal: is a file duplicated?" if not spread.any() else ""
        raise MindvizError(
            f"no vertex is reliable: expected some of {cortex} vertices with p < {alpha} (Bonferroni) over "
            f"{segments} training segments, a t above {needed:.4g} (less with more segments), found a largest t of "
            f"{t.max():.4g}{alike}"
        )
    keep = max(1, round(fraction * significant.sum()))
    vertices = np.sort(np.argsort(np.where(significant, -t, np.inf), kind="stable")[:keep])
    return Selection(vertices.astype(np.int32), t.astype(np.float32), significant)
