"""Maps and parcellations in CIFTI-2: `*.dscalar.nii` and `*.dlabel.nii` of the cortex of fsLR-32k."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np

from mindviz.brain import meshes
from mindviz.brain.projection import from_cortex, one_mesh, to_cortex
from mindviz.types import MindvizError, SurfaceMap

_STRUCTURES = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")


def write_dscalar(surface_map: SurfaceMap, path: Path | str, simulated: bool = False) -> Path:
    """Write a map as ``*.dscalar.nii``: one row of 59,412 cortical grayordinates, NaN where the map has no value.

    A `simulated` map is named as such, because the name is all that Workbench shows of a map's origin.

    Raises
    ------
    MindvizError
        For a map on another mesh, or a file name without that ending.
    """
    return write_dscalars([surface_map], path, simulated)


def write_dscalars(surface_maps: Sequence[SurfaceMap], path: Path | str, simulated: bool = False) -> Path:
    """`write_dscalar` for several maps: one row each, in order, named by the map's label."""
    import nibabel as nib

    from mindviz.storage import atomic_file

    path = Path(path)
    mesh = one_mesh(surface_maps)
    if mesh != meshes.MESH:
        raise MindvizError(f"{path}: CIFTI needs a map on {meshes.MESH}, found one on {mesh}")
    if not path.name.endswith(".dscalar.nii"):
        raise MindvizError(f"{path}: expected a name that ends in .dscalar.nii")
    values = np.stack([to_cortex(one) for one in surface_maps]).astype(np.float32)
    count = meshes.hemisphere_vertices(meshes.MESH)
    axes = [
        nib.cifti2.BrainModelAxis.from_surface(vertices, count, name)
        for vertices, name in zip(meshes.cortex_index(meshes.MESH), _STRUCTURES, strict=True)
    ]
    scalar = nib.cifti2.ScalarAxis(["Simulated: " * simulated + (one.label or "map") for one in surface_maps])
    image = nib.Cifti2Image(values, (scalar, axes[0] + axes[1]))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as aside:
        Path(aside).write_bytes(image.to_bytes())
    return path


def load_dscalar(path: Path | str, row: int = 0) -> SurfaceMap:
    """Read a row of a ``*.dscalar.nii``; vertices missing from the file are NaN. Errors as for `read_row`."""
    values, names, _ = read_row(path, "ScalarAxis", row)
    return from_cortex(values, meshes.MESH, names)


def read_row(
    path: Path | str, kind: str, row: int = 0
) -> tuple[np.ndarray, str, dict[int, tuple[str, tuple[float, ...]]]]:
    """Values by cortical index (59412,), NaN where the file has none; the row's name; its label table.

    `kind` is ``"ScalarAxis"`` or ``"LabelAxis"``; only the latter has a table.

    Raises
    ------
    MindvizError
        If the file is missing, compressed, unreadable, of another kind, on another mesh, or lacks the row.
    """
    path = Path(path)
    if not path.is_file():
        raise MindvizError(f"{path}: expected a CIFTI file, found nothing")
    if path.suffix.lower() != ".nii":  # a compressed file could decompress to any size
        raise MindvizError(f"{path}: expected a CIFTI file that ends in .nii, found {path.suffix or 'no ending'}")
    try:
        return _read(path, kind, row)
    except MindvizError:
        raise
    except _unreadable() as error:
        raise MindvizError(f"{path}: expected a CIFTI file, found one that cannot be read ({error})") from error


def _unreadable() -> tuple[type[Exception], ...]:
    """The exceptions that nibabel raises where header, XML and data contradict each other."""
    import nibabel as nib

    own = (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        nib.cifti2.Cifti2HeaderError,
        expat.ExpatError,
        zlib.error,
        struct.error,
    )
    return (*own, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError)


def _read(path: Path, kind: str, row: int) -> tuple[np.ndarray, str, dict[int, tuple[str, tuple[float, ...]]]]:
    """`read_row` with nibabel's own exceptions."""
    import nibabel as nib

    image = nib.load(path)
    if not isinstance(image, nib.Cifti2Image):
        raise MindvizError(f"{path}: expected a CIFTI file, found {type(image).__name__}")
    rows, models = image.header.get_axis(0), image.header.get_axis(1)
    if type(rows).__name__ != kind or not isinstance(models, nib.cifti2.BrainModelAxis):
        raise MindvizError(
            f"{path}: expected a {kind} and brain models, found {type(rows).__name__} and {type(models).__name__}"
        )
    if not 0 <= row < len(rows):
        raise MindvizError(f"{path}: expected a row from 0 to {len(rows) - 1}, found {row}")
    if image.shape != (len(rows), len(models)):  # a header may claim any size
        raise MindvizError(f"{path}: expected values of shape {(len(rows), len(models))}, found {image.shape}")
    stored = np.asarray(image.dataobj[row], dtype=np.float32).ravel()
    table = rows.label[row] if kind == "LabelAxis" else {}
    return _by_cortex(path, models, stored), str(rows.name[row]), table


def _by_cortex(path: Path, models: object, stored: np.ndarray) -> np.ndarray:
    """The stored values of the cortical brain models, by cortical index."""
    import nibabel as nib

    assert isinstance(models, nib.cifti2.BrainModelAxis)
    left, right = meshes.cortex_index(meshes.MESH)
    values, offset = np.full(meshes.num_vertices(meshes.MESH), np.nan, dtype=np.float32), 0
    for name, wanted in zip(_STRUCTURES, (left, right), strict=True):
        columns = np.flatnonzero(models.name == name)
        found = models.nvertices.get(name)
        expected = meshes.hemisphere_vertices(meshes.MESH)
        if found is not None and found != expected:
            raise MindvizError(f"{path}: expected {expected} vertices of {name} ({meshes.MESH}), found {found}")
        place = np.full(expected, -1)
        place[wanted] = np.arange(len(wanted)) + offset
        to = place[models.vertex[columns]]
        values[to[to >= 0]] = stored[columns[to >= 0]]
        offset += len(wanted)
    if np.isnan(values).all():
        raise MindvizError(f"{path}: expected values on the cortex, found none")
    return values
