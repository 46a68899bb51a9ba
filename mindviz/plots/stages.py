"""Maps for layers and training stages in one figure, each on inflated and flat cortex with its networks below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from mindviz.plots.cortex import Scale, draw_bar, draw_hemisphere, print_height, scale_of, small_print
from mindviz.types import MindvizError, SurfaceMap

_CELL = (4.2, 4.9)  # inches
_VIEWS = (
    ("left", "lateral", "inflated"),
    ("right", "lateral", "inflated"),
    ("left", "flat", "flat"),
    ("right", "flat", "flat"),
)


@dataclass(frozen=True)
class StagePanel:
    """One map and its G networks.

    Attributes
    ----------
    names, colors : of the networks; colors (G, 3) in 0..1.
    enrichment, interval : (G,) and (G, 2): each network's share of the map divided by its share of voxels.
    """

    stage: str
    layer: str
    surface_map: SurfaceMap
    names: tuple[str, ...]
    colors: np.ndarray
    enrichment: np.ndarray
    interval: np.ndarray


def plot_stages(
    rows: Sequence[Sequence[StagePanel]],
    units: str,
    title: str = "",
    simulated: bool = False,
    dpi: int = 300,
    caution: str = "",
) -> Figure:
    """One row per stage, one column per layer, a common colour scale; `caution` in small print below.

    Raises
    ------
    MindvizError
        If there is nothing to draw.
    """
    panels = [panel for row in rows for panel in row]
    if not panels:
        raise MindvizError("a figure of stages needs at least one map, found none")
    columns = max(len(row) for row in rows)
    every = np.concatenate([np.concatenate([p.surface_map.left, p.surface_map.right]) for p in panels])
    scale = scale_of(every)
    width = _CELL[0] * columns + 0.4
    below = print_height(caution, width)
    height = _CELL[1] * len(rows) + 1.7 + below
    figure = Figure(figsize=(width, height), dpi=dpi)
    grid = figure.add_gridspec(
        len(rows),
        columns,
        left=0.6 / width,
        right=0.99,
        top=1 - 0.65 / height,
        bottom=(1.35 + below) / height,
        hspace=0.22,
        wspace=0.16,
    )
    most = 1.08 * max(float(np.nanmax([p.interval.max(), p.enrichment.max()])) for p in panels)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            _draw_panel(figure, grid[i, j], panel, scale, most, labelled=j == 0)
    draw_bar(figure, figure.add_axes((0.35, (0.5 + below) / height, 0.3, 0.09 / height)), every, scale, units)
    small_print(figure, caution)
    heading = "  ·  ".join(text for text in (title, "simulated data" if simulated else "") if text)
    figure.suptitle(heading, fontsize=11, y=1 - 0.15 / height)
    return figure


def _draw_panel(
    figure: Figure, place: SubplotSpec, panel: StagePanel, scale: Scale, most: float, labelled: bool
) -> None:
    inner = place.subgridspec(3, 2, height_ratios=(1, 1, 0.9), hspace=0.04, wspace=0.02)
    for i, (side, view, surface) in enumerate(_VIEWS):
        axes = figure.add_subplot(inner[i // 2, i % 2])
        draw_hemisphere(axes, panel.surface_map, side, view, surface, scale)
    axes = figure.add_subplot(inner[2, :])
    _draw_networks(axes, panel, most)
    if labelled:
        axes.set_ylabel("enrichment", fontsize=8)
    head = figure.add_subplot(inner[0, :], frameon=False)
    head.set_axis_off()
    head.set_title(f"{panel.stage} — {panel.layer}", fontsize=9, pad=3)


def _draw_networks(axes: Axes, panel: StagePanel, most: float) -> None:
    places = np.arange(len(panel.names))
    reach = np.abs(panel.interval - panel.enrichment[:, None]).T
    axes.bar(
        places,
        panel.enrichment,
        yerr=reach,
        color=panel.colors,
        edgecolor="0.4",
        linewidth=0.5,
        error_kw={"elinewidth": 0.8, "ecolor": "0.2"},
    )
    axes.axhline(1, color="0.3", linewidth=0.7, linestyle="--")
    axes.set_ylim(0, most)
    axes.set_xticks(places, panel.names, rotation=30, ha="right", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
