"""Figures of a report (matplotlib): bars by method and by subset, with intervals and chance levels; as inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

COLOURS = {"decoded": "#1f5fa8", "baseline": "#9aa5b1", "control": "#c9ccd1", "ceiling": "#6ba368"}
"""By kind of method; `SUBSET_COLOURS` by position of a subset."""
SUBSET_COLOURS = ("#1f5fa8", "#7fb0de", "#d98e32", "#9aa5b1")
_CHANCE = "#b03030"
_STYLES = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


@dataclass(frozen=True)
class Bar:
    """A value, the ends of its interval, and its label; `kind` determines the colour."""

    label: str
    value: float
    low: float
    high: float
    kind: str = "baseline"


@dataclass(frozen=True)
class Panel:
    """Bars of one measure, and reference levels by name; `share` if the measure runs from 0 to 1."""

    title: str
    bars: tuple[Bar, ...]
    lines: Mapping[str, float] = field(default_factory=dict)
    share: bool = True


def method_bars(panels: Sequence[Panel], columns: int = 2) -> Figure:
    """One panel per measure, one horizontal bar per method.

    Neighbouring panels in a row with the same bar labels share them.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    most = max(len(panel.bars) for panel in panels)
    figure = Figure(
        figsize=(10.4, rows * (0.25 * most + 1.0) + 0.3), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    )
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        left = panels[i - 1] if i % columns else None
        _draw_methods(axes, panel, left is None or [b.label for b in left.bars] != [b.label for b in panel.bars])
    kinds = [kind for kind in COLOURS if any(bar.kind == kind for panel in panels for bar in panel.bars)]
    handles = [Patch(color=COLOURS[kind], label=kind) for kind in kinds]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(kinds), frameon=False, fontsize=9)
    return figure


def _draw_methods(axes: Axes, panel: Panel, labelled: bool) -> None:
    places = range(len(panel.bars))
    axes.barh(
        list(places),
        [b.value for b in panel.bars],
        height=0.68,
        color=[COLOURS[b.kind] for b in panel.bars],
        xerr=_whiskers(panel.bars),
        error_kw={"elinewidth": 1, "ecolor": "#333333", "capsize": 2},
    )
    axes.set_yticks(list(places), [b.label for b in panel.bars] if labelled else [])
    axes.invert_yaxis()
    for i, level in enumerate(panel.lines.values()):
        axes.axvline(level, color=_CHANCE, linewidth=1, linestyle=_STYLES[i % len(_STYLES)])
    levels = ", ".join(f"{name} {level:.3g}" for name, level in panel.lines.items())
    axes.set_xlabel(f"chance: {levels}" if levels else "", fontsize=8.5, color=_CHANCE, loc="left")
    _finish(axes, panel)
    axes.grid(axis="x", color="#e4e7ea", linewidth=0.8)
    if panel.share:
        axes.set_xlim(0, 1)


def subset_bars(groups: Mapping[str, Sequence[Bar]], lines: Mapping[str, float], title: str = "") -> Figure:
    """Groups of vertical bars, one bar per subset; `lines` gives the chance level of each group."""
    names = list(dict.fromkeys(bar.label for bars in groups.values() for bar in bars))
    figure = Figure(figsize=(10.4, 3.1), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        found = [(g, bar) for g, bars in enumerate(groups.values()) for bar in bars if bar.label == name]
        bars = [bar for _, bar in found]
        axes.bar(
            [g - 0.4 + (k + 0.5) * width for g, _ in found],
            [bar.value for bar in bars],
            width=width * 0.92,
            color=SUBSET_COLOURS[k % len(SUBSET_COLOURS)],
            label=name,
            yerr=_whiskers(bars),
            error_kw={"elinewidth": 1, "ecolor": "#333333", "capsize": 2},
        )
    for g, name in enumerate(groups):
        if name in lines:
            label = "chance (all classes alike)" if g == 0 else "_"
            axes.hlines(lines[name], g - 0.45, g + 0.45, color=_CHANCE, linestyle=_STYLES[0], linewidth=1, label=label)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylim(0, 1)
    axes.grid(axis="y", color="#e4e7ea", linewidth=0.8)
    _finish(axes, Panel(title, ()))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _whiskers(bars: Sequence[Bar]) -> list[list[float]]:
    """Lengths below and above each value; a mean may lie outside its interval by a rounding error."""
    return [[max(0.0, b.value - b.low) for b in bars], [max(0.0, b.high - b.value) for b in bars]]


def _finish(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=10.5, loc="left", fontweight="bold", color="#222222")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, length=0, colors="#333333")
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def inline_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element for a page: text stays text, and equal figures give equal bytes.

    `name` enters the ids, so that figures on one page do not share ids.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    # Group ids repeat between figures, but nothing refers to them; elements that are referred to have hashes as ids.
    return re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :]).strip()
