"""The layers that the encoder and the masked autoencoder share; parameter names are the published ones."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention with one qkv matrix; gives its softmax too when asked."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """(N, L, D) to (N, L, D), and the softmax (N, A, L, L) if `attention`."""
        q, k, v = rearrange(self.qkv(x), "n l (three a d) -> three n a l d", three=3, a=self.num_heads)
        if attention:
            softmax = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
            out = softmax @ v
        else:
            softmax, out = None, F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(out, "n a l d -> n l (a d)")), softmax


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropBranch(nn.Module):
    """Drops a residual branch of whole samples in training (stochastic depth) and scales the others up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep / (1.0 - self.rate)


class Block(nn.Module):
    """Spatial attention, attention over the window (if `temporal`), MLP; each with its own pre-norm."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, temporal: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.temporal = temporal
        if temporal:
            self.attn_temp = Attention(dim, num_heads)
            self.norm_temp = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop = DropBranch(dropout)

    def forward(
        self, x: Tensor, window_size: int = 1, attention: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B T, P, D) to the same, with the spatial (B T, A, P, P) and temporal (B P, A, T, T) softmax if asked."""
        branch, spatial = self.attn(self.norm1(x), attention)
        x = x + self.drop(branch)
        over_window = None
        if self.temporal:
            patches = x.shape[1]
            rows = rearrange(x, "(b t) p d -> (b p) t d", t=window_size)
            branch, over_window = self.attn_temp(self.norm_temp(rows), attention)
            x = rearrange(rows + self.drop(branch), "(b p) t d -> (b t) p d", p=patches)
        return x + self.drop(self.mlp(self.norm2(x))), spatial, over_window


class SharedPatchEmbedding(nn.Module):
    """One convolution of stride `patch_size` for all patches, as published."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv1d(1, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, P * patch_size) to (N, P, D)."""
        return rearrange(self.proj(x[:, None]), "n d p -> n p d")


class PerPatchEmbedding(nn.Module):
    """A linear map of its own for each patch: voxels of different patches share no weight.

    `held` (P, patch_size) says which places of areas of different sizes hold a voxel: only these have weights.
    """

    def __init__(self, num_patches: int, patch_size: int, dim: int, held: Tensor | None = None) -> None:
        super().__init__()
        shape = (num_patches, patch_size, dim) if held is None else (int(held.sum()), dim)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(num_patches, dim))
        self.held: Tensor | None
        self.register_buffer("held", held, persistent=False)
        nn.init.normal_(self.weight, std=patch_size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, P * patch_size) to (N, P, D)."""
        weight: Tensor = self.weight
        if self.held is not None:
            weight = weight.new_zeros(*self.held.shape, weight.shape[1]).masked_scatter(self.held[..., None], weight)
        patches = rearrange(x, "n (p k) -> p n k", p=weight.shape[0])
        return rearrange(torch.bmm(patches, weight), "p n d -> n p d") + self.bias


class TokenHead(nn.Module):
    """All (scan, patch) vectors of a window to S condition tokens."""

    def __init__(
        self, num_inputs: int, dim: int, num_tokens: int, token_dim: int, use_norm: bool, dropout: float
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, token_dim, bias=False)
        self.fc = nn.Linear(token_dim, token_dim, bias=False)
        self.channel_mapper = nn.Linear(num_inputs, num_tokens, bias=False)
        self.layer_norm: nn.Module = nn.LayerNorm(token_dim) if use_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T P, D) to (B, S, token_dim)."""
        tokens = rearrange(self.channel_mapper(rearrange(x, "b n d -> b d n")), "b d s -> b s d")
        projected = self.projection(tokens)
        return self.layer_norm(self.dropout(self.fc(F.gelu(projected))) + projected)


def sincos_positions(length: int, dim: int) -> Tensor:
    """Fixed 1-D sine-cosine position embedding, shape (1, length, dim), as in MAE; `dim` must be even."""
    frequencies = 1.0 / 10000 ** (torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()[None]


def initialise(module: nn.Module) -> None:
    """Xavier for linear maps, a small normal for convolutions, zero biases (as ViT and MAE do); use with `apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
