"""The eight drawn settings of the demo world, each a function of a random generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIZE = 128  # drawn at twice the frame size, then downsampled by averaging
Canvas = np.ndarray  # (SIZE, SIZE, 3) float32 in 0..1


def _gradient(top: tuple[float, ...], bottom: tuple[float, ...], start: float = 0.0, stop: float = 1.0) -> Canvas:
    """A vertical blend from `top` to `bottom` between two heights (fractions of the frame)."""
    y = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    t = np.clip((y - start) / max(stop - start, 1e-6), 0, 1)[:, None, None]
    blend = np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t
    return np.broadcast_to(blend, (SIZE, SIZE, 3)).astype(np.float32).copy()


def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    return np.meshgrid(axis, axis)


def _fill(canvas: Canvas, mask: np.ndarray, colour: tuple[float, ...]) -> None:
    canvas[mask] = np.array(colour, np.float32)


def _below(canvas: Canvas, height: np.ndarray, colour: tuple[float, ...]) -> None:
    """Fill below a line given as one height (fraction of the frame) per column."""
    _, y = _grid()
    _fill(canvas, y >= height[None, :], colour)


def _waves(rng: np.random.Generator, level: float, size: float, count: int = 3) -> np.ndarray:
    """A smooth line across the frame: a sum of sines of random phase around `level`."""
    x = np.arange(SIZE, dtype=np.float32) / SIZE
    line = np.full(SIZE, level, np.float32)
    for k in range(1, count + 1):
        line += size / k * np.sin(2 * np.pi * (k * x + rng.uniform()))
    return line


def _disc(canvas: Canvas, x0: float, y0: float, radius: float, colour: tuple[float, ...]) -> None:
    x, y = _grid()
    _fill(canvas, (x - x0) ** 2 + (y - y0) ** 2 < radius**2, colour)


def sea(rng: np.random.Generator) -> Canvas:
    horizon = rng.uniform(0.38, 0.48)
    canvas = _gradient((0.45, 0.75, 0.98), (0.80, 0.93, 1.0), 0, horizon)
    _below(canvas, np.full(SIZE, horizon), (0.10, 0.38, 0.72))
    for k in range(4):
        level = horizon + 0.12 + 0.13 * k
        line = _waves(rng, level, 0.012)
        _, y = _grid()
        _fill(canvas, np.abs(y - line[None, :]) < 0.012, (0.25, 0.58, 0.88))
    return canvas


def meadow(rng: np.random.Generator) -> Canvas:
    canvas = _gradient((0.50, 0.80, 1.0), (0.88, 0.96, 1.0), 0, 0.6)
    _below(canvas, _waves(rng, 0.52, 0.05, 2), (0.42, 0.72, 0.30))
    _below(canvas, _waves(rng, 0.68, 0.04, 2), (0.52, 0.80, 0.34))
    return canvas


def desert(rng: np.random.Generator) -> Canvas:
    canvas = _gradient((0.98, 0.83, 0.55), (1.0, 0.94, 0.78), 0, 0.5)
    _below(canvas, _waves(rng, 0.48, 0.06, 2), (0.90, 0.70, 0.38))
    _below(canvas, _waves(rng, 0.66, 0.07, 2), (0.82, 0.58, 0.27))
    return canvas


def snow(rng: np.random.Generator) -> Canvas:
    canvas = _gradient((0.68, 0.76, 0.86), (0.86, 0.90, 0.95), 0, 0.6)
    x = np.arange(SIZE) / SIZE
    for _ in range(3):
        peak, height, slope = rng.uniform(0, 1), rng.uniform(0.2, 0.35), rng.uniform(0.7, 1.1)
        _below(canvas, (height + slope * np.abs(x - peak)).astype(np.float32), (0.55, 0.62, 0.72))
    _below(canvas, _waves(rng, 0.58, 0.03, 2), (0.96, 0.97, 1.0))
    return canvas


def city(rng: np.random.Generator) -> Canvas:
    canvas = _gradient((0.03, 0.03, 0.14), (0.16, 0.10, 0.32))
    x, y = _grid()
    edge = 0.0
    while edge < 1.0:
        width, top = rng.uniform(0.12, 0.24), rng.uniform(0.25, 0.6)
        inside = (x >= edge) & (x < edge + width - 0.01) & (y > top)
        _fill(canvas, inside, (0.09, 0.09, 0.16))
        lit = inside & (((x - edge) * 9 % 1) > 0.5) & ((y * 8 % 1) > 0.5) & (y > top + 0.04) & (y < 0.82)
        _fill(canvas, lit, (0.98, 0.82, 0.35))
        edge += width
    _fill(canvas, y > 0.84, (0.15, 0.15, 0.18))
    return canvas


def forest(rng: np.random.Generator) -> Canvas:
    canvas = _gradient((0.10, 0.30, 0.16), (0.16, 0.40, 0.20))
    x, y = _grid()
    for _ in range(6):
        centre, width = rng.uniform(0, 1), rng.uniform(0.04, 0.09)
        _fill(canvas, (np.abs(x - centre) < width / 2) & (y > 0.08), (0.26, 0.17, 0.10))
    for _ in range(7):
        _disc(canvas, rng.uniform(0, 1), rng.uniform(0, 0.12), rng.uniform(0.08, 0.14), (0.06, 0.24, 0.10))
    _below(canvas, _waves(rng, 0.8, 0.02, 2), (0.20, 0.28, 0.10))
    return canvas


def room(rng: np.random.Generator) -> Canvas:
    canvas = _gradient((0.93, 0.86, 0.76), (0.88, 0.79, 0.68))
    x, y = _grid()
    left = rng.uniform(0.08, 0.6)
    window = (x > left) & (x < left + 0.3) & (y > 0.12) & (y < 0.46)
    _fill(canvas, window, (0.98, 0.98, 0.96))
    pane = window & (np.abs(x - left - 0.15) > 0.015) & (np.abs(y - 0.29) > 0.015)
    pane &= (x > left + 0.02) & (x < left + 0.28) & (y > 0.14) & (y < 0.44)
    _fill(canvas, pane, (0.62, 0.82, 0.95))
    _fill(canvas, y > 0.72, (0.56, 0.34, 0.20))
    _fill(canvas, (y > 0.72) & (((y - 0.72) * 12 % 1) < 0.12), (0.45, 0.26, 0.15))
    return canvas


def sunset(rng: np.random.Generator) -> Canvas:
    canvas = _gradient((0.35, 0.12, 0.40), (1.0, 0.50, 0.22), 0, 0.62)
    _disc(canvas, rng.uniform(0.2, 0.8), rng.uniform(0.46, 0.56), 0.13, (1.0, 0.86, 0.40))
    _below(canvas, _waves(rng, 0.66, 0.03, 2), (0.20, 0.07, 0.20))
    return canvas


SETTINGS: dict[str, tuple[str, Callable[[np.random.Generator], Canvas]]] = {
    "sea": ("at sea", sea),
    "meadow": ("in a meadow", meadow),
    "desert": ("in a desert", desert),
    "snow": ("in the snow", snow),
    "city at night": ("in a city at night", city),
    "forest": ("in a forest", forest),
    "room": ("in a room", room),
    "sunset": ("at sunset", sunset),
}
"""Name -> (phrase of the caption, painter)."""
