"""From the features of a film to the responses of a subject's cortex, volume by volume, with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy import signal, stats

from mindviz.brain import parcellations
from mindviz.data import cleaning
from mindviz.data.stimuli import TR
from mindviz.simulate import cortex
from mindviz.simulate.subjects import Subject

BEFORE = {245: 1, 246: 2}
"""Volumes before the film starts, by number of volumes in the run."""
NOISE_SHARES = {"patches": 0.5, "white": 0.2, "network": 0.3}
"""Shares of the noise variance, without the drift. Patches: activity not evoked by the film, shared by neighbours over
about 2 cm like the tuning, so that averaging over an area does not remove all noise. White: thermal noise."""
PATCHES = 200
"""Patches of noise on the cortex, each with its own time course."""
SPONTANEOUS = {"motion energy": 0.6, "local motion": 0.6, "sound track (decoy)": 0.6}
"""Spontaneous activity of an area relative to the subject's, 1 if not listed: sensory areas follow the film best."""
DRIFT = 1.5
"""Standard deviation of the drift, relative to that of the other noise."""
_AUTOCORRELATION = {"patches": 0.5, "network": 0.8}


def haemodynamic_response(seconds: np.ndarray) -> np.ndarray:
    """The canonical double gamma: peak at 5 s, undershoot at 15 s, one sixth as large; 0 before the event."""
    return stats.gamma.pdf(seconds, 6) - stats.gamma.pdf(seconds, 16) / 6


def acquisition_times(volumes: int) -> np.ndarray:
    """Film time (s) around which each volume of a run of 245 or 246 is acquired; the first kept one is at 1 s."""
    return (np.arange(volumes) - BEFORE[volumes] + 0.5) * TR


def convolution(volumes: int, frames: int, fps: float, lag: float) -> np.ndarray:
    """The matrix that convolves frames with the response, delayed by `lag` seconds: float32 [volumes, frames].

    Outside the film, features are assumed to be at their mean, 0.
    """
    shown = (np.arange(frames) + 0.5) / fps
    delay = acquisition_times(volumes)[:, None] - shown[None, :] - lag
    return (haemodynamic_response(delay) / fps).astype(np.float32)


