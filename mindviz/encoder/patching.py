"""A row of voxels cut into patches, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """

    num_voxels: int
    patch_size: int = 16
    padding: Padding = "minimal"

    def __post_init__(self) -> None:
        if self.num_voxels < 1 or self.patch_size < 1 or self.num_patches < 1:
            raise MindvizError(
                f"patching needs at least one patch of {self.patch_size} voxels, found {self.num_voxels} voxels"
            )
        if self.padding not in ("minimal", "published", "drop"):
            raise MindvizError(f"padding must be minimal, published or drop, found {self.padding!r}")

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
        if self.padding == "published":
            return bold[..., torch.arange(self.length, device=bold.device) % self.num_voxels]
        return F.pad(bold, (0, self.added)) if self.added else bold

    def unpad(self, values: Tensor) -> Tensor:
        """(..., `length`) back to (..., V): the padding is cut off; voxels that were left out come back as zero."""
        if values.shape[-1] != self.length:
            raise MindvizError(f"patching: expected {self.length} padded values, found {values.shape[-1]}")
        if self.added < 0:
            return F.pad(values, (0, -self.added))
        return values[..., : self.num_voxels]
