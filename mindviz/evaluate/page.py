"""A report as Markdown, and as a single HTML file with embedded figures: no script, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mindviz.evaluate.catalogue import ReportMethod
from mindviz.evaluate.figures import figures
from mindviz.evaluate.planted import Agreement, Planted
from mindviz.evaluate.published import PUBLISHED, PUBLISHED_COLUMNS, WHY, values
from mindviz.metrics.rows import DECODED, Row
from mindviz.metrics.scores import Score

HOW = (
    "Intervals: 95 %, bootstrap over shots. Shuffled and p: the truths of whole shots permuted. Each row names the "
    "classifier or the formula that judged."
)
_HEADS = ("measured", "by", "score", "95 % interval", "chance and baselines", "shuffled", "p", "clips")
MAPS_TITLE = "Where the maps lie, against the planted truth"
_MAP_HEADS = ("map", "AUROC", "Spearman within", "untrained: AUROC", "Spearman within")
_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f7f9; color: #1d2125; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 32px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; }
p { max-width: 85ch; margin: 6px 0; } .quiet { color: #5a636d; }
.banner { background: #fff4d6; border: 1px solid #e6c667; border-radius: 6px; padding: 8px 14px; margin: 14px 0; }
.card { background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; padding: 10px 14px; margin: 12px 0; }
.card { overflow-x: auto; }
.card svg { display: block; width: 100%; height: auto; max-width: 1060px; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; font-weight: 600; border-bottom: 2px solid #cfd5dc; white-space: nowrap; }
th, td { padding: 4px 10px 4px 0; vertical-align: top; } td { border-bottom: 1px solid #edf0f2; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.met td.n b { color: #2d7a34; } tr.unmet td.n b { color: #b03030; }
details { margin: 6px 0; } summary { cursor: pointer; padding: 4px 0; } summary b { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 0; font-size: 13.5px; }
dt { color: #5a636d; } dd { margin: 0; overflow-wrap: anywhere; }
"""


# ---------------------------------------------------------------------- cells and rows
def cells(score: Score) -> tuple[str, ...]:
    """A score as the cells of a table row."""
    chance = ", ".join(f"{name} {value:.3f}" for name, value in score.chance.items()) or "-"
    shuffled = "-" if score.shuffled is None else f"{score.shuffled:.3f}"
    p = "-" if score.p is None else f"{score.p:.4g}"
    interval = f"{score.low:.3f} to {score.high:.3f}"
    return (score.metric, score.judge, f"{score.value:.3f}", interval, chance, shuffled, p, str(score.num_clips))


def groups(rows: Sequence[Row]) -> dict[tuple[str, str], list[Score]]:
    """Scores by method and subset, in the order of the rows."""
    found: dict[tuple[str, str], list[Score]] = {}
    for row in rows:
        found.setdefault((row.method, row.subset), []).append(row.score)
    return found


def published_rows() -> list[tuple[str, ...]]:
    """The published figures as table rows."""
    shown = [tuple("-" if v is None else f"{v:.3f}" for v in values(line)) for line in PUBLISHED]
    return [(line.who, *numbers, line.source) for line, numbers in zip(PUBLISHED, shown, strict=True)]


def method_rows(methods: Sequence[ReportMethod], missing: Mapping[str, str]) -> list[tuple[str, ...]]:
    """A description of each method, and why it was left out, if it was."""
    return [(m.name, m.kind, m.about, f"left out: {missing[m.name]}" if m.name in missing else "") for m in methods]


def map_rows(planted: Planted) -> list[tuple[str, ...]]:
    """The agreement of each method's mean map with the planted truth, as table rows."""
    nothing = Agreement(None, None, None, None)
    return [(s.name, *_agreed(s.trained), *_agreed(s.untrained or nothing)) for s in planted.scores]


def _agreed(found: Agreement) -> tuple[str, ...]:
    parts = ((found.auroc, found.auroc_interval), (found.rho, found.rho_interval))
    return tuple(
        "-" if value is None else f"{value:.3f}" + (f" ({spread[0]:.3f} to {spread[1]:.3f})" if spread else "")
        for value, spread in parts
    )


def _notes(notes: Sequence[str], planted: Planted) -> list[str]:
    """The notes, and the reason if there is no section comparing the maps with the truth."""
    reason = planted.missing
    return [*notes, *([f"Maps: {reason}."] if reason else [])]


