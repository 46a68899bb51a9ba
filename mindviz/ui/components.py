"""The components of our own: the film strip one chooses a scan from, and players that run in step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from mindviz import video
from mindviz.session.workspace import data_address
from mindviz.storage import require_file
from mindviz.types import VideoClip

STATIC = Path(__file__).parents[2] / "assets" / "app"


def static(name: str) -> str:
    """Text of a file of the page (script, style, template)."""
    return require_file(STATIC / name, "a file of the page").read_text(encoding="utf-8")


def handler(name: str, *first: Any) -> str:
    """A function of `assets/app/events.js` as gradio's ``js``; it is given `first` and then what the event is given."""
    given = "".join(f"{json.dumps(value)}, " for value in first)
    return f"(...given) => ({static('events.js')}).{name}({given}...given)"


def film_strip(scan: int, film: dict[str, Any]) -> gr.HTML:
    """Value: the scan. `film`: ``count, seconds, sheet, columns, rows, cuts, run``. Choosing triggers ``select``.

    The value changes in the page at once, so that whatever is pressed next already works on the new scan.
    """
    return gr.HTML(
        scan,
        html_template=static("filmstrip.html"),
        js_on_load=static("filmstrip.js"),
        apply_default_css=False,
        elem_id="app-strip",
        film=film,
    )


def players(value: dict[str, Any]) -> gr.HTML:
    """Value: see `assets/app/players.js`."""
    return gr.HTML(
        value,
        html_template=static("players.html"),
        js_on_load=static("players.js"),
        apply_default_css=False,
        elem_id="app-players",
    )


def lesion_players(value: str, groupings: list[list[str]], shown: dict[str, Any]) -> gr.HTML:
    """Three players and what is taken out. Value, `groupings` and `shown`: see `assets/app/lesion.js`."""
    return gr.HTML(
        value,
        html_template=static("lesion.html"),
        js_on_load=static("lesion.js"),
        apply_default_css=False,
        elem_id="app-lesion",
        groupings=groupings,
        shown=shown,
    )


def clip_address(clip: VideoClip) -> str:
    """The clip as an mp4 in a data address, each pixel enlarged until the shorter side has at least 256."""
    return data_address(video.mp4_bytes(clip, scale=max(1, -(-256 // min(clip.frames.shape[1:3])))), "video/mp4")
