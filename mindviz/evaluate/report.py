"""From options to a folder with ``report.json``, ``report.md`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindviz.evaluate.catalogue import ReportMethod, chosen
from mindviz.evaluate.measure import shared_rows
from mindviz.evaluate.methods import make_clips
from mindviz.evaluate.page import html, markdown
from mindviz.evaluate.planted import Planted, planted_truth
from mindviz.evaluate.published import PUBLISHED, WHY
from mindviz.evaluate.setup import Options, facts_of, open_setup
from mindviz.metrics.classifiers import available
from mindviz.metrics.rows import DECODED, Row
from mindviz.storage import atomic_file, write_json


@dataclass(frozen=True)
class Report:
    """The content of a report.

    `missing`: by name, why methods were left out; `notes`: anything else a reader must know; `planted`: the agreement
    of the maps of the cortex with a planted truth.
    """

    title: str
    facts: Mapping[str, Any]
    methods: tuple[ReportMethod, ...]
    missing: Mapping[str, str]
    rows: tuple[Row, ...]
    planted: Planted
    notes: tuple[str, ...] = ()


def evaluate(options: Options) -> dict[str, Any]:
    """Decode, measure and write the report into ``options.out``.

    Returns
    -------
    dict
        The content of ``report.json``.

    Raises
    ------
    MindvizError
        Before anything is decoded: as for `open_setup`, or for an unknown method or missing classifier.
    """
    methods = chosen(options.methods)
    setup = open_setup(options)
    classifiers = available(options.vit, options.videomae)
    made = make_clips(setup, methods)
    rows = shared_rows(setup, made, classifiers)
    title = f"Decoding subject {setup.subject}, {setup.run}"
    facts = facts_of(setup) | {"classifiers": ", ".join(c.name for c in classifiers)}
    return write(Report(title, facts, methods, made.missing, tuple(rows), planted_truth(setup)), options.out)


def write(report: Report, out: Path) -> dict[str, Any]:
    """Write the three files and return the content of ``report.json``."""
    methods = [asdict(m) | {"missing": report.missing.get(m.name)} for m in report.methods]
    content = {
        "format": 1,
        "facts": dict(report.facts),
        "methods": methods,
        "rows": [asdict(row) for row in report.rows],
        "notes": list(report.notes),
        "maps against the planted truth": report.planted.record(),
        "published": {"why they do not compare": WHY, "as printed": [asdict(line) for line in PUBLISHED]},
    }
    write_json(out / "report.json", content)
    parts = (report.title, report.facts, report.methods, report.missing, report.rows, report.planted, report.notes)
    for name, text in (("report.md", markdown(*parts)), ("report.html", html(*parts))):
        with atomic_file(out / name) as aside:
            aside.write_text(text, encoding="utf-8")
    return content


def headline(report: Mapping[str, Any], metrics: Sequence[str] = ()) -> str:
    """Scores of the decoded clips on all windows, a line for each of `metrics` (if empty, all with a p-value), then
    what was left out and why.
    """
    scores = [r["score"] for r in report["rows"] if (r["method"], r["subset"]) == (DECODED, "all")]
    kept = [s for s in scores if (s["metric"] in metrics if metrics else s["p"] is not None)]
    gone = [f"left out: {m['name']}, {m['missing']}" for m in report["methods"] if m["missing"]]
    return "\n".join([*map(_line, kept), *gone])


def _line(score: Mapping[str, Any]) -> str:
    chance = ", ".join(f"{level:.3f} {name}" for name, level in score["chance"].items()) or "-"
    tested = "" if score["p"] is None else f"; shuffled {score['shuffled']:.3f}, p {score['p']:.2g}"
    interval = f"({score['low']:.3f} to {score['high']:.3f})"
    return f"{score['metric']:26} {score['value']:.3f} {interval}; chance {chance}{tested}; judged by {score['judge']}"
