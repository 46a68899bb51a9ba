"""Volumes: the voxels of an image that the cortex runs through, and maps written back into the same voxels.

An image in MNI152 space is read along the group-average cortex (the midthickness surface of HCP S1200, which lies in
that space; the person's own anatomy is not known). Of the vertices in a voxel, the one nearest to its centre
represents it. Each column of the scans is therefore one voxel and one vertex, a map of the columns is a map of the
voxels, and nothing is interpolated in either direction. Back on the surface, every vertex shows the voxel it lies in
(`voxel_of_vertex`, by nilearn's `vol_to_surf`); counts use only the vertex that represents the voxel.
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

SPACE = "MNI152"
MNI_CODE = 4  # NIFTI_XFORM_MNI_152
_SURFACE = "midthickness"
_BORDER = 0.5 + 1e-3  # voxels from centre to border; a point on the border may be rounded to either side


@dataclass(frozen=True)
class Volume:
    """The positions of V voxels in an image.

    Attributes
    ----------
    voxels : ndarray, shape (V, 3), int64; indices from 0, all distinct.
    shape : of the image, in voxels.
    affine : ndarray, shape (4, 4), float64; from indices to millimetres in MNI152 space.
    source : the file it was read from, named in errors; empty for none.
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
            raise MindvizError("a volume needs distinct voxels, found some more than once")
        check_affine(affine)

    def of(self, columns: np.ndarray) -> Volume:
        """The same image with a subset of the voxels."""
        return Volume(self.voxels[columns], self.shape, self.affine, self.source)


