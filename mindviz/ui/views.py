"""Pieces of the page as HTML. Pure functions of what they show; every text from a file is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mindviz.session.answers import Answered
from mindviz.session.workspace import Similarity
from mindviz.types import Decoded


def header(dataset: str, checkpoint: str, simulated: bool) -> str:
    """Title, one sentence, and the badge of simulated data."""
    badge = (
        '<span class="app-badge" title="The subjects, their scans and the films are simulated; no brain was measured.">'
        "Simulated</span>"
        if simulated
        else ""
    )
    return (
        '<header class="app-header"><h1>mindviz</h1>'
        "<p>The video decoded from a brain scan, beside the video that was shown.</p>"
        f'<span class="app-what" title="dataset · checkpoint">{escape(dataset)} · {escape(checkpoint)}</span>'
        f"{badge}</header>"
    )


def fine_print(text: str) -> str:
    return f'<p class="app-fine" title="{escape(text)}">{escape(text)}</p>'


def answers(found: Sequence[Answered]) -> str:
    """What was read from the scan, in words, and a table of the areas that were asked, to be opened."""
    if not found:
        return ""
    read = [f"{escape(one.question)}: <b>{_likely(one.answers)}</b>" for one in found if one.answers]
    rows = [_area_rows(one) for one in found]
    return (
        f'<details class="app-answers"><summary>Read from the scan: {" · ".join(read) or "numbers"}'
        "</summary><table><thead><tr><th>question</th><th>area</th><th>share of attention</th><th>alone it says</th>"
        f"</tr></thead>{''.join(rows)}</table></details>"
    )


def _area_rows(one: Answered) -> str:
    first = f'<th rowspan="{len(one.areas)}" scope="rowgroup">{escape(one.question)}</th>'
    rows = []
    for i, a in enumerate(one.areas):
        cells = (escape(a.area), f"{a.share:.0%}", _likely(a.answers) or "–")
        rows.append(f"<tr>{first if i == 0 else ''}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<tbody>{''.join(rows)}</tbody>"


def _likely(answers: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{escape(name)} {share:.0%}" for name, share in answers)


def placeholder(text: str) -> str:
    return f'<div class="app-scores app-quiet"><p>{escape(text)}</p></div>'


def scores(similarity: Similarity) -> str:
    """How like the truth the decoded clip is; each number beside its baseline."""
    s = similarity
    rank = f"{s.rank:g}"
    cells = (
        _score("Structure (SSIM)", f"{s.ssim:.2f}", f"to other clips {s.ssim_others:.2f}", s.ssim, s.ssim_others),
        _score(
            "Pixels (PSNR)",
            f"{s.psnr:.1f} dB",
            f"to other clips {s.psnr_others:.1f} dB",
            s.psnr / 30,
            s.psnr_others / 30,
        ),
        _score(
            "Place of the truth",
            f"{rank} of {s.count}",
            f"guessing {(s.count + 1) / 2:g}",
            1 - (s.rank - 1) / max(1, s.count - 1),
            0.5,
        ),
    )
    return f'<div class="app-scores" aria-label="Similarity to what was shown">{"".join(cells)}</div>'


def _score(name: str, value: str, baseline: str, share: float, mark: float) -> str:
    """One number with a bar; the tick on the bar is the baseline."""
    return (
        f'<div class="app-score"><span class="app-score-name">{name}</span><b>{value}</b>'
        f'<div class="app-bar"><i style="width:{_percent(share)}"></i><u style="left:{_percent(mark)}"></u></div>'
        f'<span class="app-score-base">{baseline}</span></div>'
    )


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


def note(decoded: Decoded) -> str:
    """Seed, settings and time in one line."""
    settings, seconds = decoded.settings, sum(decoded.timings.values())
    negative = " · guided away from the run's mean scan" if settings.negative == "given" else ""
    return (
        f"seed {settings.seed} · {settings.num_inference_steps} steps · "
        f"guidance {settings.guidance_scale:g}{negative} · {seconds:.1f} s"
    )
