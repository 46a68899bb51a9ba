"""The files of the cortex viewer that a browser fetches: scripts, style and meshes."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from mindviz.types import MindvizError
from mindviz.viewer.geometry import geometry_file

ASSETS = Path(__file__).parents[2] / "assets" / "viewer"


SCRIPTS = (
    "viewer.js",
    "scene.js",
    "facing.js",
    "layout.js",
    "shaders.js",
    "outlines.js",
    "labels.js",
    "controls.js",
    "display.js",
    "pointer.js",
    "names.js",
    "motion.js",
    "detail.js",
    "summary.js",
    "elements.js",
    "data.js",
    "colormaps.js",
    "three.module.min.js",
)


def viewer_assets(mesh: str = "fsLR-32k") -> list[Path]:
    """The files and folders that the server must hand out (`gr.set_static_paths`); `viewer_html` sets them itself."""
    missing = [name for name in (*SCRIPTS, "page.js", "viewer.css") if not (ASSETS / name).is_file()]
    if missing:
        raise MindvizError(f"{ASSETS}: expected the viewer's {', '.join(missing)}, found nothing; is assets/ complete?")
    return [ASSETS, geometry_file(mesh).parent]


@cache
def assets_version() -> str:
    content = b"".join((ASSETS / name).read_bytes() for name in (*SCRIPTS, "viewer.css"))
    return hashlib.sha256(content).hexdigest()[:12]
