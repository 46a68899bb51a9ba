"""Voxels put together in patches, rows of 16 or areas of the cortex, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mindviz.types import MindvizError

Padding = Literal["minimal", "published", "drop"]


@dataclass(frozen=True)
class Patching:
    """How V voxels become P patches of `patch_size`.

    Parameters
    ----------
    padding : what happens to the voxels that fill no whole patch
        ``"minimal"`` fills the last patch with zeros (our default);
        ``"published"`` repeats voxels from the first on, and adds a whole patch when nothing is missing, as the
        authors' code does;
        ``"drop"`` leaves them out, as the published encoder itself does with what it is given.
    areas : the area of each voxel, 0..P-1, where patches are areas; -1 for a voxel of none, which is left out. A patch
        then has `patch_size` places, as many as the largest area has voxels; those that a smaller one lacks hold 0.
        Empty for rows.
    """

    num_voxels: int
    patch_size: int = 16
    padding: Padding = "minimal"
    areas: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.areas:
            self._check_areas()
        if self.num_voxels < 1 or self.patch_size < 1 or self.num_patches < 1:
            raise MindvizError(
                f"patching needs at least one patch of {self.patch_size} voxels, found {self.num_voxels} voxels"
            )
        if self.padding not in ("minimal", "published", "drop"):
            raise MindvizError(f"padding must be minimal, published or drop, found {self.padding!r}")

    def _check_areas(self) -> None:
        if len(self.areas) != self.num_voxels:
            raise MindvizError(f"areas: expected one of each of {self.num_voxels} voxels, found {len(self.areas)}")
        counts = np.bincount([a for a in self.areas if a >= 0], minlength=1)
        if min(self.areas) < -1 or not counts.all():
            raise MindvizError(f"areas must be numbered from 0, each with a voxel, found {sorted(set(self.areas))}")
        if self.patch_size != counts.max():
            raise MindvizError(
                f"patch_size must be that of the largest area, {counts.max()} voxels, found {self.patch_size}"
            )
        if self.padding != "minimal":
            raise MindvizError(f"areas are padded with zeros (padding minimal), found {self.padding}")

    @property
    def added(self) -> int:
        """Voxels added at the end (negative: left out)."""
        rest = self.num_voxels % self.patch_size
        if self.padding == "drop":
            return -rest
        missing = self.patch_size - rest
        return 0 if self.padding == "minimal" and rest == 0 else missing

    @property
    def length(self) -> int:
        """Voxels after padding: ``num_patches * patch_size``."""
        if self.areas:
            return (max(self.areas) + 1) * self.patch_size
        return self.num_voxels + self.added

    @property
    def num_patches(self) -> int:
        """P."""
        return self.length // self.patch_size

    def pad(self, bold: Tensor) -> Tensor:
        """(..., V) to (..., `length`). What is padded already, in the published way, passes."""
        voxels = bold.shape[-1]
        if self.padding == "published" and voxels == self.length:
            return bold
        if voxels != self.num_voxels:
            raise MindvizError(f"the encoder: expected {self.num_voxels} voxels, found {voxels}")
        if self.areas:
            places = torch.from_numpy(self.places().ravel()).to(bold.device)
            return bold[..., places.clamp_min(0)] * (places >= 0)
        if self.padding == "published":
            return bold[..., torch.arange(self.length, device=bold.device) % self.num_voxels]
        return F.pad(bold, (0, self.added)) if self.added else bold

    def places(self) -> np.ndarray:
        """Which voxel stands at each place of each patch, int64 (P, `patch_size`); -1 where padding holds none."""
        if self.areas:
            return self._area_places
        place = np.arange(self.length)
        if self.padding == "published":
            place = place % self.num_voxels
        return np.where(place < self.num_voxels, place, -1).reshape(self.num_patches, self.patch_size)

    @cached_property
    def _area_places(self) -> np.ndarray:
        area = np.array(self.areas)
        places = np.full((area.max() + 1, self.patch_size), -1)
        for patch, row in enumerate(places):
            voxels = np.flatnonzero(area == patch)
            row[: len(voxels)] = voxels
        return places

    def of_voxels(self) -> np.ndarray:
        """The patch of each voxel, int64 (V,); -1 for one that is left out."""
        if self.areas:
            return np.array(self.areas)
        place = np.arange(self.num_voxels)
        return np.where(place < self.length, place // self.patch_size, -1)

    def to_voxels(self, values: np.ndarray) -> np.ndarray:
        """Values by voxel (..., V), float32, of values by patch (..., P).

        A voxel that padding repeats has the mean over its places; one that is left out has 0.

        Raises
        ------
        MindvizError
            If there is not one value for each patch.
        """
        values = np.asarray(values)
        if values.ndim == 0 or values.shape[-1] != self.num_patches:
            raise MindvizError(f"patching: expected values of {self.num_patches} patches, found shape {values.shape}")
        places = self.places().ravel()
        held = places >= 0
        by_place = np.repeat(values.astype(np.float64), self.patch_size, axis=-1)[..., held]
        rows = by_place.reshape(-1, held.sum())
        sums = np.stack([np.bincount(places[held], weights=row, minlength=self.num_voxels) for row in rows])
        counts = np.bincount(places[held], minlength=self.num_voxels)
        by_voxel = sums / np.maximum(counts, 1)
        return by_voxel.reshape(*values.shape[:-1], self.num_voxels).astype(np.float32)
