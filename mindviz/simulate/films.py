"""Films of the demo world: shots of one object moving in one drawn setting, 64 x 64 pixels, 3 frames a second.

Deterministic from a seed. `PAIRS_HELD_OUT` (object, setting) pairs occur in no training film; half of a test film's
shots come from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from einops import reduce
from PIL import Image

from mindviz.data.stimuli import FPS
from mindviz.simulate.settings import SETTINGS, SIZE
from mindviz.simulate.sprites import CELL, OBJECTS, object_named, sprite
from mindviz.types import MindvizError, VideoClip

FRAME = 64
MOTIONS: dict[str, str] = {
    "left": "moving left",
    "right": "moving right",
    "up": "rising",
    "down": "falling",
    "approaching": "coming closer",
    "receding": "moving away",
    "spinning": "spinning",
    "still": "standing still",
}
"""Name -> phrase of the caption."""
_DIRECTION = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_SHOT_FRAMES = (6, 24)  # 2 to 8 seconds


@dataclass(frozen=True)
class Shot:
    """One shot: frames `start` to `stop` (exclusive) of a film, and what they show."""

    start: int
    stop: int
    object: str
    category: str
    setting: str
    motion: str
    caption: str

    @property
    def held_out(self) -> bool:
        """Whether no training film shows this object in this setting."""
        return (self.object, self.setting) in PAIRS_HELD_OUT


@dataclass(frozen=True)
class Film:
    """A film and everything known about it.

    Attributes
    ----------
    frames : ndarray, shape (N, 64, 64, 3), uint8
    captions : tuple of str, one per frame
    position : ndarray, shape (N, 2): the object's centre, x to the right and y down, in fractions of the frame
    size : ndarray, shape (N,): the object's height as a fraction of the frame
    """

    name: str
    frames: np.ndarray
    fps: float
    captions: tuple[str, ...]
    shots: tuple[Shot, ...]
    position: np.ndarray
    size: np.ndarray

    @property
    def clip(self) -> VideoClip:
        return VideoClip(self.frames, self.fps)


def held_out_pairs(seed: int = 0) -> frozenset[tuple[str, str]]:
    """Two of the eight settings for each object, balanced over settings: the pairs that no training film shows."""
    rng = np.random.default_rng([seed, crc32(b"held out")])
    names, settings = rng.permutation([o.name for o in OBJECTS]), list(SETTINGS)
    pairs = {(str(n), settings[(i + shift) % len(settings)]) for i, n in enumerate(names) for shift in (0, 3)}
    return frozenset(pairs)


PAIRS_HELD_OUT = held_out_pairs()


def _caption(name: str, motion: str, setting: str) -> str:
    return f"{object_named(name).phrase} {MOTIONS[motion]} {SETTINGS[setting][0]}"


def caption_phrases() -> tuple[tuple[str, ...], ...]:
    """The phrases of which captions are composed: those of all objects, motions and settings."""
    settings = tuple(phrase for phrase, _ in SETTINGS.values())
    return tuple(o.phrase for o in OBJECTS), tuple(MOTIONS.values()), settings


def _deck(rng: np.random.Generator, cards: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Deal the cards in random order, over and over, so that all pairs occur equally often."""
    while True:
        for i in rng.permutation(len(cards)):
            yield cards[i]


def _plan(rng: np.random.Generator, frames: int, test: bool) -> Iterator[Shot]:
    """Shots until `frames` are filled. A test film alternates between seen and held-out pairs."""
    every = [(o.name, s) for o in OBJECTS for s in SETTINGS]
    seen = _deck(rng, [pair for pair in every if pair not in PAIRS_HELD_OUT])
    held = _deck(rng, sorted(PAIRS_HELD_OUT))
    start, count = 0, 0
    while start < frames:
        stop = start + int(rng.integers(_SHOT_FRAMES[0], _SHOT_FRAMES[1] + 1))
        if frames - stop < _SHOT_FRAMES[0]:  # no last shot shorter than 2 s
            stop = frames
        name, setting = next(held) if test and count % 2 else next(seen)
        motion = list(MOTIONS)[int(rng.integers(len(MOTIONS)))]
        caption = _caption(name, motion, setting)
        yield Shot(start, stop, name, object_named(name).category, setting, motion, caption)
        start, count = stop, count + 1


