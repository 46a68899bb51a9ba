"""Frozen configurations of the encoder and of masked brain modelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mindviz.encoder.patching import Padding, Patching
from mindviz.storage import adopt_config
from mindviz.types import MindvizError


@dataclass(frozen=True)
class EncoderConfig:
    """The fMRI encoder; the defaults are the paper's (section 3.2 and supplementary A).

    Parameters
    ----------
    num_voxels : V, before padding.
    window_size : T, the scans in a window.
    num_tokens, token_dim : S and D of the condition tokens.
    use_norm : a layer norm at the end of the head.
    use_temporal : attention over the window in each block.
    dropout : of whole residual branches in the blocks, and of the head's last step; in training only.
    logit_scale_init : start of `logit_scale`, which takes no part in encoding.
    patch_embedding : ``"shared"``, one convolution over all patches (published), or ``"per_patch"``, weights of its own
        for each patch: a voxel's place then matters from the first layer on.
    padding, areas : see `Patching`; by default rows, as published.
    area_names : of the areas, in their order.
    """

    num_voxels: int
    patch_size: int = 16
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 1.0
    window_size: int = 2
    num_tokens: int = 77
    token_dim: int = 768
    use_norm: bool = False
    use_temporal: bool = True
    dropout: float = 0.0
    logit_scale_init: float = 1.0
    patch_embedding: Literal["shared", "per_patch"] = "shared"
    padding: Padding = "minimal"
    areas: tuple[int, ...] = ()
    area_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise MindvizError(f"embed_dim {self.embed_dim} must be a multiple of num_heads {self.num_heads}")
        if min(self.depth, self.window_size, self.num_tokens, self.token_dim) < 1:
            raise MindvizError("depth, window_size, num_tokens and token_dim of an encoder must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise MindvizError(f"dropout must be in 0..1, found {self.dropout}")
        if self.patch_embedding not in ("shared", "per_patch"):
            raise MindvizError(f"patch_embedding must be shared or per_patch, found {self.patch_embedding!r}")
        if self.embed_dim % 2:
            raise MindvizError(f"embed_dim must be even for the position embedding, found {self.embed_dim}")
        patches, named = self.patching.num_patches, len(set(self.area_names))
        if not named == len(self.area_names) == (patches if self.areas else 0):
            raise MindvizError(f"areas: expected a name of its own for each, found {self.area_names}")

    @property
    def patching(self) -> Patching:
        """How a scan is cut."""
        return Patching(self.num_voxels, self.patch_size, self.padding, self.areas)

    @classmethod
    def from_published(cls, published: Mapping[str, Any], source: Path | str) -> tuple[EncoderConfig, dict[str, Any]]:
        """From the ``config.json`` of a published fMRI encoder; also the keys without effect.

        A published `num_voxels` counts after padding, so nothing is padded any more (``padding="drop"``).
        """
        return adopt_config(
            cls, published, source, renamed=_PUBLISHED, fixed={"in_chans": 1}, defaults=_PUBLISHED_DEFAULTS
        )


_SAME = (
    "num_voxels",
    "patch_size",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "window_size",
    "use_norm",
    "dropout",
)
_PUBLISHED = {name: name for name in _SAME} | {
    "out_channel": "num_tokens",
    "out_dim": "token_dim",
    "use_temp_attn": "use_temporal",
    "logit_scale_init_value": "logit_scale_init",
}

_PUBLISHED_DEFAULTS = EncoderConfig(
    num_voxels=224,
    mlp_ratio=4.0,
    window_size=1,
    num_tokens=1,
    use_temporal=False,
    padding="drop",
)
"""What the authors' class assumes for a key that its config.json leaves out."""


@dataclass(frozen=True)
class MaskedConfig:
    """Masked brain modelling around an encoder (SC-MBM: MinD-Vis, Chen et al. 2023; section 3.2 of the paper)."""

    encoder: EncoderConfig
    mask_ratio: float = 0.75
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    decoder_mlp_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_ratio < 1.0:
            raise MindvizError(f"mask_ratio must lie between 0 and 1, found {self.mask_ratio}")
        if self.decoder_dim % self.decoder_heads:
            raise MindvizError(f"decoder_dim {self.decoder_dim} must be a multiple of {self.decoder_heads} heads")
