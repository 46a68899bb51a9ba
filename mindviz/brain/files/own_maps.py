"""Maps and parcellations made by other programs, checked against our meshes.

Maps: ``.func.gii``, ``.shape.gii``, ``.dscalar.nii``. Parcellations: ``.label.gii``, ``.annot``, ``.dlabel.nii``. GIFTI
and FreeSurfer keep each hemisphere in its own file; the two are read together. Given only one, the other is empty.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mindviz.brain import meshes
from mindviz.brain.files import cifti_maps
from mindviz.brain.files.annot import load_annot
from mindviz.brain.files.gifti import read_gifti
from mindviz.brain.parcellations import Parcellation
from mindviz.brain.projection import from_cortex
from mindviz.types import MindvizError, SurfaceMap

MAP_ENDINGS = (".func.gii", ".shape.gii", ".dscalar.nii")
PARCELLATION_ENDINGS = (".label.gii", ".annot", ".dlabel.nii")
NO_PARCEL = (
    "",
    "unknown",
    "unassigned",
    "none",
    "medial_wall",
    "medial wall",
    "medialwall",
    "background+freesurfer_defined_medial_wall",
)
"""Lower-case label names that do not denote a parcel; neither do names that end in `UNNAMED`."""
UNNAMED = "???"
_SIDES = ("left", "right")
_STRUCTURES = {"cortexleft": "left", "cortexright": "right"}
_IN_NAME = {
    "left": re.compile(r"(^|[._-])(hemi-l|lh|l|left)([._-]|$)", re.IGNORECASE),
    "right": re.compile(r"(^|[._-])(hemi-r|rh|r|right)([._-]|$)", re.IGNORECASE),
}
_MOST = int(np.iinfo(np.int16).max)
_GREY = (0.5, 0.5, 0.5)

Table = dict[int, tuple[str, tuple[float, ...]]]


@dataclass(frozen=True)
class _Half:
    """One file: its hemisphere (``""`` where the file does not say), values by vertex, label table."""

    path: Path
    side: str
    values: np.ndarray
    name: str
    table: Table


def load_map(*paths: Path | str, row: int = 0) -> SurfaceMap:
    """Read a map from a ``.dscalar.nii``, or from one or two hemisphere GIFTI files, in any order.

    Parameters
    ----------
    row : index of the map in the file, from 0.

    Returns
    -------
    SurfaceMap
        On the mesh that has that number of vertices; NaN on the medial wall and where the file has no value.

    Raises
    ------
    MindvizError
        Naming the file, what was expected and what was found: another kind of file, a number of vertices that fits none
        of our meshes, hemispheres that do not match, GIFTI that is not safe to load.
    """
    files, ending = _of_kind(paths, MAP_ENDINGS, PARCELLATION_ENDINGS)
    if ending == ".dscalar.nii":
        return cifti_maps.load_dscalar(files[0], row)
    halves, mesh = _hemispheres([_gifti(path, row) for path in files])
    values = np.concatenate([_cortex(halves.get(side), mesh, i, np.nan) for i, side in enumerate(_SIDES)])
    return from_cortex(values, mesh, next(iter(halves.values())).name)


def load_parcellation(*paths: Path | str, row: int = 0) -> Parcellation:
    """Read a parcellation from a ``.dlabel.nii``, or from one or two hemisphere files, in any order.

    Labels of the same name in both hemispheres are one parcel. A label below 1 is no parcel (FreeSurfer labels, which
    encode colours, are never below 1), nor is one with a name in `NO_PARCEL`. Labels without vertices are left out; a
    label missing from the table is named by its key.

    Returns
    -------
    Parcellation
        Named after the files; its `files` give their names and SHA-256.

    Raises
    ------
    MindvizError
        As for `load_map`; and for labels that are not whole numbers, fewer than two parcels, or more than fit in int16.
    """
    files, ending = _of_kind(paths, PARCELLATION_ENDINGS, MAP_ENDINGS)
    if ending == ".dlabel.nii":
        values, _, table = cifti_maps.read_row(files[0], "LabelAxis", row)
        parts, mesh = [(files[0], np.nan_to_num(values), table)], meshes.MESH
    else:
        read: Callable[[Path], _Half] = _annot if ending == ".annot" else lambda path: _gifti(path, row, labels=True)
        halves, mesh = _hemispheres([read(path) for path in files])
        sides = [halves.get(side) for side in _SIDES]
        parts = [
            (half.path if half else files[0], _cortex(half, mesh, i, 0), half.table if half else {})
            for i, half in enumerate(sides)
        ]
    hashes = tuple((path.name, _sha256(path)) for path in files)
    return replace(_parcellation(" + ".join(path.name for path in files), mesh, parts), files=hashes)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_kind(paths: Sequence[Path | str], known: Sequence[str], other: Sequence[str]) -> tuple[list[Path], str]:
    """The paths and their common ending, one of `known`."""
    files = [Path(path) for path in paths]
    expected = f"expected a file that ends in {', '.join(known)}"
    if not files:
        raise MindvizError(f"{expected}, found none")
    endings = []
    for path in files:
        name = path.name.lower()
        name = name.removesuffix(".gz") if name.endswith(".gii.gz") else name  # `check_gifti` limits decompression
        ending = next((e for e in (*known, *other) if name.endswith(e)), "")
        if ending not in known:
            kind = (
                "a map"
                if ending in MAP_ENDINGS
                else "a parcellation"
                if ending in PARCELLATION_ENDINGS
                else "another ending"
            )
            packed = name.endswith(tuple(f"{e}.gz" for e in known))
            found = "a compressed one: decompress it first" if packed else kind
            raise MindvizError(f"{path}: {expected}, found {found}")
        endings.append(ending)
    most = 1 if endings[0].endswith(".nii") else 2
    if len(set(endings)) > 1 or len(files) > most:
        raise MindvizError(
            f"{files[-1]}: expected {'one file' if most == 1 else 'the two hemispheres in files of one kind'} "
            f"({endings[0]}), found {len(files)} files ({', '.join(endings)})"
        )
    return files, endings[0]


# ---------------------------------------------------------------------- one hemisphere
def _gifti(path: Path, row: int, labels: bool = False) -> _Half:
    image = read_gifti(path)
    if not 0 <= row < len(image.darrays):
        raise MindvizError(f"{path}: expected a map from 0 to {len(image.darrays) - 1}, found {row}")
    array = image.darrays[row]
    values = np.squeeze(np.asarray(array.data))
    if values.ndim != 1:
        raise MindvizError(f"{path}: expected one value per vertex, found an array of shape {values.shape}")
    table: Table = {}
    if labels:
        rgba = {label.key: label.rgba for label in image.labeltable.labels}
        names = image.labeltable.get_labels_as_dict()
        table = {int(k): (str(name or ""), tuple(c or 0.0 for c in rgba[k][:3])) for k, name in names.items() if k > 0}
    structure = image.meta.get("AnatomicalStructurePrimary") or array.meta.get("AnatomicalStructurePrimary") or ""
    side = _STRUCTURES.get(structure.lower(), "") or _side_of_name(path)
    return _Half(path, side, values, str(array.meta.get("Name") or path.name), table)


def _annot(path: Path) -> _Half:
    found = load_annot(path)
    return _Half(path, _side_of_name(path), found.keys, path.name, dict(found.table))


def _side_of_name(path: Path) -> str:
    found = [side for side, pattern in _IN_NAME.items() if pattern.search(path.name)]
    return found[0] if len(found) == 1 else ""


def _hemispheres(halves: Sequence[_Half]) -> tuple[dict[str, _Half], str]:
    """The files by hemisphere, and their mesh. Two files that name no hemisphere are taken as left, then right."""
    sizes = {meshes.hemisphere_vertices(mesh): mesh for mesh in meshes.MESHES}
    for half in halves:
        if half.values.size not in sizes:
            known = " or ".join(f"{size:,} vertices ({mesh})" for size, mesh in sizes.items())
            raise MindvizError(f"{half.path}: expected a hemisphere of {known}, found {half.values.size:,}")
        if half.values.size != halves[0].values.size:
            raise MindvizError(
                f"{half.path}: expected {halves[0].values.size:,} vertices like {halves[0].path}, "
                f"found {half.values.size:,}"
            )
    sides = [half.side for half in halves]
    if len(halves) == 1 and not sides[0]:
        raise MindvizError(f"{halves[0].path}: expected a name or metadata with the hemisphere, found it in neither")
    if len(halves) == 2:
        other = {"left": "right", "right": "left"}
        first = sides[0] or other.get(sides[1], "left")
        sides = [first, sides[1] or other[first]]
        if sides[0] == sides[1]:
            raise MindvizError(f"{halves[1].path}: expected the {other[first]} hemisphere, found another {first} one")
    return dict(zip(sides, halves, strict=True)), sizes[halves[0].values.size]


def _cortex(half: _Half | None, mesh: str, side: int, nothing: float) -> np.ndarray:
    """Values by cortical index of one hemisphere (0 left, 1 right); all `nothing` if there is no file."""
    index = meshes.cortex_index(mesh)[side]
    return np.full(len(index), nothing) if half is None else half.values[index].astype(np.float64)


# ---------------------------------------------------------------------- parcels
def _parcellation(name: str, mesh: str, parts: Sequence[tuple[Path, np.ndarray, Table]]) -> Parcellation:
    """Renumber the labels of all parts, whose values are concatenated by cortical index."""
    places, colors, labels = {"": 0}, [_GREY], []
    for path, values, table in parts:
        if not (np.abs(values) < 2**32).all() or (values != np.round(values)).any():  # refuses NaN, too
            raise MindvizError(f"{path}: expected whole numbers as labels, found others")
        held, place = np.unique(values.clip(min=0).astype(np.int64), return_inverse=True)
        if held.size > _MOST:
            raise MindvizError(f"{path}: expected at most {_MOST:,} labels, found {held.size:,}")
        numbers, taken = [], set()
        for key in held.tolist():
            called, color = table.get(key, (f"label {key}", _GREY))
            if key == 0 or (key in table and _is_none(called)):
                numbers.append(0)
                continue
            called = f"{called} ({key})" if called in taken else called  # two labels in one file are two parcels
            taken.add(called)
            if called not in places:
                places[called] = len(places)
                colors.append((float(color[0]), float(color[1]), float(color[2])))
            numbers.append(places[called])
        labels.append(np.array(numbers)[place])
    names = tuple(places)
    if not 3 <= len(names) <= _MOST:
        found = {1: "none", 2: f"one ({names[-1]})"}.get(len(names), f"{len(names) - 1:,}")
        raise MindvizError(
            f"{parts[0][0]}: expected a parcellation of at least two parcels (and at most {_MOST:,}), found {found}"
        )
    every = np.concatenate(labels).astype(np.int16)
    return Parcellation(name, mesh, every, names, np.array(colors, dtype=np.float32))


def _is_none(called: str) -> bool:
    """Whether a label of this name denotes no parcel."""
    plain = called.strip().lower()
    return plain in NO_PARCEL or plain.endswith(UNNAMED)
