"""A static figure of a map on the cortex: both hemispheres, lateral and medial, with a colour bar; for print.

Triangles are painted from back to front by plain matplotlib, without 3-D axes, so that shading and order are the same
in PNG, PDF and SVG. PDF and SVG store the cortex as an image and text as text.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import TriMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from mindviz.brain import meshes
from mindviz.brain.projection import check_surface_map
from mindviz.storage import atomic_file
from mindviz.types import MindvizError, SurfaceMap

FORMATS = (".png", ".svg", ".pdf")
_LETTERS, _LINE = 16.0, 0.135  # small print: characters per inch; line height in inches
# by hemisphere and view: brain directions (x right, y anterior, z superior) that point right, up and at the viewer
_VIEWS = {
    ("left", "lateral"): ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    ("left", "medial"): ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    ("right", "lateral"): ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    ("right", "medial"): ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    ("left", "flat"): ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ("right", "flat"): ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}


@dataclass(frozen=True)
class Scale:
    """How values become colours: `limits` are the ends of the colour map; values below `threshold` are hidden."""

    limits: tuple[float, float]
    threshold: float | None
    signed: bool

    @property
    def colormap(self) -> str:
        return "RdBu_r" if self.signed else "viridis"

    def visible(self, values: np.ndarray) -> np.ndarray:
        size = np.abs(values) if self.signed else values
        return np.isfinite(values) & (True if self.threshold is None else size >= self.threshold)


def scale_of(values: np.ndarray, threshold: float | None = None, signed: bool | None = None) -> Scale:
    """Limits at the 1st and 99th percentile, or symmetric around 0 for values of both signs (`signed`). Ignores NaN."""
    values = values[np.isfinite(values)]
    signed = bool((values < 0).any()) if signed is None else signed
    if values.size == 0:
        return Scale((0.0, 1.0), threshold, False)
    if signed:
        high = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
        return Scale((-high, high), threshold, True)
    low, high = (float(limit) for limit in np.percentile(values, [1, 99]))
    return Scale((low, high) if low < high else (low - 0.5, low + 0.5), threshold, False)


def plot_cortex(
    surface_map: SurfaceMap,
    title: str = "",
    units: str = "",
    surface: str = "inflated",
    threshold: float | None = None,
    simulated: bool = False,
    dpi: int = 200,
    signed: bool | None = None,
    caution: str = "",
) -> Figure:
    """Draw a map on both hemispheres, lateral views above, medial below; a flat surface has a single view.

    Parameters
    ----------
    surface_map : SurfaceMap
        NaN is drawn as bare cortex. A map without values, or with one value everywhere, is drawn with a note.
    title, units : str
        Above the figure and beside the colour bar.
    threshold : float, optional
        Hide smaller values (in magnitude, for a map of both signs).
    simulated : bool
        Write "simulated data" on the figure.
    signed : bool, optional
        Use diverging colours around 0; by default, if the map has values below 0.
    caution : str
        What the map does not show, and its control; written below the colour bar.

    Returns
    -------
    matplotlib Figure
        Not registered with pyplot, so nothing needs closing. See `save_figure`.
    """
    check_surface_map(surface_map)
    both = np.concatenate([surface_map.left, surface_map.right])
    scale = scale_of(both, threshold, signed)
    views = ("flat",) if surface == "flat" else ("lateral", "medial")
    plain, below = (5.6 if len(views) == 2 else 3.6), print_height(caution, 7.2)  # inches
    height = plain + below
    figure = Figure(figsize=(7.2, height), dpi=dpi)
    bottom = ((0.13 if len(views) == 2 else 0.2) * plain + below) / height
    above = (0.07 + 0.05 * (2 - len(views)) + 0.03 * title.count("\n")) * plain
    edges = {"left": 0.01, "right": 0.99, "bottom": bottom, "top": 1 - above / height}
    grid = figure.add_gridspec(len(views), 2, wspace=0.02, hspace=0.02, **edges)
    for row, view in enumerate(views):
        for column, side in enumerate(("left", "right")):
            axes = figure.add_subplot(grid[row, column])
            draw_hemisphere(axes, surface_map, side, view, surface, scale)
            if row == 0:
                axes.set_title(f"{side.capitalize()} hemisphere", fontsize=9, color="0.3", pad=2)
    bar = (0.3, bottom - 0.055 * plain / height, 0.4, 0.022 * plain / height)
    draw_bar(figure, figure.add_axes(bar), both, scale, units)
    small_print(figure, caution)
    notes = [title, "simulated data" if simulated else "", _note(both)]
    figure.suptitle("  ·  ".join(note for note in notes if note), fontsize=10, y=1 - 0.015 * plain / height)
    return figure


def print_height(text: str, width: float) -> float:
    """Height in inches that `small_print` needs at the bottom of a figure `width` inches wide; 0 for no text."""
    lines = len(_wrapped(text, width))
    return _LINE * lines + 0.08 * bool(lines)


def small_print(figure: Figure, text: str) -> None:
    """Write a caution along the bottom of a figure, within `print_height`."""
    width, height = figure.get_size_inches().tolist()
    lines = "\n".join(_wrapped(text.replace("$", r"\$"), width))  # a $ in a file name must not start a formula
    figure.text(0.5, 0.06 / height, lines, ha="center", va="bottom", fontsize=7.5, color="0.25")


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, round(_LETTERS * width))


def draw_bar(figure: Figure, axes: Axes, values: np.ndarray, scale: Scale, units: str) -> None:
    """Draw the colour bar of a scale; pointed ends show that `values` exceed the limits."""
    colours = ScalarMappable(Normalize(*scale.limits), scale.colormap)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", extend=_extend(values, scale.limits))
    bar.set_label(units, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _extend(values: np.ndarray, limits: tuple[float, float]) -> str:
    values = values[np.isfinite(values)]
    below, above = bool((values < limits[0]).any()), bool((values > limits[1]).any())
    return "both" if below and above else "min" if below else "max" if above else "neither"


def _note(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if values.size == 0:
        return "no values"
    return f"constant: {values[0]:.4g}" if values.min() == values.max() else ""


def draw_hemisphere(axes: Axes, surface_map: SurfaceMap, side: str, view: str, surface: str, scale: Scale) -> None:
    """Draw one hemisphere ("left", "right") of a map in a view ("lateral", "medial"; "flat" for a flat surface)."""
    mesh: meshes.Mesh = getattr(meshes.surface(surface_map.mesh, surface), side)
    depth = meshes.sulcal_depth(surface_map.mesh)[side == "right"]
    points = mesh.coordinates @ np.array(_VIEWS[side, view], dtype=np.float32).T  # right, up, towards the viewer
    facing, light = _light(points, mesh.faces)
    # matplotlib draws triangles in the given order: the farthest must come first
    faces = mesh.faces[facing]
    faces = faces[np.argsort(points[faces, 2].mean(axis=1))]
    painted = TriMesh(Triangulation(points[:, 0], points[:, 1], faces), rasterized=True)
    colours = _vertex_colours(getattr(surface_map, side), depth, scale) * (0.6 + 0.4 * light)[:, None]
    painted.set_facecolor(colours.tolist())
    axes.add_collection(painted)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.set_axis_off()


def _light(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each triangle faces the viewer, and how much light each vertex receives from there (0..1)."""
    normals = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    summed = np.stack([np.bincount(faces.ravel(), np.repeat(part, 3), len(points)) for part in normals.T], axis=1)
    towards = summed[:, 2] / np.maximum(np.linalg.norm(summed, axis=1), 1e-12)
    return normals[:, 2] > 0, np.clip(towards, 0, 1)


def _vertex_colours(values: np.ndarray, depth: np.ndarray, scale: Scale) -> np.ndarray:
    """RGB of each vertex: the colour of the map where visible, else grey by sulcal depth."""
    grey = np.interp(depth, [-0.3, 0.3], [0.85, 0.55])
    colours = np.repeat(grey[:, None], 3, axis=1)
    shown = scale.visible(values)
    colours[shown] = colormaps[scale.colormap](Normalize(*scale.limits)(values[shown]))[:, :3]
    return colours


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write a figure atomically as .png, .svg or .pdf, by the ending of `path`.

    Raises
    ------
    MindvizError
        For any other ending.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise MindvizError(f"{path}: a figure ends in {', '.join(FORMATS)}, found {path.suffix or 'no ending'}")
    with atomic_file(path) as aside:
        figure.savefig(aside, format=path.suffix[1:], facecolor="white")
    return path