# ---------------------------------------------------------------------- Markdown
def markdown(
    title: str,
    facts: Mapping[str, Any],
    methods: Sequence[ReportMethod],
    missing: Mapping[str, str],
    rows: Sequence[Row],
    planted: Planted,
    notes: Sequence[str] = (),
) -> str:
    """The report as Markdown: facts, methods, a table for each method and subset, published figures."""
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts.items()), "", HOW, ""]
    lines += [f"{note}\n" for note in _notes(notes, planted)]
    lines += ["## Methods", "", *_table(("method", "kind", "what it is", ""), method_rows(methods, missing)), ""]
    for (method, subset), scores in groups(rows).items():
        lines += [f"## {method}: {subset}", "", *_table(_HEADS, [cells(score) for score in scores]), ""]
    if planted.scores:
        lines += [f"## {MAPS_TITLE}", "", planted.about, "", *_table(_MAP_HEADS, map_rows(planted)), ""]
    lines += ["## Published figures, for context", "", f"As printed in the papers. {WHY}", ""]
    lines += _table(("", *PUBLISHED_COLUMNS, "source"), published_rows())
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


# ---------------------------------------------------------------------- HTML
def html(
    title: str,
    facts: Mapping[str, Any],
    methods: Sequence[ReportMethod],
    missing: Mapping[str, str],
    rows: Sequence[Row],
    planted: Planted,
    notes: Sequence[str] = (),
) -> str:
    """The report as a single HTML file."""
    kinds = {m.name: m.kind for m in methods}
    warning = f'<p class="banner"><b>Simulated.</b> {escape(facts["SIMULATED"])}</p>' if "SIMULATED" in facts else ""
    drawn = "".join(
        f'<h2>{escape(f.title)}</h2><p class="quiet">{escape(f.caption)}</p><div class="card">{f.svg}</div>'
        for f in figures(rows, kinds)
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        warning,
        f'<p class="quiet">{escape(HOW)}</p>',
        *(f"<p>{escape(note)}</p>" for note in _notes(notes, planted)),
        _targets(rows),
        drawn,
        *_map_section(planted),
        "<h2>Methods</h2>",
        _card(("method", "kind", "what it is", ""), method_rows(methods, missing)),
        "<h2>All scores</h2>",
        *_score_tables(rows),
        "<h2>Published figures, for context</h2>",
        f'<p>As printed in the papers. <span class="quiet">{escape(WHY)}</span></p>',
        _card(("", *PUBLISHED_COLUMNS, "source"), published_rows()),
        "<h2>Facts</h2>",
        '<div class="card"><dl>',
        *(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()),
        "</dl></div>",
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    page = f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>'
    return page + "<body><main>\n" + "\n".join(part for part in body if part) + "\n</main></body></html>\n"


def _map_section(planted: Planted) -> list[str]:
    if not planted.scores:
        return []
    return [
        f"<h2>{MAPS_TITLE}</h2>",
        f'<p class="quiet">{escape(planted.about)}</p>',
        _card(_MAP_HEADS, map_rows(planted)),
    ]


def _targets(rows: Sequence[Row]) -> str:
    """A table of the scores with a target, and whether they reach it."""
    aimed = [r.score for r in rows if "target" in r.score.chance]
    if not aimed:
        return ""
    lines = []
    for s in aimed:
        met = s.value >= s.chance["target"]
        numbers = (f"<b>{s.value:.3f}</b>", f"{s.low:.3f} to {s.high:.3f}", f"{s.chance['target']:.2f}")
        row = [f"<td>{escape(s.metric)}</td><td>{escape(s.judge)}</td>", *(f'<td class="n">{n}</td>' for n in numbers)]
        lines.append(
            f'<tr class="{"met" if met else "unmet"}">{"".join(row)}<td>{"met" if met else "not met"}</td></tr>'
        )
    heads = "".join(f"<th>{h}</th>" for h in ("measured", "by", "ratio", "95 % interval", "target", ""))
    return f'<h2>Targets</h2><div class="card"><table><tr>{heads}</tr>{"".join(lines)}</table></div>'


def _score_tables(rows: Sequence[Row]) -> list[str]:
    """A table for each method and subset, folded except for all decoded clips."""
    parts = []
    for (method, subset), scores in groups(rows).items():
        opened = " open" if (method, subset) == (DECODED, "all") else ""
        name = f"<b>{escape(method)}</b>: {escape(subset)} ({scores[0].num_clips} clips)"
        table = _card(_HEADS, [cells(score) for score in scores])
        parts.append(f"<details{opened}><summary>{name}</summary>{table}</details>")
    return parts


def _card(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(_cell(text) for text in row) + "</tr>" for row in rows)
    return f'<div class="card"><table><tr>{head}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    number = text[:1].isdigit() or text == "-" or (text[:1] == "-" and text[1:2].isdigit())
    return f"<td{' class=n' if number else ''}>{escape(text)}</td>"
