"""The fMRI encoder: a window of scans to condition tokens, and its attention when asked (paper section 3.2)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from mindviz.encoder.config import EncoderConfig
from mindviz.encoder.layers import (
    Block,
    PerPatchEmbedding,
    SharedPatchEmbedding,
    TokenHead,
    initialise,
    sincos_positions,
)
from mindviz.types import LayerAttention, MindvizError


class FMRIEncoder(nn.Module):
    """Parameter names are those of the published checkpoints, so that these load strictly.

    `cls_token`, `mask_token` and `logit_scale` are in the published files and take no part in encoding.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patching = config.patching
        self.add_transformer()
        self.add_head()
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init)))
        self.apply(initialise)

    def add_transformer(self) -> None:
        """Add what maps windows to the features of all scans and patches."""
        config, patches, dim = self.config, self.patching.num_patches, self.config.embed_dim
        self.patch_embed = make_patch_embedding(config)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(sincos_positions(patches + 1, dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, config.use_temporal, config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim)

    def add_head(self) -> None:
        """Add what maps the features of all scans and patches to condition tokens."""
        c = self.config
        inputs = self.patching.num_patches * c.window_size
        self.proj_head = TokenHead(inputs, c.embed_dim, c.num_tokens, c.token_dim, c.use_norm, c.dropout)

    def forward(self, bold: Tensor) -> Tensor:
        """Condition tokens (B, S, D) of normalised windows (B, T, V)."""
        return self.encode(bold)[0]

    def encode(self, bold: Tensor, attention: bool = False) -> tuple[Tensor, list[LayerAttention[Tensor]]]:
        """Tokens, and in the same pass the attention of each layer if asked for (else an empty list)."""
        self._check(bold)
        x, maps = self.features(bold, attention)
        return self.proj_head(rearrange(x, "(b t) p d -> b (t p) d", t=self.config.window_size)), maps

    def features(self, bold: Tensor, attention: bool = False) -> tuple[Tensor, list[LayerAttention[Tensor]]]:
        """The normed output of the last block, (B T, P, D), and the attention of each layer."""
        scans = rearrange(self.patching.pad(bold), "b t v -> (b t) v")
        x = self.patch_embed(scans) + self.pos_embed[:, 1:]
        maps = []
        for block in self.blocks:
            x, spatial, temporal = block(x, self.config.window_size, attention)
            if attention:
                maps.append(LayerAttention(spatial, temporal))
        return self.norm(x), maps

    def _check(self, bold: Tensor) -> None:
        if bold.ndim != 3 or bold.shape[1] != self.config.window_size:
            raise MindvizError(
                f"the encoder: expected windows of shape (B, {self.config.window_size}, {self.config.num_voxels}), "
                f"found {tuple(bold.shape)}"
            )


def make_patch_embedding(config: EncoderConfig) -> nn.Module:
    """The embedding that `config.patch_embedding` names; (N, padded voxels) to (N, P, D)."""
    if config.patch_embedding == "per_patch":
        held = torch.from_numpy(config.patching.places() >= 0) if config.areas else None
        return PerPatchEmbedding(config.patching.num_patches, config.patch_size, config.embed_dim, held)
    return SharedPatchEmbedding(config.patch_size, config.embed_dim)
