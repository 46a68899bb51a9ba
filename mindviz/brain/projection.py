"""From one value per voxel to one value per mesh vertex: a sparse matrix for a set of vertices and a mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mindviz.brain import meshes
from mindviz.brain.volume import Volume, voxel_of_vertex
from mindviz.types import MindvizError, SurfaceMap


class Projection:
    """The map from voxels (selected cortical vertices) to the vertices of both hemispheres' meshes.

    Parameters
    ----------
    vertices : ndarray, shape (V,), integer
        The cortical index of each voxel (`ScanRun.vertices`), all distinct.
    mesh : ``"fsLR-32k"`` or ``"fsaverage5"``
    volume : Volume, optional
        The positions of the V voxels, for scans that came as images. Every vertex then shows the voxel it lies in
        (`voxel_of_vertex`), not only the vertex that represents the voxel.

    Attributes
    ----------
    matrix : scipy.sparse.csr_matrix, shape (2 * hemisphere_vertices(mesh), V)
        Vertices of the left hemisphere first; a row holds a single 1, or nothing.
    mask : ndarray of bool
        Mesh vertices that show a voxel; the others are NaN in every map.
    columns : ndarray, shape (num_vertices(mesh),), int64
        The voxel that each cortical index shows, as a column of the scans; -1 for none.

    Raises
    ------
    MindvizError
        For vertices that are not on the mesh, or do not lie in the voxels of `volume`.
    """

    def __init__(self, vertices: np.ndarray, mesh: str = "fsLR-32k", volume: Volume | None = None) -> None:
        self.mesh = meshes.check_mesh(mesh)
        self.vertices = _checked_vertices(vertices, mesh)
        self.volume = volume
        if volume is None:
            self.columns = np.full(meshes.num_vertices(mesh), -1)
            self.columns[self.vertices] = np.arange(self.vertices.size)
        else:
            self.columns = voxel_of_vertex(volume, self.vertices, mesh)
        left, right = meshes.cortex_index(mesh)
        rows = np.concatenate([left, right + meshes.hemisphere_vertices(mesh)])
        self._own_rows, shown = rows[self.vertices], np.flatnonzero(self.columns >= 0)
        shape = (2 * meshes.hemisphere_vertices(mesh), self.vertices.size)
        ones = np.ones(shown.size, dtype=np.float32)
        self.matrix = sparse.csr_matrix((ones, (rows[shown], self.columns[shown])), shape=shape)
        self.mask = np.diff(self.matrix.indptr) > 0

    def to_surface(self, values: np.ndarray, label: str = "") -> SurfaceMap:
        """Put `values`, shape (V,), on the mesh.

        Raises
        ------
        MindvizError
            If `values` does not have one value per voxel.
        """
        values = np.asarray(values, dtype=np.float32)
        if values.shape != (self.vertices.size,):
            raise MindvizError(
                f"a map needs one value for each of the {self.vertices.size} voxels, found shape {values.shape}"
            )
        full = np.where(self.mask, self.matrix @ values, np.float32(np.nan))
        left, right = np.split(full, 2)
        return SurfaceMap(left, right, self.mesh, label, self._counted())

    def _counted(self) -> np.ndarray | None:
        if self.volume is None:
            return None
        counted = np.zeros(self.matrix.shape[0], dtype=bool)
        counted[self._own_rows] = True
        return counted

    def to_voxels(self, surface_map: SurfaceMap) -> np.ndarray:
        """Read a map at the vertex that represents each voxel, shape (V,)."""
        check_surface_map(surface_map)
        if surface_map.mesh != self.mesh:
            raise MindvizError(f"expected a map on {self.mesh}, found one on {surface_map.mesh}")
        both = np.concatenate([surface_map.left, surface_map.right])
        return both[self._own_rows]

    def counted_once(self, surface_map: SurfaceMap) -> SurfaceMap:
        """A map with each voxel only at the vertex that represents it, so that sums count each voxel once."""
        whole = np.full(meshes.num_vertices(self.mesh), np.nan, dtype=np.float32)
        whole[self.vertices] = self.to_voxels(surface_map)
        return from_cortex(whole, self.mesh, surface_map.label)


def _checked_vertices(vertices: np.ndarray, mesh: str) -> np.ndarray:
    vertices = np.asarray(vertices)
    limit = meshes.num_vertices(mesh)
    if vertices.ndim != 1 or vertices.size == 0 or not np.issubdtype(vertices.dtype, np.integer):
        raise MindvizError(
            f"vertices need to be a list of whole numbers, found shape {vertices.shape} of {vertices.dtype}"
        )
    if vertices.min() < 0 or vertices.max() >= limit:
        raise MindvizError(
            f"vertices of {mesh} need to lie in 0..{limit - 1}, found {vertices.min()}..{vertices.max()}"
        )
    if np.unique(vertices).size != vertices.size:
        raise MindvizError("vertices need to be distinct, found some more than once")
    return vertices.astype(np.int64)


def check_surface_map(surface_map: SurfaceMap) -> SurfaceMap:
    """Return `surface_map` if its arrays fit its mesh; raise `MindvizError` otherwise."""
    expected = (meshes.hemisphere_vertices(surface_map.mesh),)
    for side, values in (("left", surface_map.left), ("right", surface_map.right)):
        if np.shape(values) != expected:
            raise MindvizError(
                f"the {side} hemisphere of a map on {surface_map.mesh} needs shape {expected}, found {np.shape(values)}"
            )
    return surface_map


def one_mesh(surface_maps: Sequence[SurfaceMap]) -> str:
    """The mesh of maps that share one; raise `MindvizError` for no map, several meshes, or a map of the wrong shape."""
    found = sorted({check_surface_map(one).mesh for one in surface_maps})
    if len(found) != 1:
        raise MindvizError(f"expected maps on one mesh, found {' and '.join(found) or 'no map'}")
    return found[0]


def to_cortex(surface_map: SurfaceMap) -> np.ndarray:
    """One value per cortical index, shape (num_vertices(mesh),): the medial wall is dropped, NaN stays."""
    check_surface_map(surface_map)
    left, right = meshes.cortex_index(surface_map.mesh)
    return np.concatenate([surface_map.left[left], surface_map.right[right]])


def from_cortex(values: np.ndarray, mesh: str = "fsLR-32k", label: str = "") -> SurfaceMap:
    """A map from one value per cortical index, shape (num_vertices(mesh),); the medial wall is NaN."""
    left, right = meshes.split_cortex(np.asarray(values, dtype=np.float32), mesh)
    return SurfaceMap(left, right, mesh, label)