def check_affine(affine: np.ndarray) -> np.ndarray:
    """Return `affine` if it is (4, 4), finite and invertible; raise `MindvizError` otherwise."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise MindvizError("an image needs an affine of 4 x 4 finite numbers that can be inverted, found another")
    return affine


def cortex_in(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[np.ndarray, Volume]:
    """The cortex of fsLR-32k in an image in MNI152 space.

    Parameters
    ----------
    shape, affine : of the image, as in `Volume`.

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
            f"expected an image that the cortex of {SPACE} runs through, found none of its vertices in this one"
        )
    away = np.linalg.norm((places[inside] - nearest[inside]) @ affine[:3, :3].T, axis=1)
    flat = np.ravel_multi_index(tuple(nearest[inside].T), shape)
    order = np.lexsort((inside, away, flat))  # by voxel, then distance, then vertex
    first = np.concatenate([[True], np.diff(flat[order]) > 0])
    vertices = np.sort(inside[order[first]])
    return vertices, Volume(nearest[vertices], (int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _cortex_points() -> np.ndarray:
    """Coordinates (59412, 3) in mm of each cortical index on the midthickness surface."""
    surface = meshes.surface(meshes.MESH, _SURFACE)
    left, right = meshes.cortex_index(meshes.MESH)
    return np.concatenate([surface.left.coordinates[left], surface.right.coordinates[right]]).astype(np.float64)


def _places(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxel coordinates of points (n, 3) in millimetres; voxel centres have whole numbers."""
    back = np.linalg.inv(check_affine(affine))
    return points @ back[:3, :3].T + back[:3, 3]


# --------------------------------------------------------------------------------------- onto the surface
def voxel_of_vertex(volume: Volume, vertices: np.ndarray, mesh: str = meshes.MESH) -> np.ndarray:
    """The voxel that each cortical vertex lies in, so that a map of voxels has no holes on the surface.

    This is what nilearn's `vol_to_surf` samples at the vertices of the midthickness surface, which `cortex_in` also
    uses.

    Parameters
    ----------
    volume : of V voxels.
    vertices : ndarray, shape (V,), integer
        The cortical index that represents each voxel (`cortex_in`).
    mesh : of `vertices` and of the result.

    Returns
    -------
    ndarray, shape (num_vertices(mesh),), int64
        By cortical index, the position of the voxel in `volume`; -1 for vertices in none of the voxels.

    Raises
    ------
    MindvizError
        For a mesh without a surface in MNI152 space, or vertices that do not match the voxels.
    """
    where = f"{volume.source}: " if volume.source else ""
    if mesh != meshes.MESH:
        raise MindvizError(f"{where}voxels of {SPACE} go onto {meshes.MESH}: {mesh} has no {_SURFACE} surface there")
    if len(vertices) != len(volume.voxels):
        raise MindvizError(f"{where}expected a voxel for each of {len(vertices)} vertices, found {len(volume.voxels)}")
    away = np.abs(_places(_cortex_points()[vertices], volume.affine) - volume.voxels).max(axis=1)
    if (away > _BORDER).any():
        raise MindvizError(
            f"{where}expected each vertex of the scans in its own voxel, found {(away > _BORDER).sum()} of "
            f"{len(vertices)} elsewhere; are these the voxels of other scans?"
        )
    found = _sampled(volume.voxels.astype(np.int64).tobytes(), volume.affine.astype(np.float64).tobytes()).copy()
    found[vertices] = np.arange(len(vertices))  # at voxel borders, rounding may differ in the last bit
    return found


@lru_cache(maxsize=4)
def _sampled(voxels: bytes, affine: bytes) -> np.ndarray:
    """`voxel_of_vertex` of voxels (int64) and an affine (float64); cached, as it takes more than a second."""
    import nibabel as nib
    from nilearn import surface  # imported here because it takes seconds and few datasets have voxels

    indices, to_mm = np.frombuffer(voxels, np.int64).reshape(-1, 3), np.frombuffer(affine, np.float64).reshape(4, 4)
    halves = meshes.surface(meshes.MESH, _SURFACE)
    places = _places(np.concatenate([halves.left.coordinates, halves.right.coordinates]), to_mm)
    # The part of the grid that contains the whole surface, because nilearn finds no samples outside an image.
    # It begins at an even voxel so that halves are rounded to the same voxel as in the whole image.
    low = 2 * np.floor((places.min(axis=0) - 1) / 2).astype(np.int64)
    size = np.ceil(places.max(axis=0)).astype(np.int64) + 2 - low
    numbers, shift = np.zeros(size, np.int32), np.eye(4)
    held = np.flatnonzero(((indices >= low) & (indices < low + size)).all(axis=1))
    numbers[tuple((indices[held] - low).T)] = held + 1  # 0 means no voxel
    shift[:3, 3] = low
    image = nib.Nifti1Image(numbers, to_mm @ shift)
    sides = []
    for half, cortex in zip((halves.left, halves.right), meshes.cortex_index(meshes.MESH), strict=True):
        # One sample per vertex, at depth 0, exactly at its position: the most frequent number is that of its voxel.
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
    """The voxels of a prepared subject whose scans have `count` columns.

    Raises
    ------
    MindvizError
        Naming the file: arrays that are missing or have the wrong shape.
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
    """Write one map (V,) or N maps (N, V) of the voxels as a NIfTI image in MNI152 space.

    float32, NaN outside the voxels, one image or N along the fourth axis, on exactly the grid of the scans.

    Raises
    ------
    MindvizError
        For a different number of voxels, or a name that does not end in .nii.gz.
    """
    import nibabel as nib

    from mindviz.storage import atomic_file

    path, values = Path(path), np.asarray(values, dtype=np.float32)
    if values.ndim not in (1, 2) or values.shape[-1] != len(volume.voxels):
        raise MindvizError(f"{path}: expected values of {len(volume.voxels)} voxels, found shape {values.shape}")
    if not path.name.endswith(".nii.gz"):
        raise MindvizError(f"{path}: expected a name that ends in .nii.gz")
    empty = np.broadcast_to(np.float32(np.nan), (*volume.shape, *values.shape[:-1]))
    found = nib.Nifti1Image(empty, volume.affine)  # for its header: N images may be too large to hold at once
    found.set_sform(volume.affine, MNI_CODE)
    found.set_qform(volume.affine, MNI_CODE, strip_shears=True)
    found.header.set_xyzt_units("mm")
    found.header.set_slope_inter(1.0, 0.0)  # set by nibabel on saving; written directly, both would be NaN
    found.header["descrip"] = label.encode("ascii", "replace")[:79]
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as aside,
        aside.open("wb") as plain,
        gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as packed,  # no name or time: reproducible bytes
    ):
        found.header.write_to(packed)
        for one in np.atleast_2d(values):
            image = np.full(volume.shape, np.nan, dtype=np.float32)
            image[tuple(volume.voxels.T)] = one
            packed.write(image.tobytes(order="F"))
    return path
