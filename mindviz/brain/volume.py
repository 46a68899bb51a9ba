"""Volumes: which voxels of an image the cortex runs through, and maps written back into those very voxels.

An image in MNI152 space is read where the cortex of the group average runs (the midthickness surface of HCP S1200,
which lies in that space; of the anatomy of the person nothing is known). Of the vertices that lie in one voxel the one
nearest to its centre stands for it. So each column of the scans is one voxel and one vertex, a map of the columns is a
map of the voxels, and nothing is interpolated on either way. Back on the surface, every vertex shows the voxel that it
lies in (`voxel_of_vertex`, by nilearn's `vol_to_surf`); what is counted, is counted at the one that stands for it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mindviz.brain import meshes
from mindviz.types import MindvizError

MESH = "fsLR-32k"
SPACE = "MNI152"
MNI_CODE = 4  # NIFTI_XFORM_MNI_152
_SURFACE = "midthickness"
_BORDER = 0.5 + 1e-3  # voxels from a centre to the border; what lies on it may be rounded to either side


@dataclass(frozen=True)
class Volume:
    """Where V voxels lie in an image.

    Attributes
    ----------
    voxels : ndarray, shape (V, 3), int64; indices, from 0, each at most once.
    shape : the image's, in voxels.
    affine : ndarray, shape (4, 4), float64; from indices to millimetres of MNI152.
    source : the file that it was read from, which errors name; empty for none.
    """

    voxels: np.ndarray
    shape: tuple[int, int, int]
    affine: np.ndarray
    source: str = ""

    def __post_init__(self) -> None:
        voxels, affine = self.voxels, self.affine
        if voxels.ndim != 2 or voxels.shape[1] != 3 or not np.issubdtype(voxels.dtype, np.integer) or not len(voxels):
            raise MindvizError(f"a volume needs whole numbers (V, 3), found shape {voxels.shape} of {voxels.dtype}")
        if len(self.shape) != 3 or (voxels < 0).any() or (voxels >= self.shape).any():
            raise MindvizError(f"a volume needs voxels inside its shape, found some outside of {self.shape}")
        if len(np.unique(voxels, axis=0)) != len(voxels):
            raise MindvizError("a volume needs different voxels, found some more than once")
        check_affine(affine)

    def of(self, columns: np.ndarray) -> Volume:
        """The same image with some of the voxels."""
        return Volume(self.voxels[columns], self.shape, self.affine, self.source)


def check_affine(affine: np.ndarray) -> np.ndarray:
    """Return an affine (4, 4) that can be turned round; raise `MindvizError` for any other."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise MindvizError("an image needs an affine of 4 x 4 finite numbers that can be inverted, found another")
    return affine


