"""The simulated subjects: the tuning of each vertex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from mindviz.simulate import cortex
from mindviz.simulate.areas import ANIMATE_AREAS, AREAS, DRIVERS, area_names, driver_map
from mindviz.simulate.features import tuning
from mindviz.types import MindvizError

LAG_STEP = 0.25
"""Lags are rounded to this many seconds, so that vertices can share their convolution."""
_FIELD_STEPS = 30
"""Smoothing steps for a tuning map: patches of about 2 cm."""
_RECEPTIVE_FIELD = {"V1": 0.07, "V2": 0.09, "V3": 0.12, "V4": 0.16, "V3A": 0.16, "V3B": 0.16}
"""Standard deviation of a receptive field at the fovea, as a fraction of the frame; it grows with eccentricity."""


@dataclass(frozen=True)
class SubjectSpec:
    """What distinguishes one simulated subject from another.

    Attributes
    ----------
    name : str
        ``"1"``, ``"2"``, …; part of every seed, so that every map depends on it.
    lag : float
        Mean delay of the haemodynamic response beyond the canonical one, in seconds.
    noise : float
        Standard deviation of the noise in one volume, relative to the response of a vertex of gain 1.
    spontaneous : float
        Variance of activity along a vertex's own tuning that no film evokes, relative to that of its response.
    seed : int
    """

    name: str
    lag: float
    noise: float
    spontaneous: float = 0.0
    seed: int = 0

    def rng(self, *keys: str) -> np.random.Generator:
        """A generator for one purpose: the same keys give the same numbers, regardless of earlier draws."""
        seed = np.random.SeedSequence([self.seed, crc32(self.name.encode()), *(crc32(k.encode()) for k in keys)])
        return np.random.Generator(np.random.SFC64(seed))  # numpy's fastest generator: a run takes 37 M numbers


@dataclass(frozen=True)
class Subject:
    """A subject drawn from its specification.

    Attributes
    ----------
    driver : ndarray, shape (59412,), uint8
        Index into `areas.DRIVERS`; 0 is nothing.
    lag : ndarray, shape (59412,), float32
        Seconds beyond the canonical response, in steps of `LAG_STEP`.
    vertices : mapping of driver name to its vertices
    weights : mapping of driver name to float32 [features, vertices]
        Scaled so that, over the films given to `make_subject`, the standard deviation of the response is the gain.
    baseline : ndarray, shape (59412,), float32
        Mean intensity in raw files, around 1.
    """

    spec: SubjectSpec
    driver: np.ndarray
    lag: np.ndarray
    baseline: np.ndarray
    vertices: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]


def receptive_fields(rng: np.random.Generator, areas: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Centre x, centre y and standard deviation of each vertex's receptive field, float32 [V, 3], fractions of the
    frame.

    Each hemisphere represents the contralateral half field; the fovea lies posterior, the upper field ventral; the map
    of each subject is warped by smooth noise. Fields grow with eccentricity and from V1 to V4.
    """
    anterior, dorsal = cortex.place_in_area(areas, AREAS["motion energy"])
    warp = cortex.smooth_fields(rng, 2, 20)[vertices] * 0.1
    eccentricity = 0.5 * np.clip(anterior[vertices] + warp[:, 0], 0, 1)
    angle = np.pi * (
        np.clip(dorsal[vertices] + warp[:, 1], 0, 1) - 0.5
    )  # -90 degrees: upper, +90: lower vertical meridian
    side = np.where(vertices < cortex.LEFT, 1.0, -1.0)
    x = 0.5 + side * eccentricity * np.cos(angle)
    y = 0.5 + eccentricity * np.sin(angle)
    base = np.array([_RECEPTIVE_FIELD[a] for a in areas[vertices]])
    return np.stack([x, y, base + 0.15 * eccentricity], axis=1).astype(np.float32)


