"""Masked brain modelling: hide most patches of a scan and predict them (stage 1 of training; SC-MBM of MinD-Vis)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from mindviz.encoder.config import MaskedConfig
from mindviz.encoder.fmri_encoder import FMRIEncoder, make_patch_embedding
from mindviz.encoder.layers import Block, initialise, sincos_positions
from mindviz.types import MindvizError

PREDICTION_HEAD = ("proj_head.", "readout.", "logit_scale")
"""Parts of an `FMRIEncoder` that masked modelling does not train."""


class Masked(NamedTuple):
    """`loss` is the mean squared error over masked patches; `prediction` (N, P, patch); `mask` (N, P), True: hidden."""

    loss: Tensor
    prediction: Tensor
    mask: Tensor


class MaskedAutoencoder(nn.Module):
    """The encoder's spatial blocks on the visible patches, and a light decoder that fills the others in.

    Scans are single: attention over the window is not trained here. Names of the encoder's half are those of
    `FMRIEncoder`, which `encoder_state` initialises.
    """

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.config = config
        encoder = config.encoder
        self.patching = encoder.patching
        patches, dim, width = self.patching.num_patches, encoder.embed_dim, config.decoder_dim
        held = torch.from_numpy(self.patching.places() >= 0).float() if encoder.areas else None
        self.held: Tensor | None  # which places of areas of different sizes hold a voxel: only these are scored
        self.register_buffer("held", held, persistent=False)
        self.num_hidden = min(max(round(patches * config.mask_ratio), 1), patches - 1)
        if patches < 2:
            raise MindvizError(f"masked modelling needs at least 2 patches, found {patches}")
        self.patch_embed = make_patch_embedding(encoder)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(sincos_positions(patches + 1, dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(dim, encoder.num_heads, encoder.mlp_ratio, temporal=False, dropout=encoder.dropout)
            for _ in range(encoder.depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.decoder_embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder_pos_embed = nn.Parameter(sincos_positions(patches + 1, width), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(width, config.decoder_heads, config.decoder_mlp_ratio, temporal=False)
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, encoder.patch_size)
        self.apply(initialise)

    def forward(self, scans: Tensor, order: Tensor | None = None) -> Masked:
        """Mask, predict and score normalised scans (N, V).

        `order` (N, P) are random orders of the patches (`random_order`), of which the first are hidden; drawn if None.
        """
        padded = self.patching.pad(scans)
        target = rearrange(padded, "n (p k) -> n p k", k=self.patching.patch_size)
        if order is None:
            order = random_order(scans.shape[0], self.patching.num_patches, None).to(scans.device)
        visible = order[:, self.num_hidden :]
        prediction = self.reconstruct(self.encode_visible(padded, visible), visible)
        mask = torch.ones_like(order, dtype=torch.bool).scatter(1, visible, False)
        error = (prediction - target).square()
        error = error.mean(dim=-1) if self.held is None else (error * self.held).sum(-1) / self.held.sum(-1)
        return Masked(error[mask].mean(), prediction, mask)

    def encode_visible(self, padded: Tensor, visible: Tensor) -> Tensor:
        """Features (N, 1 + visible, D) of the class token and of the patches whose indices are in `visible`."""
        x = self.patch_embed(padded) + self.pos_embed[:, 1:]
        x = torch.gather(x, 1, repeat(visible, "n p -> n p d", d=x.shape[2]))
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)[0]
        return self.norm(x)

    def reconstruct(self, features: Tensor, visible: Tensor) -> Tensor:
        """Voxels of all patches, (N, P, patch), from the features of the visible ones."""
        x = self.decoder_embed(features)
        places = repeat(visible, "n p -> n p d", d=x.shape[2])
        full = self.mask_token.to(x.dtype).repeat(len(x), self.patching.num_patches, 1).scatter(1, places, x[:, 1:])
        x = torch.cat([x[:, :1], full], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)[0]
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def encoder_state(self) -> dict[str, Tensor]:
        """The tensors that an `FMRIEncoder` of the same configuration shares with this model."""
        mine = ("patch_embed.", "cls_token", "pos_embed", "blocks.", "norm.")
        return {name: value for name, value in self.state_dict().items() if name.startswith(mine)}


def initialise_encoder(encoder: FMRIEncoder, shared: dict[str, Tensor]) -> None:
    """Put the tensors of `MaskedAutoencoder.encoder_state` into an encoder; the others keep their values.

    The attention over the window, which masked modelling does not train, starts as a branch that adds nothing.
    """
    state = encoder.state_dict()
    unknown = sorted(set(shared) - set(state))
    wrong = [name for name in shared if name in state and shared[name].shape != state[name].shape]
    if unknown or wrong:
        raise MindvizError(
            f"the masked model does not fit the encoder: unknown {unknown[:3]}, other shapes {wrong[:3]}"
        )
    for name in state:
        if ".attn_temp.proj." in name:
            state[name] = torch.zeros_like(state[name])
    encoder.load_state_dict(state | shared, strict=True)


def random_order(batch: int, length: int, generator: torch.Generator | None) -> Tensor:
    """A random permutation of ``range(length)`` in each row, shape (batch, length)."""
    return torch.rand(batch, length, generator=generator).argsort(dim=1)
