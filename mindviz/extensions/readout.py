"""The read-out: attention chooses where to read, and what is read there becomes condition tokens.

The published head maps the transformer's features to tokens. Here the features only decide, head by head, how much each
patch counts; what a patch says is a linear code of its voxels, fitted beforehand by ridge regression to the captions'
tokens (and, where wanted, to the clip's layout). With uniform attention the codes add up to the ridge prediction.
A small network then corrects the sum: captions are few and discrete, so the best guess given a noisy prediction is no
linear function of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.types import LayerAttention, MindvizError

GAIN = 10.0
"""The weights of a memory are a tenth of what they do: it then learns as fast as it should at other layers' rates."""


@dataclass(frozen=True)
class ReadOutConfig(EncoderConfig):
    """An encoder whose published head may be replaced by a read-out.

    Parameters
    ----------
    readout_rank : the rank R of the codes of `AttentionReadOut`: attention chooses how much each patch counts in a
        linear read-out; 0 for the published head.
    readout_hidden, readout_dropout : of the network that corrects the sum.
    memory_heads, memory_slots, memory_sharpness : of the `FactorMemory` in that network; 0 heads for none.
    layout_rank : how many of the R codes, the last ones, tell the clip's layout (`mindviz.extensions.sketch`), which is
        then the last of the `num_tokens`; 0 for none.
    """

    readout_rank: int = 0
    readout_hidden: int = 1024
    readout_dropout: float = 0.5
    memory_heads: int = 0
    memory_slots: int = 8
    memory_sharpness: float = 1.0
    layout_rank: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def without_readout(self) -> ReadOutConfig:
        """The same transformer with the published head."""
        return dataclasses.replace(self, readout_rank=0, layout_rank=0, memory_heads=0)


def rank_of(config: EncoderConfig) -> int:
    """The rank of an encoder's read-out; 0 for the published head."""
    return config.readout_rank if isinstance(config, ReadOutConfig) else 0


def has_readout(config: EncoderConfig) -> bool:
    """Whether a read-out follows the last layer; it then counts as a layer of attention."""
    return rank_of(config) > 0


class FactorMemory(nn.Module):
    """Codes (B, R) to the sum of what `heads` small memories recall, each a softmax over its `slots`.

    A modern Hopfield network (Ramsauer et al. 2021) of many memories that are too small to hold whole captions: each
    must keep one factor of them, and they recall pairs that they never met together. Least squares shrinks an uncertain
    code towards the mean; a memory decides. `sharpness` (their inverse temperature) 1 is how it was trained.
    """

    def __init__(self, rank: int, heads: int, slots: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(rank))  # of the recalled code
        self.query = nn.Linear(rank, heads * slots)
        self.recall = nn.Linear(heads * slots, rank)

    def start(self, generator: torch.Generator | None = None) -> None:
        """Small random queries and memories."""
        nn.init.normal_(self.query.weight, std=0.05 / GAIN, generator=generator)
        nn.init.normal_(self.recall.weight, std=0.3 / GAIN, generator=generator)
        nn.init.zeros_(self.query.bias)
        nn.init.zeros_(self.recall.bias)

    def forward(self, code: Tensor, sharpness: float = 1.0) -> Tensor:
        asked = rearrange(GAIN * self.query(code), "b (h m) -> b h m", h=self.heads)
        return GAIN * self.scale * self.recall(rearrange((sharpness * asked).softmax(dim=-1), "b h m -> b (h m)"))


class Correction(nn.Module):
    """What codes (B, R) of unit variance should have been.

    Codes of captions go through a `FactorMemory` where the configuration has one; all others (the layout's, at the end)
    through a residual network of two hidden layers that starts as the identity and sees the whole code.
    """

    def __init__(self, config: ReadOutConfig) -> None:
        super().__init__()
        rank, hidden = config.readout_rank, config.readout_hidden
        self.words = rank - config.layout_rank if config.memory_heads else 0
        self.sharpness = config.memory_sharpness
        self.fc1, self.fc2 = nn.Linear(rank, hidden), nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, rank - self.words)
        self.dropout = nn.Dropout(config.readout_dropout)
        if self.words:
            self.memory = FactorMemory(self.words, config.memory_heads, config.memory_slots)

    def start(self) -> None:
        """The residual network adds nothing; the memory is random."""
        nn.init.zeros_(self.fc3.weight)
        nn.init.zeros_(self.fc3.bias)
        if self.words:
            self.memory.start()

    def forward(self, code: Tensor, sharpness: float | None = None) -> Tensor:
        """`sharpness` None is the configuration's, 1 that of training."""
        hidden = self.dropout(F.gelu(self.fc1(code)))
        rest = code[:, self.words :] + self.fc3(self.dropout(F.gelu(self.fc2(hidden))))
        if not self.words:
            return rest
        words = self.memory(code[:, : self.words], self.sharpness if sharpness is None else sharpness)
        return torch.cat([words, rest], dim=1)


