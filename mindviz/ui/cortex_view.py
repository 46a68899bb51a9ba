"""The cortex viewer as a component of the page, and what the page sends when it asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from mindviz.viewer.assets import ASSETS, assets_version, viewer_assets
from mindviz.viewer.geometry import geometry_file

_MOUNT = "document.querySelector('#cortex .mv-mount')"


ASK = f"(_, ...rest) => [{_MOUNT}?.ask?.() ?? null, ...rest]"
"""What an event whose first input is a `map_jobs.PageRequest` sends for it, as gradio's ``js``: page, number and place."""


ASK_TO_DRAW = ASK.replace("ask?.()", "ask?.(true)")
"""The same of an event that answers with a map: until then the page shows what is being computed."""


UNTOLD, UNDRAWN = f"() => {_MOUNT}?.untold?.()", f"() => {_MOUNT}?.undrawn?.()"
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
    return gr.HTML(
        value=None,
        html_template=f'<div class="mv-mount" style="min-height:{height_px}px"></div>',
        js_on_load=_ON_LOAD.replace("ASSETS", json.dumps(str(ASSETS)))
        .replace("GEOMETRY", json.dumps(str(geometry_file(mesh))))
        .replace("VERSION", json.dumps(assets_version()))
        .replace("OPTIONS", json.dumps({"height": height_px, "view": view})),
        apply_default_css=False,
        elem_id=elem_id,
        label=label,
        min_height=height_px,
        detail=None,
        patches=patches,
        server_functions=list(serving),
    )


_ON_LOAD = """
const mount = element.querySelector(".mv-mount");
const config = window.gradio_config ?? {};
const file = (path) => `${config.root ?? ""}${config.api_prefix ?? "/gradio_api"}/file=${path}`;
const page = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");
let viewer = null, asked = 0, drawing = 0;
const last = {};
// Requests bear the place that is picked when they are made, and a number: answers arrive in any order, and one to an
// earlier request than what is shown is not shown.
mount.ask = (forMap) => {
  asked += 1;
  if (forMap) follow(asked);
  return { page, ticket: asked, place: viewer?.picked ?? null };
};
const hear = (name, show) => watch(name, () => {
  const content = typeof props[name] === "string" && props[name] ? JSON.parse(props[name]) : props[name];
  const ticket = content?.ticket ?? 0;
  if (ticket && ticket < (last[name] ?? 0)) return;
  last[name] = ticket || (last[name] ?? 0);
  if (name === "value" && (!ticket || ticket >= drawing)) mount.undrawn();
  if (viewer) show(content);
});
// what is being computed for the last request for a map, until that is answered
const follow = async (ticket) => {
  drawing = ticket;
  while (drawing === ticket) {
    await new Promise((go) => setTimeout(go, 300));
    const told = drawing === ticket ? await server.how_far?.(page) : null;
    if (drawing === ticket) viewer?.setBusy(told);
  }
};
mount.undrawn = () => {
  drawing = 0;
  viewer?.setBusy(null);
};
mount.untold = () => viewer?.untold();
hear("value", (map) => viewer.setValues(map));
hear("detail", (told) => viewer.setDetail(told));
watch("patches", () => viewer?.setPatches(props.patches));
const on = {
  onPick: () => trigger("select"),
  onNextMap: (back) => trigger("input", { back }),
  onGiveUp: () => server.give_up?.(page),
  onScan: (scan, run) => document.dispatchEvent(new CustomEvent("mindviz-scan", { detail: { run, scan } })),
};
(async () => {
  try {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = file(ASSETS + "/viewer.css") + "?" + VERSION;
    const styled = new Promise((resolve) => { style.onload = style.onerror = resolve; });
    document.head.append(style);
    const [module, geometry] = await Promise.all([
      import(file(ASSETS + "/viewer.js")), fetch(file(GEOMETRY)).then((r) => r.arrayBuffer()), styled,
    ]);
    viewer = await module.createViewer(mount, geometry, {
      ...OPTIONS, ...on, values: props.value, patches: props.patches,
    });
    element.viewer = viewer;
  } catch (error) {
    mount.textContent = `The cortex viewer could not be loaded (${error.message}). Reload the page to try again.`;
    console.error(error);
  }
})();
"""
