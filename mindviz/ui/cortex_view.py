"""The cortex viewer as a component of the page, and what the page sends when it asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from mindviz.ui.components import handler, static
from mindviz.viewer.assets import ASSETS, assets_version, viewer_assets
from mindviz.viewer.geometry import geometry_file

ASK, ASK_TO_DRAW = handler("ask"), handler("askToDraw")
"""What an event whose first input is a `map_jobs.PageRequest` sends for it: page, number and place; and the same of an
event that answers with a map: until then the page shows what is being computed."""
UNTOLD, UNDRAWN = handler("untold"), handler("undrawn")
"""What is to be done when no answer comes."""


def viewer_html(
    height_px: int = 440,
    mesh: str = "fsLR-32k",
    elem_id: str = "cortex",
    view: str = "posterior",
    label: str = "Cortex",
    patches: str | None = None,
    serving: Sequence[Callable[[str], Any]] = (),
) -> gr.HTML:
    """The viewer as a gradio component; its value is a `values_payload`, a `pair_payload`, or None for bare cortex.

    An event that returns a new payload changes the colours only: the canvas, the camera and the settings stay.
    `height_px` is that of the drawing; the buttons and the colour bar come on top. It first shows `view` (lateral,
    medial, dorsal, ventral, posterior): by default from behind, where the visual cortex is.

    It has two more properties: ``patches`` (`patches_payload`), and ``detail``, what is told of the place that was
    clicked (JSON of `time_courses.told`, None to close it). A ``ticket`` in value or detail (`ticketed`) is the
    number of the page's request (`ASK`): an answer to an earlier one than what is shown is not shown. A click triggers
    ``select``, the key for the next map ``input`` (``back``: for the one before). A clip that is chosen in what is told
    sends the event ``mindviz-scan`` with run and scan to the document.

    `serving` are two functions of the page's name: ``how_far`` says what is being computed for it (``text``, and the
    ``share`` that is done or None) or None, ``give_up`` ends that.
    """
    gr.set_static_paths([str(path) for path in viewer_assets(mesh)])
    options = {"height": height_px, "view": view}
    given = [str(ASSETS), str(geometry_file(mesh)), assets_version(), options]
    return gr.HTML(
        value=None,
        html_template=f'<div class="mv-mount" style="min-height:{height_px}px"></div>',
        js_on_load=f"const [ASSETS, GEOMETRY, VERSION, OPTIONS] = {json.dumps(given)};\n{static('cortex.js')}",
        apply_default_css=False,
        elem_id=elem_id,
        label=label,
        min_height=height_px,
        detail=None,
        patches=patches,
        server_functions=list(serving),
    )