def cortex_in(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[np.ndarray, Volume]:
    """The cortex of fsLR-32k in an image of MNI152 space.

    Parameters
    ----------
    shape, affine : of the image, as of `Volume`.

    Returns
    -------
    ndarray, shape (V,), int64
        The cortical index of each voxel that the cortex runs through, ascending.
    Volume
        Those voxels.

    Raises
    ------
    MindvizError
        For an affine that cannot be inverted, or an image that the cortex does not run through.
    """
    places = _places(_cortex_points(), affine)
    nearest = np.rint(places).astype(np.int64)
    inside = np.flatnonzero(((nearest >= 0) & (nearest < shape)).all(axis=1))
    if not inside.size:
        raise MindvizError(
            f"expected an image that the cortex of {SPACE} runs through, found none of its vertices in it"
        )
    away = np.linalg.norm((places[inside] - nearest[inside]) @ affine[:3, :3].T, axis=1)
    flat = np.ravel_multi_index(tuple(nearest[inside].T), shape)
    order = np.lexsort((inside, away, flat))  # by voxel, then by distance; of two as near, the first vertex
    first = np.concatenate([[True], np.diff(flat[order]) > 0])
    vertices = np.sort(inside[order[first]])
    return vertices, Volume(nearest[vertices], (int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _cortex_points() -> np.ndarray:
    """Millimetres (59412, 3) of each cortical index on the midthickness surface."""
    surface = meshes.surface(MESH, _SURFACE)
    left, right = meshes.cortex_index(MESH)
    return np.concatenate([surface.left.coordinates[left], surface.right.coordinates[right]]).astype(np.float64)


def _places(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where points, (n, 3) in millimetres, lie in an image, in voxels; the middle of a voxel is a whole number."""
    back = np.linalg.inv(check_affine(affine))
    return points @ back[:3, :3].T + back[:3, 3]


# --------------------------------------------------------------------------------------- onto the surface
def voxel_of_vertex(volume: Volume, vertices: np.ndarray, mesh: str = MESH) -> np.ndarray:
    """The voxel that each vertex of the cortex lies in, so that a map of voxels has no holes on the surface.

    It is what nilearn's `vol_to_surf` finds at the vertices of the midthickness surface, where `cortex_in` reads, too.

    Parameters
    ----------
    volume : of V voxels.
    vertices : ndarray, shape (V,), integer
        The cortical index that stands for each voxel (`cortex_in`).
    mesh : the mesh of `vertices` and of the result.

    Returns
    -------
    ndarray, shape (num_vertices(mesh),), int64
        By cortical index, the place of the voxel in `volume`; -1 where a vertex lies in none of them.

    Raises
    ------
    MindvizError
        For a mesh without a surface in MNI152 space, or vertices that are not those of the voxels.
    """
    where = f"{volume.source}: " if volume.source else ""
    if mesh != MESH:
        raise MindvizError(f"{where}voxels of {SPACE} go onto {MESH} only: {mesh} has no {_SURFACE} surface there")
    if len(vertices) != len(volume.voxels):
        raise MindvizError(f"{where}expected a voxel for each of {len(vertices)} vertices, found {len(volume.voxels)}")
    away = np.abs(_places(_cortex_points()[vertices], volume.affine) - volume.voxels).max(axis=1)
    if (away > _BORDER).any():
        raise MindvizError(
            f"{where}expected each vertex of the scans in its own voxel, found {(away > _BORDER).sum()} of "
            f"{len(vertices)} elsewhere; are these the voxels of other scans?"
        )
    found = _sampled(volume.voxels.astype(np.int64).tobytes(), volume.affine.astype(np.float64).tobytes()).copy()
    found[vertices] = np.arange(len(vertices))  # on a border of voxels, rounding may differ in the last bit
    return found


@lru_cache(maxsize=4)
def _sampled(voxels: bytes, affine: bytes) -> np.ndarray:
    """`voxel_of_vertex` of voxels (int64) and an affine (float64), kept, because it takes more than a second."""
    import nibabel as nib
    from nilearn import surface  # here, because it takes seconds to import, and few datasets have voxels

    indices, to_mm = np.frombuffer(voxels, np.int64).reshape(-1, 3), np.frombuffer(affine, np.float64).reshape(4, 4)
    halves = meshes.surface(MESH, _SURFACE)
    places = _places(np.concatenate([halves.left.coordinates, halves.right.coordinates]), to_mm)
    # The part of the grid that the surface runs through, as nilearn finds nothing to choose from outside of an image.
    # It begins at an even voxel: then halves are rounded to the same voxel as in the whole image.
    low = 2 * np.floor((places.min(axis=0) - 1) / 2).astype(np.int64)
    size = np.ceil(places.max(axis=0)).astype(np.int64) + 2 - low
    numbers, shift = np.zeros(size, np.int32), np.eye(4)
    held = np.flatnonzero(((indices >= low) & (indices < low + size)).all(axis=1))
    numbers[tuple((indices[held] - low).T)] = held + 1  # 0 is no voxel
    shift[:3, 3] = low
    image = nib.Nifti1Image(numbers, to_mm @ shift)
    sides = []
    for half, cortex in zip((halves.left, halves.right), meshes.cortex_index(MESH), strict=True):
        # One sample for each vertex, at depth 0: exactly where it lies. Its most frequent number is its voxel's.
        whole = surface.vol_to_surf(
            image,
            surface.InMemoryMesh(half.coordinates, half.faces),
            interpolation="nearest_most_frequent",
            kind="line",
            depth=[0.0],
        )
        sides.append(whole[cortex])
    return np.concatenate(sides).astype(np.int64) - 1


def read_volume(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> Volume:
    """The voxels of a prepared subject, of which the scans have `count` columns.

    Raises
    ------
    MindvizError
        Naming the file: arrays that are missing or do not fit.
    """
    if set(arrays) != {"voxels", "shape", "affine"}:
        raise MindvizError(f"{path}: expected voxels, shape and affine, found {', '.join(sorted(arrays)) or 'nothing'}")
    voxels, shape = arrays["voxels"].astype(np.int64), tuple(int(n) for n in arrays["shape"].ravel())
    if len(shape) != 3 or voxels.shape != (count, 3):
        raise MindvizError(f"{path}: expected voxels ({count}, 3) of an image, found {voxels.shape} of {shape}")
    try:
        return Volume(voxels, shape, arrays["affine"].astype(np.float64), str(path))
    except MindvizError as error:
        raise MindvizError(f"{path}: {error}") from error


def write_nifti(values: np.ndarray, volume: Volume, path: Path | str, label: str = "") -> Path:
    """Write a map of the voxels, (V,), or N maps of them, (N, V), as a NIfTI image in MNI152 space.

    NaN where there is no value, float32, one image or N along the fourth axis, in voxels exactly those of the scans.

    Raises
    ------
    MindvizError
        For another number of voxels, or a name that does not end in .nii.gz.
    """
    import nibabel as nib

    from mindviz.storage import atomic_file

    path, values = Path(path), np.asarray(values, dtype=np.float32)
    if values.ndim not in (1, 2) or values.shape[-1] != len(volume.voxels):
        raise MindvizError(f"{path}: expected values of {len(volume.voxels)} voxels, found shape {values.shape}")
    if not path.name.endswith(".nii.gz"):
        raise MindvizError(f"{path}: expected a name that ends in .nii.gz")
    empty = np.broadcast_to(np.float32(np.nan), (*volume.shape, *values.shape[:-1]))
    found = nib.Nifti1Image(empty, volume.affine)  # for its header: many fine images together need not fit in memory
    found.set_sform(volume.affine, MNI_CODE)
    found.set_qform(volume.affine, MNI_CODE, strip_shears=True)
    found.header.set_xyzt_units("mm")
    found.header.set_slope_inter(1.0, 0.0)  # nibabel's own saving sets it; written as it is, it would be NaN for both
    found.header["descrip"] = label.encode("ascii", "replace")[:79]
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as aside,
        aside.open("wb") as plain,
        gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as packed,  # without a name or time: the same bytes every time
    ):
        found.header.write_to(packed)
        for one in np.atleast_2d(values):
            image = np.full(volume.shape, np.nan, dtype=np.float32)
            image[tuple(volume.voxels.T)] = one
            packed.write(image.tobytes(order="F"))
    return path
