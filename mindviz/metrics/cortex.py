"""Cortical maps in numbers: by network or area, and against a known truth.

The voxels that a decoder sees are selected (most are visual), so the share of a map in a network says little; what
matters is that share relative to the network's share of voxels: its enrichment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mindviz.brain.parcellations import Parcellation, parcel_totals
from mindviz.metrics.inference import shot_means
from mindviz.types import MindvizError


@dataclass(frozen=True)
class ParcelSummary:
    """Maps of N clips by parcel, for the G parcels with at least one voxel. Intervals are low and high, (G, 2).

    Attributes
    ----------
    names : of the G parcels.
    counts : (G,), voxels in each.
    mean : (G,), of the map over the parcel's voxels, averaged over clips.
    share : (G,), of the sum of the map over all parcels.
    enrichment : (G,), share of the map divided by share of voxels; 1 for a uniform map.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    mean: np.ndarray
    mean_interval: np.ndarray
    share: np.ndarray
    share_interval: np.ndarray
    enrichment: np.ndarray
    enrichment_interval: np.ndarray


def parcel_summary(
    maps: np.ndarray,
    vertices: np.ndarray,
    parcels: Parcellation,
    shots: np.ndarray,
    level: float = 0.95,
    num: int = 2000,
    seed: int = 0,
) -> ParcelSummary:
    """Summarise maps by parcel, with bootstrap intervals over shots.

    Parameters
    ----------
    maps : ndarray, shape (N, V)
        Of N clips; not negative (magnitudes, or attention).
    vertices : ndarray, shape (V,)
        The cortical index of each voxel.
    shots : ndarray, shape (N,)
        The shot of each clip; whole shots are drawn with replacement. With a single shot, intervals are NaN.

    Raises
    ------
    MindvizError
        For maps that have the wrong shape, are negative, or are zero in all parcels.
    """
    maps, vertices = np.asarray(maps, dtype=np.float64), np.asarray(vertices)
    _check(maps, vertices, parcels, level)
    counts, sums = parcel_totals(maps, parcels.labels[vertices], len(parcels.names))
    held = np.flatnonzero(counts)
    if not held.size:
        raise MindvizError(f"parcellation {parcels.name}: expected a parcel with a voxel, found none")
    counts, sums = counts[held], sums[:, held]
    if not (sums.sum(axis=1) > 0).all():
        raise MindvizError("expected maps that are not zero in all parcels, found one of zeros only")
    lone = len(np.unique(shots)) < 2
    draws = np.full((1, held.size), np.nan) if lone else shot_means(sums, shots, num, seed)  # (num, G)
    average, bounds = sums.mean(axis=0), [(1 - level) / 2, (1 + level) / 2]

    def interval(values: np.ndarray) -> np.ndarray:
        return np.quantile(values, bounds, axis=0).T

    return ParcelSummary(
        names=tuple(parcels.names[i + 1] for i in held),
        counts=counts,
        mean=average / counts,
        mean_interval=interval(draws / counts),
        share=_shares(average),
        share_interval=interval(_shares(draws)),
        enrichment=_enrichment(average, counts),
        enrichment_interval=interval(_enrichment(draws, counts)),
    )


@dataclass(frozen=True)
class MapByParcel:
    """One map by parcel: all G parcels of a parcellation, in its order.

    Attributes
    ----------
    names : of the G parcels.
    counts : (G,), vertices with a value in each.
    mean : (G,), of the map over these vertices; NaN where there are none.
    share, enrichment : (G,), as in `ParcelSummary`; NaN where there are no vertices, and everywhere for a map that has
        negative values or is zero in all parcels, because shares are then undefined.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    mean: np.ndarray
    share: np.ndarray
    enrichment: np.ndarray


def map_by_parcel(values: np.ndarray, parcels: Parcellation) -> MapByParcel:
    """Summarise one map, of either sign, by parcel.

    Parameters
    ----------
    values : ndarray, shape (num_vertices(mesh),)
        By cortical index (`mindviz.brain.to_cortex`); NaN and infinity mean no value.

    Raises
    ------
    MindvizError
        For a map whose shape does not match the parcellation.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != parcels.labels.shape:
        raise MindvizError(f"expected one value for each vertex {parcels.labels.shape}, found {values.shape}")
    known = np.isfinite(values)
    counts, sums = parcel_totals(values[None, known], parcels.labels[known], len(parcels.names))
    nothing = np.full(len(counts), np.nan)
    held, total = counts > 0, sums[0]
    mean, share, enrichment = nothing.copy(), nothing.copy(), nothing.copy()
    mean[held] = total[held] / counts[held]
    if (values[known] >= 0).all() and total.sum() > 0:
        share[held], enrichment[held] = _shares(total[held]), _enrichment(total[held], counts[held])
    return MapByParcel(parcels.names[1:], counts, mean, share, enrichment)


