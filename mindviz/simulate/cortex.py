"""Smooth random maps on the cortex, and the position of each vertex within its area."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from mindviz.brain import meshes

LEFT = 29696
"""Cortical vertices of the left hemisphere; they come first."""


@lru_cache(maxsize=1)
def averaging() -> sparse.csr_matrix:
    """The matrix that averages each vertex with its neighbours, float32 [59412, 59412]; rows sum to 1."""
    surface = meshes.surface(meshes.MESH, "midthickness")
    blocks = []
    for mesh, vertices in zip((surface.left, surface.right), meshes.cortex_index(meshes.MESH), strict=True):
        n = len(mesh.coordinates)
        a, b, c = mesh.faces.T
        rows, columns = np.concatenate([a, b, c]), np.concatenate([b, c, a])
        links = sparse.coo_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(n, n)).tocsr()
        blocks.append((links + links.T)[vertices][:, vertices])
    links = sparse.block_diag(blocks, format="csr")
    links.data[:] = 1
    links = links + sparse.identity(links.shape[0], dtype=np.float32, format="csr")
    return sparse.diags(1 / links.sum(axis=1).A1).astype(np.float32) @ links


def smooth_fields(rng: np.random.Generator, count: int, steps: int) -> np.ndarray:
    """Random maps with zero mean and unit variance over the cortex, float32 [59412, count].

    `steps` averagings with the neighbours (about 2 mm apart) approximate a Gaussian kernel with a standard deviation of
    about ``1.4 * sqrt(steps)`` mm.
    """
    field = rng.standard_normal((averaging().shape[0], count), dtype=np.float32)
    for _ in range(steps):
        field = averaging() @ field
    field -= field.mean(0)
    return field / field.std(0)


def _ranks(values: np.ndarray) -> np.ndarray:
    return (rankdata(values) - 0.5) / len(values)


def place_in_area(areas: np.ndarray, members: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each vertex in its area and hemisphere from posterior to anterior and from ventral to dorsal.

    Returns two float arrays [59412] in 0..1, 0.5 outside `members`.
    """
    surface = meshes.surface(meshes.MESH, "midthickness")
    left, right = meshes.cortex_index(meshes.MESH)
    coordinates = np.concatenate([surface.left.coordinates[left], surface.right.coordinates[right]])
    anterior, dorsal = np.full(len(areas), 0.5), np.full(len(areas), 0.5)
    is_left = np.arange(len(areas)) < LEFT
    for area in members:
        for side in (is_left, ~is_left):
            here = np.flatnonzero((areas == area) & side)
            anterior[here] = _ranks(coordinates[here, 1])
            dorsal[here] = _ranks(coordinates[here, 2])
    return anterior, dorsal