def motion_energy_weights(rng: np.random.Generator, areas: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Weights of pymoten's filters, [filters, V]: receptive field x direction x spatial x temporal frequency."""
    fields = receptive_fields(rng, areas, vertices)
    maps = cortex.smooth_fields(rng, 4, _FIELD_STEPS)[vertices]
    t = tuning()
    distance = (t.x[:, None] - fields[:, 0]) ** 2 + (t.y[:, None] - fields[:, 1]) ** 2
    place = np.exp(-distance / (2 * (fields[:, 2] ** 2 + 0.05**2)))
    preferred = np.arctan2(maps[:, 0], maps[:, 1])
    angle = np.deg2rad(t.direction)[:, None] - preferred
    direction = np.where(
        t.temporal[:, None] > 0, np.exp(1.5 * (np.cos(angle) - 1)), np.exp(1.5 * (np.cos(2 * angle) - 1))
    )
    spatial = np.exp(-((np.log2(t.spatial)[:, None] - 2 - 0.8 * maps[:, 2]) ** 2) / 2)
    moving = 1 / (1 + np.exp(-1.5 * maps[:, 3]))
    temporal = np.where(t.temporal[:, None] > 0, moving, 1 - moving)
    return (place * direction * spatial * temporal).astype(np.float32)


def _smooth_weights(rng: np.random.Generator, vertices: np.ndarray, features: int) -> np.ndarray:
    """Tuning that varies smoothly over the cortex and differs between subjects, float32 [features, V]."""
    return np.ascontiguousarray(cortex.smooth_fields(rng, features, _FIELD_STEPS)[vertices].T)


def object_weights(rng: np.random.Generator, areas: np.ndarray, vertices: np.ndarray, features: int) -> np.ndarray:
    """Weights of the object's meaning, [features, V]; the last feature is animacy, which FFC prefers strongly."""
    weights = _smooth_weights(rng, vertices, features)
    weights[-1] *= 0.3
    fusiform = np.isin(areas[vertices], ANIMATE_AREAS)
    weights[-1, fusiform] = 1.5 + 0.3 * weights[-1, fusiform]
    return weights


def gains(rng: np.random.Generator, driver: np.ndarray) -> np.ndarray:
    """Response strength of each vertex, float32 [59412]: patchy, with a mean that depends on the driver."""
    patchy = np.exp(0.5 * cortex.smooth_fields(rng, 1, 8)[:, 0] - 0.125)
    strength = np.array([_STRENGTH[name] for name in DRIVERS])[driver]
    return (patchy * strength).astype(np.float32)


_STRENGTH = {
    "nothing": 0.0,
    "motion energy": 1.0,
    "local motion": 1.1,
    "object meaning": 1.1,
    "setting": 1.0,
    "position and size": 0.7,
    "story": 0.6,
    "sound track (decoy)": 1.0,
    "run structure (decoy)": 0.5,
}


def make_subject(spec: SubjectSpec, covariance: Mapping[str, np.ndarray]) -> Subject:
    """Draw a subject.

    Parameters
    ----------
    spec : SubjectSpec
    covariance : mapping of driver name to float [features, features]
        Covariance of the convolved features over the training films (`forward.response_covariance`), used to scale the
        responses.
    """
    areas = area_names()
    driver = driver_map(areas)
    gain = gains(spec.rng("gain"), driver)
    lag = spec.lag + 0.4 * cortex.smooth_fields(spec.rng("lag"), 1, _FIELD_STEPS)[:, 0]
    vertices = {name: np.flatnonzero(driver == i) for i, name in enumerate(DRIVERS) if i}
    weights = {}
    for name, here in vertices.items():
        if name not in covariance:
            raise MindvizError(f"subject {spec.name}: expected features for {name!r}, found {', '.join(covariance)}")
        features, rng = len(covariance[name]), spec.rng("weights", name)
        if name == "motion energy":
            drawn = motion_energy_weights(rng, areas, here)
        elif name == "object meaning":
            drawn = object_weights(rng, areas, here, features)
        else:
            drawn = _smooth_weights(rng, here, features)
        spread = np.sqrt(np.einsum("fv,fv->v", drawn, covariance[name].astype(np.float32) @ drawn))
        weights[name] = drawn * (gain[here] / np.maximum(spread, 1e-6))
    lag = (np.round(np.clip(lag, -1.0, 1.5) / LAG_STEP) * LAG_STEP).astype(np.float32)
    baseline = 1 + 0.15 * cortex.smooth_fields(spec.rng("baseline"), 1, _FIELD_STEPS)[:, 0]
    return Subject(spec, driver, lag, baseline, vertices, weights)