class AttentionReadOut(nn.Module):
    """Features (B T, P, D) and voxels (B, T, P, patch) to tokens (B, S, token_dim).

    `codes` (T, P, patch, R) and `out` (R to S * token_dim) are fitted in closed form and stay
    (`training.demo.ridge`). Head a of A reads the a-th part of
    the code, ``P * sum_tp softmax_p(keys(features))[t, a, p] * said[t, p]``, where
    ``said = voxels @ codes``.
    """

    def __init__(self, config: ReadOutConfig) -> None:
        super().__init__()
        patches, rank = config.patching.num_patches, config.readout_rank
        self.heads, self.num_tokens = config.num_heads, config.num_tokens
        self.codes = nn.Parameter(torch.zeros(config.window_size, patches, config.patch_size, rank))
        self.keys = nn.Linear(config.embed_dim, config.num_heads)
        self.correction = Correction(config)
        self.out = nn.Linear(rank, config.num_tokens * config.token_dim)

    def start(self) -> None:
        """Uniform attention, no correction: the ridge prediction itself."""
        nn.init.zeros_(self.keys.weight)
        nn.init.zeros_(self.keys.bias)
        self.correction.start()

    def scramble(self) -> None:
        """Random codes, keys and corrections, for an encoder that knows nothing: without codes it would say nothing."""
        nn.init.normal_(self.codes, std=self.codes[..., 0].numel() ** -0.5)
        nn.init.normal_(self.keys.weight, std=0.02)
        nn.init.xavier_uniform_(self.correction.fc3.weight)

    def read(self, patches: Tensor, codes: Tensor | None = None) -> Tensor:
        """What each patch says, (B, T, P, R), of voxels (B, T, P, patch), by `codes` or its own."""
        codes = self.codes if codes is None else codes
        return einsum(patches, codes.to(patches), "b t p k, t p k r -> b t p r")

    def weights(self, features: Tensor) -> Tensor:
        """The softmax over patches of each head's one question, (B T, A, 1, P)."""
        return rearrange(self.keys(features), "n p a -> n a 1 p").softmax(dim=-1)

    def forward(self, features: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B T, P, D), what patches say (B, T, P, R) -> tokens (B, S, token_dim), softmax (B T, A, 1, P)."""
        code, weights = self.gather(features, said)
        return self.tokens(self.correction(code)), weights

    def gather(self, features: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """The code (B, R) that the attention gathers, and its softmax (B T, A, 1, P)."""
        weights = self.weights(features)
        shares = rearrange(weights, "(b t) a 1 p -> b t a p", b=said.shape[0]) * said.shape[2]
        parts = rearrange(said, "b t p (a r) -> b t p a r", a=self.heads)
        return rearrange(einsum(shares, parts, "b t a p, b t p a r -> b a r"), "b a r -> b (a r)"), weights

    def tokens(self, code: Tensor) -> Tensor:
        """Tokens (B, S, token_dim) of a corrected code (B, R)."""
        return rearrange(self.out(code), "b (s d) -> b s d", s=self.num_tokens)


class ReadOutEncoder(FMRIEncoder):
    """The fMRI encoder with an `AttentionReadOut` in place of the published head."""

    config: ReadOutConfig

    def __init__(self, config: ReadOutConfig) -> None:
        super().__init__(config)
        self.readout.start()

    def add_head(self) -> None:
        self.readout = AttentionReadOut(self.config)

    def encode(
        self, bold: Tensor, attention: bool = False, said: Tensor | None = None
    ) -> tuple[Tensor, list[LayerAttention[Tensor]]]:
        """As `FMRIEncoder.encode`; the read-out is the last layer, with one query: spatial (B T, A, 1, P).

        `said` (B, T, P, R) stands in for what the read-out's own codes say of the patches: in training, those of codes
        that were fitted without these windows.
        """
        self._check(bold)
        x, maps = self.features(bold, attention)
        tokens, weights = self.readout(x, self.readout.read(self.patches(bold)) if said is None else said)
        return tokens, [*maps, LayerAttention(weights, None)] if attention else maps

    def patches(self, bold: Tensor) -> Tensor:
        """Windows (B, T, V) cut into patches, (B, T, P, patch)."""
        return rearrange(self.patching.pad(bold), "b t (p k) -> b t p k", k=self.config.patch_size)


def make_encoder(config: EncoderConfig) -> FMRIEncoder:
    """The encoder that a configuration describes: the paper's, or with a read-out."""
    if isinstance(config, ReadOutConfig) and config.readout_rank:
        return ReadOutEncoder(config)
    return FMRIEncoder(config)
