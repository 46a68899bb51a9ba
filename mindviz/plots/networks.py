"""A map summarised by network: numbers, a plotly figure for the app, a matplotlib figure for print."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mindviz.brain import parcellations
from mindviz.brain.projection import to_cortex
from mindviz.plots.cortex import print_height, small_print
from mindviz.types import SurfaceMap

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class NetworkMeans:
    """The mean of a map in each network; `counts` of vertices with a value; `means` NaN where there are none."""

    names: tuple[str, ...]
    means: np.ndarray
    counts: np.ndarray
    colors: np.ndarray


def network_means(surface_map: SurfaceMap, parcellation: str = "yeo7") -> NetworkMeans:
    """Mean of a map over the vertices with a value in each network or area.

    Raises
    ------
    MindvizError
        For a mesh without that parcellation.
    """
    parcels = parcellations.load(parcellation, surface_map.mesh)
    values = to_cortex(surface_map)
    held = np.isfinite(values)
    counts, sums = parcellations.parcel_totals(values[None, held], parcels.labels[held], len(parcels.names))
    means = np.divide(sums[0], counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return NetworkMeans(parcels.names[1:], means, counts, parcels.colors[1:])


def network_bars(
    surface_map: SurfaceMap, parcellation: str = "yeo7", title: str = "", units: str = "", caution: str = ""
) -> go.Figure:
    """A plotly bar chart of `network_means`, in the networks' usual colours; hovering shows the number of vertices.

    `caution` (what the map does not show) is added in small print below.
    """
    import plotly.graph_objects as go

    lines = textwrap.wrap(caution, 90)

    found = network_means(surface_map, parcellation)
    bars = go.Bar(
        x=list(found.names),
        y=[None if np.isnan(mean) else float(mean) for mean in found.means],
        customdata=found.counts,
        marker={"color": [_hex(color) for color in found.colors], "line": {"color": "#808080", "width": 0.5}},
        hovertemplate="%{x}: %{y:.3g}<br>%{customdata} vertices<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        yaxis_title=units,
        margin={"l": 50, "r": 10, "t": 40 if title else 10, "b": 40 + (50 + 14 * len(lines)) * bool(lines)},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#808080"},
    )
    if lines:
        where = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "xanchor": "left", "yanchor": "top", "yshift": -70}
        text = "<br>".join(escape(line) for line in lines)
        figure.add_annotation(text=text, showarrow=False, align="left", font={"size": 10}, **where)
    figure.update_yaxes(gridcolor="rgba(128,128,128,0.25)", zerolinecolor="rgba(128,128,128,0.5)")
    return figure


def plot_networks(
    surface_map: SurfaceMap, parcellation: str = "yeo7", title: str = "", units: str = "", caution: str = ""
) -> Figure:
    """The same as a matplotlib figure; `cortex.save_figure` writes it."""
    found = network_means(surface_map, parcellation)
    width = 0.32 * len(found.names) + 2
    below = print_height(caution, width)
    height = 3.2 + below
    inside = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height))
    figure = Figure(figsize=(width, height), dpi=200, layout=inside)
    axes = figure.add_subplot()
    axes.bar(found.names, np.nan_to_num(found.means), color=found.colors, edgecolor="0.5", linewidth=0.5)
    for place in np.flatnonzero(found.counts == 0).tolist():  # distinguishes no bar from a bar of height 0
        axes.text(place, 0, " no voxels", rotation=90, ha="center", va="bottom", fontsize=6, color="0.5")
    axes.tick_params(axis="x", rotation=60, labelsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylabel(units, fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    small_print(figure, caution)
    return figure


def _hex(color: np.ndarray) -> str:
    red, green, blue = (round(float(part) * 255) for part in color)
    return f"#{red:02x}{green:02x}{blue:02x}"
