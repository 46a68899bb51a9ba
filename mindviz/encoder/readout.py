"""The read-out: attention chooses where to read, and what is read there becomes condition tokens.

The published head maps the transformer's features to tokens. Here the features only decide, head by head, how much each
patch counts; what a patch says is a linear code of its voxels, fitted beforehand by ridge regression to the captions'
tokens. With uniform attention the codes add up to the ridge prediction itself. A small network then corrects the sum:
captions are few and discrete, so the best guess given a noisy prediction is no linear function of it.
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindviz.encoder.config import EncoderConfig


class Correction(nn.Module):
    """A residual network of two hidden layers on codes (B, R) of unit variance; it starts as the identity."""

    def __init__(self, rank: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(rank, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, rank)
        self.dropout = nn.Dropout(dropout)

    def start(self) -> None:
        """Add nothing."""
        nn.init.zeros_(self.fc3.weight)
        nn.init.zeros_(self.fc3.bias)

    def forward(self, code: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.fc1(code)))
        return code + self.fc3(self.dropout(F.gelu(self.fc2(hidden))))


class AttentionReadOut(nn.Module):
    """Features (B T, P, D) and voxels (B, T, P, patch) to tokens (B, S, token_dim).

    `codes` (T, P, patch, R) and `out` (R to S * token_dim) are fitted in closed form and stay (`training.ridge`). Head
    a of A reads the a-th part of the code, ``P * sum_tp softmax_p(keys(features))[t, a, p] * said[t, p]``, where
    ``said = voxels @ codes``.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        patches, rank = config.patching.num_patches, config.readout_rank
        self.heads, self.num_tokens = config.num_heads, config.num_tokens
        self.codes = nn.Parameter(torch.zeros(config.window_size, patches, config.patch_size, rank))
        self.keys = nn.Linear(config.embed_dim, config.num_heads)
        self.correction = Correction(rank, config.readout_hidden, config.readout_dropout)
        self.out = nn.Linear(rank, config.num_tokens * config.token_dim)

    def start(self) -> None:
        """Uniform attention, no correction: the ridge prediction itself."""
        nn.init.zeros_(self.keys.weight)
        nn.init.zeros_(self.keys.bias)
        self.correction.start()

    def read(self, patches: Tensor, codes: Tensor | None = None) -> Tensor:
        """What each patch says, (B, T, P, R), of voxels (B, T, P, patch), by `codes` or its own."""
        codes = self.codes if codes is None else codes
        return einsum(patches, codes.to(patches), "b t p k, t p k r -> b t p r")

    def weights(self, features: Tensor) -> Tensor:
        """The softmax over patches of each head, (B T, A, P)."""
        return rearrange(self.keys(features), "n p a -> n a p").softmax(dim=-1)

    def forward(self, features: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B T, P, D), what patches say (B, T, P, R) -> tokens (B, S, token_dim), softmax (B T, A, P)."""
        weights = self.weights(features)
        shares = rearrange(weights, "(b t) a p -> b t a p", b=said.shape[0]) * said.shape[2]
        parts = rearrange(said, "b t p (a r) -> b t p a r", a=self.heads)
        code = rearrange(einsum(shares, parts, "b t a p, b t p a r -> b a r"), "b a r -> b (a r)")
        return rearrange(self.out(self.correction(code)), "b (s d) -> b s d", s=self.num_tokens), weights
