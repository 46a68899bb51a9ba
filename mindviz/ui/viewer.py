"""The Python side of the cortex viewer: what the browser gets, and the component that shows it.

The mesh (`geometry_payload`) travels once, as a file; after that only values do (`values_payload`, `pair_payload`,
`patches_payload`). The script in ``assets/viewer`` knows nothing of gradio, so that an exported page
(`standalone_page`) shows the same viewer.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindviz.brain import Projection
from mindviz.brain.projection import check_surface_map
from mindviz.brain.volume import Volume
from mindviz.types import MindvizError, SurfaceMap
from mindviz.ui.geometry import FORMAT, geometry_file, geometry_payload

if TYPE_CHECKING:
    import gradio as gr

ASSETS = Path(__file__).parents[2] / "assets" / "viewer"
SCRIPTS = (
    "viewer.js", "scene.js", "facing.js", "layout.js", "shaders.js", "outlines.js", "labels.js", "controls.js",
    "display.js", "pointer.js", "names.js", "motion.js", "detail.js", "summary.js", "elements.js", "data.js",
    "colormaps.js", "three.module.min.js",
)  # fmt: skip
_MOUNT = "document.querySelector('#cortex .mv-mount')"
ASK = f"(_, ...rest) => [{_MOUNT}?.ask?.() ?? null, ...rest]"
"""What an event whose first input is a `drawing.Request` sends for it, as gradio's ``js``: page, number and place."""
ASK_TO_DRAW = ASK.replace("ask?.()", "ask?.(true)")
"""The same of an event that answers with a map: until then the page shows what is being computed."""
UNTOLD, UNDRAWN = f"() => {_MOUNT}?.untold?.()", f"() => {_MOUNT}?.undrawn?.()"
"""What is to be done when no answer comes."""


# --------------------------------------------------------------------------------------------------- values


def values_payload(
    surface_map: SurfaceMap,
    title: str,
    units: str = "",
    simulated: bool = False,
    signed: bool | None = None,
    limits: tuple[float, float] | None = None,
) -> str:
    """One map as JSON for the viewer: a bit per mesh vertex (has it a value?), then the values as float32, base64.

    A map of voxels of images has a second bit per vertex (`SurfaceMap.counted`), so that areas are weighed by voxels.

    Parameters
    ----------
    surface_map : SurfaceMap
        NaN (and infinite) vertices are drawn as bare cortex.
    title, units : str
        Shown above the cortex and beside the colour bar.
    simulated : bool
        Shows the word on the view. It must be true of everything that comes from a simulated subject.
    signed : bool, optional
        Diverging colours around 0; by default, whether the map has values below 0.
    limits : (float, float), optional
        Ends of the colour bar; by default the 1st and 99th percentile (symmetric for a signed map).

    Raises
    ------
    MindvizError
        If the map does not fit its mesh, or `limits` are not increasing.
    """
    check_surface_map(surface_map)
    both = np.concatenate([surface_map.left, surface_map.right]).astype("<f4")
    mask = np.isfinite(both)
    values = both[mask]
    signed = bool((values < 0).any()) if signed is None else signed
    low, high = _limits(values, signed) if limits is None else (float(limits[0]), float(limits[1]))
    if limits is not None and not low < high:
        raise MindvizError(f"the colour limits need to increase, found {low} and {high}")
    counted = {} if surface_map.counted is None else {"counted": _bits(surface_map.counted)}
    return json.dumps(
        {
            "format": FORMAT,
            "mesh": surface_map.mesh,
            "title": title,
            "units": units,
            "simulated": simulated,
            "signed": signed,
            "limits": [low, high],
            "message": _message(values),
            "mask": _bits(mask),
            "values": base64.b64encode(values.tobytes()).decode(),
            **counted,
        }
    )


def _bits(flags: np.ndarray) -> str:
    return base64.b64encode(np.packbits(flags, bitorder="little").tobytes()).decode()


def pair_payload(first: str, second: str) -> str:
    """Two maps (`values_payload`) to be drawn side by side, with one camera, surface and threshold.

    Raises
    ------
    MindvizError
        If they are not on the same mesh.
    """
    maps = [json.loads(first), json.loads(second)]
    if maps[0]["mesh"] != maps[1]["mesh"]:
        raise MindvizError(f"two maps to compare need one mesh, found {maps[0]['mesh']} and {maps[1]['mesh']}")
    return json.dumps({"format": FORMAT, "maps": maps})


def ticketed(payload: str | None, ticket: int) -> str:
    """A payload, or bare cortex, with the number of the page's request: the page refuses one below the last."""
    content = {"format": FORMAT, "maps": []} if payload is None else json.loads(payload)
    return json.dumps({**content, "ticket": ticket})


def missing_payload(mesh: str, title: str, message: str, simulated: bool = False) -> str:
    """A map that could not be made, as bare cortex with the sentence that says why."""
    empty = Projection(np.array([0]), mesh).to_surface(np.array([np.nan], np.float32))
    return json.dumps({**json.loads(values_payload(empty, title, "", simulated)), "message": message})


def patches_payload(
    vertices: np.ndarray, patches: np.ndarray, mesh: str = "fsLR-32k", volume: Volume | None = None
) -> str:
    """The patch of each voxel, for its borders: attention can be no finer than a patch.

    Parameters
    ----------
    vertices : ndarray, shape (V,), the cortical index of each voxel (`ScanRun.vertices`).
    patches : ndarray of int, shape (V,), from 0; -1 for a voxel that the encoder leaves out.
    volume : where the voxels lie, of scans that came as images: a patch is then every vertex in one of its voxels.

    Raises
    ------
    MindvizError
        If there is not one patch per voxel, or more of them than the viewer can tell apart.
    """
    if patches.shape != vertices.shape or patches.max(initial=-1) >= 2**16 - 1:
        raise MindvizError(
            f"expected one patch below {2**16 - 1} for each of {vertices.size} voxels, "
            f"found shape {patches.shape} and up to {patches.max(initial=-1)}"
        )
    surface = Projection(vertices, mesh, volume).to_surface(patches + 1)
    labels = np.nan_to_num(np.concatenate([surface.left, surface.right])).astype("<u2")
    return json.dumps(
        {
            "format": FORMAT,
            "mesh": mesh,
            "count": int(patches.max(initial=-1)) + 1,
            "labels": base64.b64encode(labels.tobytes()).decode(),
        }
    )