def standardise(features: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Centre every feature over all films; scale features of filters, positions and decoys to unit variance.

    Meanings keep their relative scales, because their components are not equally important.
    """
    keep_scale = {"object meaning", "setting", "story"}
    result: list[dict[str, np.ndarray]] = [{} for _ in features]
    for name in features[0]:
        every = np.concatenate([f[name] for f in features])
        mean, scale = every.mean(0), every.std(0)
        scale = np.full_like(scale, scale.mean()) if name in keep_scale else np.maximum(scale, 1e-6)
        for out, film in zip(result, features, strict=True):
            out[name] = ((film[name] - mean) / scale).astype(np.float32)
    return result


def response_covariance(features: Sequence[Mapping[str, np.ndarray]], fps: float = 3.0) -> dict[str, np.ndarray]:
    """Covariance of the convolved, detrended features, averaged over films, by driver: float64 [features, features]."""
    result: dict[str, np.ndarray] = {}
    for film in features:
        for name, values in film.items():
            kernel = convolution(245, len(values), fps, 0.0)[cleaning.kept_volumes(245)]
            response = cleaning.detrend(np.ascontiguousarray((kernel @ values).T))
            result[name] = result.get(name, 0.0) + np.cov(response, bias=True).reshape(len(response), -1) / len(
                features
            )
    return result


def responses(
    subject: Subject,
    features: Mapping[str, np.ndarray],
    volumes: int,
    fps: float = 3.0,
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    """The noiseless response of every vertex to the film, float32 [59412, volumes]; 0 where nothing drives it.

    `wanted`, bool [59412], restricts the computation to some vertices to save time; the others stay 0.
    """
    bold = np.zeros((len(subject.driver), volumes), np.float32)
    for name, vertices in subject.vertices.items():
        values, weights, lags = features[name], subject.weights[name], subject.lag[vertices]
        use = np.ones(len(vertices), bool) if wanted is None else wanted[vertices]
        for lag in np.unique(lags[use]):
            here = use & (lags == lag)
            convolved = convolution(volumes, len(values), fps, float(lag)) @ values
            bold[vertices[here]] = weights[:, here].T @ convolved.T
    return bold


def autoregressive(white: np.ndarray, coefficient: float) -> np.ndarray:
    """First-order autoregressive noise of unit variance from white noise, along the last axis; modifies `white`."""
    innovation = np.float32(np.sqrt(1 - coefficient**2))
    white[..., 0] /= innovation
    return signal.lfilter(np.array([innovation]), np.array([1.0, -coefficient], np.float32), white, axis=-1)


def _network_noise(rng: np.random.Generator, volumes: int) -> np.ndarray:
    """A fluctuation of each Yeo-17 network, shared by its vertices, float32 [V, volumes]."""
    labels = parcellations.load("yeo17").labels
    courses = rng.standard_normal((int(labels.max()) + 1, volumes), dtype=np.float32)
    courses[0] = 0  # vertices outside the networks
    return autoregressive(courses, _AUTOCORRELATION["network"])[labels]


def _drift(rng: np.random.Generator, volumes: int) -> np.ndarray:
    """Slow drift of each vertex, smooth over the cortex: random polynomials of order 1 to 3, float32 [V, volumes]."""
    shapes = cleaning.polynomials(volumes, 3)[:, 1:] * np.float32(np.sqrt(volumes / 3))
    return cortex.smooth_fields(rng, 3, 4) @ shapes.T


@lru_cache(maxsize=1)
def _patches() -> np.ndarray:
    """Maps of the noise shared by neighbours, float32 [59412, PATCHES]; each row has unit norm."""
    maps = cortex.smooth_fields(np.random.default_rng(0), PATCHES, 30)
    return maps / np.linalg.norm(maps, axis=1, keepdims=True)


def noise(rng: np.random.Generator, volumes: int) -> np.ndarray:
    """Noise of one run, of unit variance without the drift, float32 [59412, volumes].

    Spatially smooth autocorrelated noise, white noise, a fluctuation shared by each Yeo-17 network, and drift.
    """
    share = {name: np.float32(np.sqrt(value)) for name, value in NOISE_SHARES.items()}
    courses = autoregressive(rng.standard_normal((PATCHES, volumes), dtype=np.float32), _AUTOCORRELATION["patches"])
    bold = _patches() @ (share["patches"] * courses)
    white = rng.standard_normal(bold.shape, dtype=np.float32)
    white *= share["white"]
    bold += white
    bold += share["network"] * _network_noise(rng, volumes)
    bold += np.float32(DRIFT) * _drift(rng, volumes)
    return bold


def spontaneous(rng: np.random.Generator, subject: Subject, response: np.ndarray) -> np.ndarray:
    """Activity along the tuning of each area that is not evoked by the film, float32 like `response`.

    Spontaneous activity resembles evoked activity (Kenet et al. 2003, Nature 425:954) and limits what averaging over
    vertices can recover (Moreno-Bote et al. 2014, Nat Neurosci 17:1410). Here it is the response to the film, shifted
    by a random time for each kind of area, with `spec.spontaneous` times its variance.
    """
    activity = np.zeros_like(response)
    for name, vertices in subject.vertices.items():
        shift = int(rng.integers(20, response.shape[1] - 20))
        scale = np.float32(np.sqrt(subject.spec.spontaneous * SPONTANEOUS.get(name, 1.0)))
        activity[vertices] = scale * np.roll(response[vertices], shift, axis=1)
    return activity


def noise_ceiling(response: np.ndarray, noise_variance: np.ndarray, repeats: int) -> np.ndarray:
    """Expected correlation between the mean of `repeats` cleaned runs and the noiseless response, float32 [V], 0..1.

    Parameters
    ----------
    response : cleaned (detrended, not normalised) noiseless response, [V, time]
    noise_variance : variance of the cleaned noise of one run, [V]
    """
    evoked = response.var(axis=1)
    total = evoked + noise_variance / repeats
    return np.sqrt(np.divide(evoked, total, out=np.zeros_like(evoked), where=total > 0)).astype(np.float32)
