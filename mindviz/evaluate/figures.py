"""Which rows of a report are drawn, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mindviz.metrics.rows import DECODED, Row
from mindviz.metrics.scores import Score
from mindviz.plots.report import COLOURS, Bar, Panel, inline_svg, method_bars, subset_bars

SUBSETS = {
    "whole shots, seen pairs": "seen pairs",
    "whole shots, unseen pairs": "unseen pairs",
    "straddling a cut": "straddling a cut",
}
_LINES = ("uniform", "majority")


@dataclass(frozen=True)
class Drawn:
    """A figure on the page: an SVG element, its title and its caption."""

    title: str
    caption: str
    svg: str


def figures(rows: Sequence[Row], kinds: Mapping[str, str]) -> list[Drawn]:
    """The figures for these rows; `kinds` maps method names to kinds (other methods count as ``"ceiling"``)."""
    labels = _panels(rows, kinds, [s for s in _metrics(rows) if "uniform" in s.chance])
    others = _panels(rows, kinds, [s for s in _metrics(rows) if _is_general(s)])
    drawn = []
    if labels:
        caption = "Accuracy of what the judge names, on all clips. Red lines: what guessing reaches."
        drawn.append(Drawn("What the clips show", caption, inline_svg(method_bars(labels), "aspects")))
    groups, chance = _by_subset(rows)
    if groups:
        caption = (
            "Decoded clips. Seen and unseen: whether training films showed the clip's pair of object and setting. "
            "Straddling: a cut falls into the clip."
        )
        drawn.append(
            Drawn(
                "Seen, unseen and straddling clips apart", caption, inline_svg(subset_bars(groups, chance), "subsets")
            )
        )
    if others:
        caption = (
            "The paper's measures on all clips. SSIM and PSNR reward blur: grey and mean clips score well on them."
        )
        drawn.append(Drawn("The general measures", caption, inline_svg(method_bars(others, 3), "general")))
    return drawn


def _metrics(rows: Sequence[Row]) -> list[Score]:
    """The score of the decoded clips for each pair of metric and judge, in the order of the rows."""
    return [r.score for r in rows if (r.method, r.subset) == (DECODED, "all")]


def _is_general(score: Score) -> bool:
    name = score.metric
    if name.startswith(("SSIM", "PSNR")):
        return "gain" not in name
    return name.startswith(("frame, ", "video, ", "picture similarity"))


def _panels(rows: Sequence[Row], kinds: Mapping[str, str], wanted: Sequence[Score]) -> list[Panel]:
    found = []
    for score in wanted:
        # the only second judge of labels is the read-out, which its method names
        alike = [r for r in rows if r.score.metric == score.metric and r.subset == "all"]
        same = [r for r in alike if "uniform" in score.chance or r.score.judge == score.judge]
        bars = [Bar(r.method, r.score.value, r.score.low, r.score.high, kinds.get(r.method, "ceiling")) for r in same]
        bars.sort(key=lambda bar: list(COLOURS).index(bar.kind))
        lines = {n: v for n, v in score.chance.items() if n in (*_LINES, "random scores")}
        by = "" if score.judge in ("judge", "formula") else f"\n{score.judge}"
        found.append(Panel(f"{score.metric}{by}", tuple(bars), lines, not score.metric.startswith("PSNR")))
    return found


def _by_subset(rows: Sequence[Row]) -> tuple[dict[str, list[Bar]], dict[str, float]]:
    """Bars of the decoded clips by metric, one per subset; and the chance level of each metric."""
    groups: dict[str, list[Bar]] = {}
    chance: dict[str, float] = {}
    for row in rows:
        s = row.score
        if row.method == DECODED and row.subset in SUBSETS and "uniform" in s.chance:
            groups.setdefault(s.metric, []).append(Bar(SUBSETS[row.subset], s.value, s.low, s.high))
            chance[s.metric] = s.chance["uniform"]
    return groups, chance