def _limits(values: np.ndarray, signed: bool) -> tuple[float, float]:
    if values.size == 0:
        return 0.0, 1.0
    if signed:
        high = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max())
        return -high, high
    low, high = (float(limit) for limit in np.percentile(values, [1, 99]))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def _message(values: np.ndarray) -> str:
    if values.size == 0:
        return "This map has no values: every vertex is empty (NaN)."
    if values.min() == values.max():
        return f"This map is constant: all {values.size:,} values are {values[0]:.4g}."
    return ""


# ------------------------------------------------------------------------------------------------ component


def viewer_assets(mesh: str = "fsLR-32k") -> list[Path]:
    """The files and folders that the server must hand out (`gr.set_static_paths`); `viewer_html` sets them itself."""
    missing = [name for name in (*SCRIPTS, "viewer.css") if not (ASSETS / name).is_file()]
    if missing:
        raise MindvizError(f"{ASSETS}: expected the viewer's {', '.join(missing)}, found nothing; is assets/ complete?")
    return [ASSETS, geometry_file(mesh).parent]


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
    clicked (JSON of `mindviz.ui.courses.told`, None to close it). A ``ticket`` in value or detail (`ticketed`) is the
    number of the page's request (`ASK`): an answer to an earlier one than what is shown is not shown. A click triggers
    ``select``, the key for the next map ``input`` (``back``: for the one before). A clip that is chosen in what is told
    sends the event ``mindviz-scan`` with run and scan to the document.

    `serving` are two functions of the page's name: ``how_far`` says what is being computed for it (``text``, and the
    ``share`` that is done or None) or None, ``give_up`` ends that.
    """
    import gradio as gr

    gr.set_static_paths([str(path) for path in viewer_assets(mesh)])
    return gr.HTML(
        value=None,
        html_template=f'<div class="mv-mount" style="min-height:{height_px}px"></div>',
        js_on_load=_ON_LOAD.replace("ASSETS", json.dumps(str(ASSETS)))
        .replace("GEOMETRY", json.dumps(str(geometry_file(mesh))))
        .replace("VERSION", json.dumps(_assets_version()))
        .replace("OPTIONS", json.dumps({"height": height_px, "view": view})),
        apply_default_css=False,
        elem_id=elem_id,
        label=label,
        min_height=height_px,
        detail=None,
        patches=patches,
        server_functions=list(serving),
    )


@cache
def _assets_version() -> str:
    content = b"".join((ASSETS / name).read_bytes() for name in (*SCRIPTS, "viewer.css"))
    return hashlib.sha256(content).hexdigest()[:12]


# gradio runs this once, when the component appears; its template never changes, so the page's elements stay. Values
# that arrive while the script still loads are the ones it starts with.
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


# ---------------------------------------------------------------------------------------------- exported page


def standalone_page(
    payload: str,
    mesh: str = "fsLR-32k",
    height_px: int = 560,
    page_title: str = "mindviz",
    caution: str = "",
    patches: str | None = None,
) -> str:
    """One self-contained HTML page with the viewer and one map, or two; opens from a disk, with no network.

    Parameters
    ----------
    payload : str
        What `values_payload` or `pair_payload` returns.
    caution : str
        What the map does not say and what its control is: stands below the cortex.
    patches : str, optional
        What `patches_payload` returns, to offer the borders of the encoder's patches.
    """
    viewer_assets(mesh)
    # relative imports mean nothing inside a data URL, so the modules are named in an import map instead
    imports = {
        f"mindviz/{name}": _data_url(
            (ASSETS / name).read_bytes().replace(b'from "./', b'from "mindviz/'), "text/javascript"
        )
        for name in SCRIPTS
    }
    script = (
        'import { createViewer } from "mindviz/viewer.js";\n'
        f"const geometry = await (await fetch({json.dumps(_data_url(geometry_payload(mesh)))})).arrayBuffer();\n"
        'const [values, patches] = ["values", "patches"].map((id) => document.getElementById(id).textContent);\n'
        'window.viewer = await createViewer(document.getElementById("cortex"), geometry, '
        f'{{ height: {height_px}, values, patches, theme: "auto" }});'
    )
    said = f'<p class="mv-caution">{_escape(caution)}</p>\n' if caution else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(page_title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{(ASSETS / 'viewer.css').read_text()}\n{_PAGE_STYLE}</style>\n"
        f'<script type="importmap">{json.dumps({"imports": imports})}</script></head>\n'
        f'<body><div id="cortex"></div>\n{said}'
        f"{_data_element('values', payload)}{_data_element('patches', patches or '')}"
        f'<script type="module">{script}</script></body></html>\n'
    )


_PAGE_STYLE = (
    "body { margin: 1rem; font-family: system-ui, sans-serif; color: #1f2937; }\n"
    "@media (prefers-color-scheme: dark) { body { background: #0b0f19; color: #e5e7eb; } }"
)


def _data_element(name: str, text: str) -> str:
    """Text for the script to read; no text of a map may end the element it stands in."""
    data = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{data}</script>\n'


def _data_url(data: bytes, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
