"""From raw volumes to z-scores: trimming, polynomial detrending, normalisation by run, averaging of repeats.

The order follows Wen et al. 2018 (Cerebral Cortex 28:4136) as adopted by MinD-Video. Arrays here are [V, time], as in
CIFTI files, because every step works along time.
"""

from __future__ import annotations

import numpy as np

FIRST_VOLUMES = {245: 1, 246: 2}
"""Volumes in a run of Wen 2018 -> volumes acquired before its film starts."""
LAST_VOLUMES = 4
"""Volumes acquired after its film ends."""
POLYNOMIAL_ORDER = 4


def kept_volumes(num_volumes: int) -> slice:
    """The volumes acquired during the film: 240 of 245 or 246."""
    return slice(FIRST_VOLUMES[num_volumes], num_volumes - LAST_VOLUMES)


def polynomials(num_volumes: int, order: int = POLYNOMIAL_ORDER) -> np.ndarray:
    """Orthonormal polynomials up to `order`, including the constant, float32 [num_volumes, order + 1]."""
    time = np.linspace(-1.0, 1.0, num_volumes)
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(time, order))
    return basis.astype(np.float32)


def detrend(bold: np.ndarray, order: int = POLYNOMIAL_ORDER) -> np.ndarray:
    """Subtract the least-squares polynomial fit of each row: [V, time] -> float32 [V, time]; linear in `bold`."""
    # The mean goes first: at raw values around 10,000, float32 leaves little precision for a response of 1 %.
    centred = (bold - bold.mean(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    basis = polynomials(bold.shape[1], order)
    centred -= (centred @ basis) @ basis.T
    return centred


def zscore(bold: np.ndarray) -> np.ndarray:
    """Scale each row to zero mean and unit standard deviation, float32 [V, time]; constant rows become zero."""
    centred = bold - bold.mean(axis=1, keepdims=True)
    scale = centred.std(axis=1, keepdims=True)
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)


def clean(bold: np.ndarray) -> np.ndarray:
    """Raw volumes of the film, [V, time] -> detrended and z-scored float32 [V, time]."""
    return zscore(detrend(bold))


def constant_rows(bold: np.ndarray) -> np.ndarray:
    """True where a row of [V, time] never changes, bool [V]."""
    return (bold == bold[:, :1]).all(axis=1)
