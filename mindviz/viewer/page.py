"""One page that holds the viewer and its maps, for a disk or a talk: no server, no network."""

from __future__ import annotations

import base64
import json

from mindviz.viewer.assets import ASSETS, SCRIPTS, viewer_assets
from mindviz.viewer.geometry import geometry_payload


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
    options = json.dumps({"geometry": _data_url(geometry_payload(mesh)), "height": height_px})
    said = f'<p class="mv-caution">{_escape(caution)}</p>\n' if caution else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(page_title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{(ASSETS / 'viewer.css').read_text()}\n{_PAGE_STYLE}</style>\n"
        f'<script type="importmap">{json.dumps({"imports": imports})}</script></head>\n'
        f'<body><div id="cortex"></div>\n{said}'
        f"{_data_element('values', payload)}{_data_element('patches', patches or '')}"
        f"{_data_element('options', options)}"
        f'<script type="module">\n{(ASSETS / "page.js").read_text()}</script></body></html>\n'
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