def _shares(totals: np.ndarray) -> np.ndarray:
    """Totals (…, G) as shares of their sum."""
    return totals / totals.sum(axis=-1, keepdims=True)


def _enrichment(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The shares of the totals (…, G) divided by the shares of the voxels (G,)."""
    return _shares(totals) / _shares(counts)


def _check(maps: np.ndarray, vertices: np.ndarray, parcels: Parcellation, level: float) -> None:
    if not 0 < level < 1:
        raise MindvizError(f"expected a level between 0 and 1, found {level}")
    if vertices.size == 0 or vertices.min() < 0 or vertices.max() >= len(parcels.labels):
        raise MindvizError(f"expected voxels among the {len(parcels.labels)} vertices of {parcels.mesh}, found others")
    if maps.ndim != 2 or maps.shape[1:] != vertices.shape:
        raise MindvizError(f"expected one value for each of {vertices.size} voxels, found maps {maps.shape}")
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise MindvizError("maps to summarise by parcel must be finite and not below 0; take magnitudes first")


@dataclass(frozen=True)
class TruthScore:
    """Agreement of a map with a planted truth.

    `auroc`: the probability that a voxel that responds to what is seen has a higher value than one that does not (0.5
    is chance); NaN if the voxels are all of one kind. `rho`: Spearman correlation with the noise ceiling over all
    voxels (ceiling 0 for those that do not respond); `rho_within`: only over those that do. NaN for a constant map.
    """

    auroc: float
    rho: float
    rho_within: float


def truth_score(values: np.ndarray, answers: np.ndarray, ceiling: np.ndarray) -> TruthScore:
    """Score a map (V,) against which voxels respond to what is seen (V,), bool, and their noise ceilings (V,).

    Voxels for which the map is NaN are left out.
    """
    values, answers, ceiling = np.asarray(values, np.float64), np.asarray(answers), np.asarray(ceiling, np.float64)
    if values.ndim != 1 or answers.shape != values.shape or ceiling.shape != values.shape or answers.dtype != bool:
        raise MindvizError(
            f"a map, which voxels respond (bool) and their ceilings must have one shape (V,), found {values.shape}, "
            f"{answers.shape} {answers.dtype} and {ceiling.shape}"
        )
    if np.isinf(values).any() or not np.isfinite(ceiling).all():
        raise MindvizError("a map and its truth must be finite, found infinity, or NaN in the truth")
    known = ~np.isnan(values)
    values, answers, ceiling = values[known], answers[known], ceiling[known]
    mixed = answers.any() and not answers.all()
    auroc = float(roc_auc_score(answers, values)) if mixed else float("nan")
    return TruthScore(
        auroc, _spearman(values, np.where(answers, ceiling, 0.0)), _spearman(values[answers], ceiling[answers])
    )


@dataclass(frozen=True)
class TruthIntervals:
    """Intervals (low, high) of `TruthScore.auroc` and `TruthScore.rho_within` of a mean map; NaN where the score is."""

    auroc: tuple[float, float]
    rho_within: tuple[float, float]


def truth_intervals(
    maps: np.ndarray,
    answers: np.ndarray,
    ceiling: np.ndarray,
    shots: np.ndarray,
    level: float = 0.95,
    num: int = 500,
    seed: int = 0,
) -> TruthIntervals:
    """Percentile intervals of the scores of the mean of maps (N, V), whose shots (N,) are drawn with replacement.

    The voxels and their truth stay fixed: the interval generalises to other clips, not to other brains. Voxels for
    which any map is NaN are left out.
    """
    if not 0 < level < 1:
        raise MindvizError(f"expected a level between 0 and 1, found {level}")
    known = ~np.isnan(maps).any(axis=0)
    means = shot_means(maps[:, known], shots, num, seed)
    drawn = [truth_score(mean, answers[known], ceiling[known]) for mean in means]
    bounds = [(1 - level) / 2, (1 + level) / 2]

    def interval(values: list[float]) -> tuple[float, float]:
        low, high = np.quantile(values, bounds)
        return float(low), float(high)

    return TruthIntervals(interval([d.auroc for d in drawn]), interval([d.rho_within for d in drawn]))


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)
