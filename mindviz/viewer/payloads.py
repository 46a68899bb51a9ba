"""The Python side of the cortex viewer: what the browser receives, and the component that shows it.

The mesh (`geometry_payload`) travels once, as a file; after that only values do (`values_payload`, `pair_payload`,
`patches_payload`). The script in ``assets/viewer`` knows nothing of gradio, so that an exported page
(`standalone_page`) shows the same viewer.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np

from mindviz.brain import Projection
from mindviz.brain.projection import check_surface_map
from mindviz.brain.volume import Volume
from mindviz.types import MindvizError, SurfaceMap
from mindviz.viewer.geometry import GEOMETRY_FORMAT

if TYPE_CHECKING:
    pass


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
            "format": GEOMETRY_FORMAT,
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
    return json.dumps({"format": GEOMETRY_FORMAT, "maps": maps})


def ticketed(payload: str | None, ticket: int) -> str:
    """A payload, or bare cortex, with the number of the page's request: the page refuses one below the last."""
    content = {"format": GEOMETRY_FORMAT, "maps": []} if payload is None else json.loads(payload)
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
            "format": GEOMETRY_FORMAT,
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


# gradio runs this once, when the component appears; its template never changes, so the page's elements stay. Values
# that arrive while the script still loads are the ones it starts with.


# ---------------------------------------------------------------------------------------------- exported page