def _trajectory(rng: np.random.Generator, shot: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (n, 2), height (n,) and rotation in degrees (n,) of the object in each frame of a shot.

    The speed keeps the object in the frame for the whole shot, but is at least 0.09 frame widths a second, so that a
    2-second clip of any shot shows the motion.
    """
    n = shot.stop - shot.start
    t = (np.arange(n) - (n - 1) / 2) / FPS  # seconds, 0 in the middle
    half = max((n - 1) / 2 / FPS, 1e-6)
    centre = np.array([rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.62)])
    size = np.full(n, rng.uniform(0.5, 0.68))
    angle = np.zeros(n)
    position = np.tile(centre, (n, 1))
    if shot.motion in _DIRECTION:
        speed = min(rng.uniform(0.14, 0.2), 0.36 / half)
        position = np.array([0.5, 0.53]) + t[:, None] * speed * np.array(_DIRECTION[shot.motion])
        position += (centre - [0.5, 0.56]) * np.array(
            [abs(_DIRECTION[shot.motion][1]), abs(_DIRECTION[shot.motion][0])]
        )
    elif shot.motion in ("approaching", "receding"):
        rate = min(rng.uniform(0.22, 0.32), 0.6 / half)  # per second, natural logarithm
        size = 0.54 * np.exp(rate * t * (1 if shot.motion == "approaching" else -1))
    elif shot.motion == "spinning":
        angle = rng.uniform(0, 360) + rng.uniform(80, 120) * t * rng.choice([-1, 1])
    return position, size, angle


def _paste(canvas: np.ndarray, picture: np.ndarray, centre: np.ndarray, size: float, angle: float) -> np.ndarray:
    """Composite a premultiplied sprite on a (SIZE, SIZE, 3) canvas; bilinear, at twice the frame's resolution."""
    scale = CELL / (size * SIZE)
    cos, sin = np.cos(np.deg2rad(angle)) * scale, np.sin(np.deg2rad(angle)) * scale
    x0, y0 = centre * SIZE
    affine = (cos, sin, CELL / 2 - cos * x0 - sin * y0, -sin, cos, CELL / 2 + sin * x0 - cos * y0)
    layers = [
        np.asarray(
            Image.fromarray(picture[..., c]).transform(
                (SIZE, SIZE), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
            )
        )
        for c in range(4)
    ]
    return np.stack(layers[:3], -1) + canvas * (1 - layers[3][..., None])


def _render(canvas: np.ndarray, picture: np.ndarray, path: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """All frames of one shot, (n, 64, 64, 3) uint8."""
    large = np.stack([_paste(canvas, picture, c, s, a) for c, s, a in zip(*path, strict=True)])
    small = reduce(large, "n (h a) (w b) c -> n h w c", "mean", a=SIZE // FRAME, b=SIZE // FRAME)
    return np.clip(np.rint(small * 255), 0, 255).astype(np.uint8)


def make_film(name: str, seed: int, seconds: float = 480, test: bool = False) -> Film:
    """Draw a film.

    Parameters
    ----------
    name : str
        Its name (``"seg1"``, ``"test1"``); part of the seed, so that films with one seed differ.
    seed : int
        Seed for everything random in it.
    seconds : float
        Length, at least 2; gives `seconds * 3` frames.
    test : bool
        True to take every other shot from the (object, setting) pairs that no training film shows.
    """
    frames = round(seconds * FPS)
    if frames < _SHOT_FRAMES[0]:
        raise MindvizError(f"a film needs at least 2 seconds, found {seconds} for {name!r}")
    rng = np.random.default_rng([seed, crc32(name.encode())])
    shots = tuple(_plan(rng, frames, test))
    pictures, positions, sizes = [], [], []
    for shot in shots:
        path = _trajectory(rng, shot)
        canvas = SETTINGS[shot.setting][1](rng)
        pictures.append(_render(canvas, sprite(shot.object), path))
        positions.append(path[0])
        sizes.append(path[1])
    captions = tuple(shot.caption for shot in shots for _ in range(shot.start, shot.stop))
    return Film(name, np.concatenate(pictures), FPS, captions, shots, np.concatenate(positions), np.concatenate(sizes))


TRAINING_FILMS = tuple(f"seg{i}" for i in range(1, 19))
TEST_FILMS = ("test1",)


def demo_films(seed: int = 0, names: tuple[str, ...] = TRAINING_FILMS + TEST_FILMS) -> Iterator[Film]:
    """The films of the demo dataset, 8 minutes each: 18 training segments and one test film."""
    for name in names:
        yield make_film(name, seed, test=name in TEST_FILMS)
