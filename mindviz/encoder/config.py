"""Frozen configurations of the encoder and of masked brain modelling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mindviz.checkpoint import adopt_config
from mindviz.encoder.patching import Padding, Patching
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
    readout_rank : the rank R of the codes of `AttentionReadOut`, which replaces the published head: attention chooses
        how much each patch counts in a linear read-out; 0 (published) for the published head.
    readout_hidden, readout_dropout : of the network that corrects the sum.
    memory_heads, memory_slots, memory_sharpness : of the `FactorMemory` in that network; 0 heads for none.
    layout_rank : how many of the R codes, the last ones, tell the clip's layout (`mindviz.diffusion.Sketch`), which is
        then the last of the `num_tokens`; 0 for none.
    padding : see `Patching`.
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
    readout_rank: int = 0
    readout_hidden: int = 1024
    readout_dropout: float = 0.5
    memory_heads: int = 0
    memory_slots: int = 8
    memory_sharpness: float = 1.0
    layout_rank: int = 0
    padding: Padding = "minimal"

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise MindvizError(f"embed_dim {self.embed_dim} must be a multiple of num_heads {self.num_heads}")
        if self.readout_rank < 0 or self.readout_rank % self.num_heads:
            raise MindvizError(
                f"readout_rank must be 0 or a multiple of {self.num_heads} heads, found {self.readout_rank}"
            )
        if not 0.0 <= self.readout_dropout < 1.0 or self.readout_hidden < 1:
            raise MindvizError("readout_dropout must be in 0..1 and readout_hidden at least 1")
        if not 0 <= self.layout_rank <= max(self.readout_rank - 1, 0) or (self.layout_rank and self.num_tokens < 2):
            raise MindvizError(
                f"layout_rank must be below readout_rank ({self.readout_rank}) and needs a token of its own, "
                f"found {self.layout_rank} and {self.num_tokens} tokens"
            )
        if self.memory_heads < 0 or self.memory_slots < 1 or not self.memory_sharpness > 0:
            raise MindvizError("memory_heads must be 0 or more, memory_slots and memory_sharpness above 0")
        if min(self.depth, self.window_size, self.num_tokens, self.token_dim) < 1:
            raise MindvizError("depth, window_size, num_tokens and token_dim of an encoder must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise MindvizError(f"dropout must be in 0..1, found {self.dropout}")
        if self.patch_embedding not in ("shared", "per_patch"):
            raise MindvizError(f"patch_embedding must be shared or per_patch, found {self.patch_embedding!r}")
        if self.embed_dim % 2:
            raise MindvizError(f"embed_dim must be even for the position embedding, found {self.embed_dim}")
        _ = self.patching

    def without_readout(self) -> EncoderConfig:
        """The same transformer with the published head."""
        return dataclasses.replace(self, readout_rank=0, layout_rank=0, memory_heads=0)

    @property
    def patching(self) -> Patching:
        """How a scan is cut."""
        return Patching(self.num_voxels, self.patch_size, self.padding)

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
