"""The sketch: a coarse clip drawn first, which the U-Net then paints (a cascade, as Ho et al. 2022 build).

A published U-Net meets its condition only in cross-attention, where the few words that tell how something moves weigh
little beside those that tell what it is; a small one learns to disregard them. Here a diffusion model of a few hundred
numbers, the principal components of whole clips, draws layout and movement: to it, where things are in each frame is
one number beside another. The U-Net gets the drawing beside its noisy latents. What a brain says of the layout goes
into the drawing too (as NeuroClips begins with a blurry video; Gong et al. 2024). The paper has no sketch;
`UNetConfig.sketch` None is its U-Net.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindviz.extensions.naming import Namer
from mindviz.types import MindvizError

FREQUENCIES = 8
"""Sines and cosines that tell the network how noisy its codes are."""
NEAR = 0.175
"""This share of the distances between drawings is counted as near."""
NARROWER = 4
"""What scales and shifts each layer (as FiLM does; Perez et al. 2018) is so many times narrower than the layers."""


@dataclass(frozen=True)
class SketchConfig:
    """Sizes of a `Sketch`.

    Parameters
    ----------
    words : leading condition tokens that are a caption's; a token after them, where there is one, is the layout.
    token_dim : width of the condition tokens; the layout token holds as many of the codes.
    rank : principal components of the caption tokens.
    codes : principal components of the clips.
    channels : leading channels of the latents that are drawn; the others are left to the U-Net.
    hidden, depth : width and number of the network's residual layers.
    shape : (C, F, h, w) of a clip's latents.
    """

    words: int = 16
    token_dim: int = 128
    rank: int = 128
    codes: int = 256
    channels: int = 6
    hidden: int = 768
    depth: int = 3
    shape: tuple[int, int, int, int] = (32, 6, 8, 8)

    def __post_init__(self) -> None:
        sizes = (self.words, self.token_dim, self.rank, self.depth, self.channels, *self.shape)
        if min(*sizes, self.hidden // NARROWER) < 1:
            raise MindvizError(f"all sizes of a sketch must be at least 1, and hidden at least {NARROWER}")
        if self.codes < self.token_dim or self.channels > self.shape[0]:
            raise MindvizError(
                f"a sketch needs at least as many codes ({self.codes}) as a token is wide ({self.token_dim}), and no "
                f"more channels ({self.channels}) than latents have ({self.shape[0]})"
            )


class Naming(NamedTuple):
    """Who names drawings, and the tokens (M, words, D) of the captions that may be meant (`diffusion.naming`)."""

    namer: Namer
    candidates: Tensor


class Drawing(NamedTuple):
    """A sketch's latents (B, channels, F, h, w), and the tokens (B, S, D) that the U-Net should paint it to.

    These are the ones that it was drawn to; where a caption was named, the mean of these and the caption's.
    """

    latents: Tensor
    tokens: Tensor


class Sketch(nn.Module):
    """Condition tokens (B, S, D) to codes (B, codes), and codes to latents and back.

    Both sides are principal components: `word_directions` of the caption tokens, divided by `word_scale`, and
    `clip_directions` of the clips, divided by `clip_scale`. These are fixed; the network between them is trained
    (`training.demo.sketch`) to tell clean codes from noisy ones, ``x = cos(angle) clean + sin(angle) noise``.
    """

    def __init__(self, config: SketchConfig) -> None:
        super().__init__()
        self.config = config
        self.word_mean: Tensor
        self.word_directions: Tensor
        self.word_scale: Tensor
        self.clip_mean: Tensor
        self.clip_directions: Tensor
        self.clip_scale: Tensor
        words, pixels = config.words * config.token_dim, config.channels * math.prod(config.shape[1:])
        for name, shape in (
            ("word_mean", (words,)),
            ("word_directions", (config.rank, words)),
            ("word_scale", (config.rank,)),
            ("clip_mean", (pixels,)),
            ("clip_directions", (config.codes, pixels)),
            ("clip_scale", (config.codes,)),
        ):
            self.register_buffer(name, torch.ones(shape) if name.endswith("scale") else torch.zeros(shape))
        self.hear = nn.Linear(config.rank + config.token_dim + 1, config.hidden)
        self.see = nn.Linear(config.codes + 2 * FREQUENCIES, config.hidden)
        self.layers = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.depth))
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(config.depth))
        self.stress = nn.Linear(config.rank + config.token_dim + 1 + 2 * FREQUENCIES, config.hidden // NARROWER)
        scales = [nn.Linear(config.hidden // NARROWER, 2 * config.hidden) for _ in range(config.depth)]
        for layer in scales:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.scales = nn.ModuleList(scales)
        self.tell = nn.Linear(config.hidden, config.codes)

    def forward(self, noisy: Tensor, angle: Tensor, tokens: Tensor) -> Tensor:
        """Clean codes (B, codes) as far as noisy ones, the angle (B,) of their noise and tokens (B, S, D) tell."""
        return self.clean(noisy, angle, self.condition(tokens))

    def condition(self, tokens: Tensor) -> Tensor:
        """What tokens (B, S, D) say, (B, rank + token_dim + 1): words, layout, and whether the layout is known."""
        c, code = self.config, self.words(tokens)
        known = tokens.shape[1] > c.words
        layout = tokens[:, c.words] if known else code.new_zeros(len(code), c.token_dim)
        return torch.cat([code, layout, code.new_full((len(code), 1), float(known))], 1)

    def words(self, tokens: Tensor) -> Tensor:
        """The codes (B, rank) of the words among tokens (B, S, D)."""
        words = rearrange(tokens[:, : self.config.words], "b s d -> b (s d)")
        return (words - self.word_mean) @ self.word_directions.T / self.word_scale

    def clean(self, noisy: Tensor, angle: Tensor, condition: Tensor) -> Tensor:
        """As `forward`, of a `condition`; leading dimensions broadcast, so that what drawings share is found once."""
        turns = angle[..., None] * torch.arange(1, FREQUENCIES + 1, device=angle.device)
        level = torch.cat([turns.sin(), turns.cos()], -1)
        x = self.hear(condition) + self.see(_beside(noisy, level))
        stress = F.gelu(self.stress(_beside(condition, level)))
        for norm, layer, scales in zip(self.norms, self.layers, self.scales, strict=True):
            scale, shift = scales(stress).chunk(2, dim=-1)
            x = x + layer(F.gelu(norm(x) * (1 + scale) + shift))
        return self.tell(F.gelu(x))

    @torch.no_grad()
    def draw(
        self,
        tokens: Tensor,
        negative: Tensor,
        guidance_scale: float,
        noise: Tensor,
        num_inference_steps: int = 25,
        naming: Naming | None = None,
    ) -> Drawing:
        """Denoise (DDIM) `noise` (B, N, codes) to N drawings, and return the most typical one (`most_typical`).

        Guided away from `negative` as the U-Net is (paper section 3.4). With `naming` it is drawn twice: the second
        time to the caption, too, that the first drawings and the tokens agree on.
        """
        unwanted = self.condition(negative.expand_as(tokens))
        asked = self.condition(tokens)
        drawn = self._drawings([asked], unwanted, guidance_scale, noise, num_inference_steps)
        if naming is not None:
            named = naming.candidates[naming.namer.name(self.words(tokens), drawn, self.words(naming.candidates))]
            meant = torch.cat([named, tokens[:, self.config.words :]], 1)
            both = [asked, self.condition(meant)]
            drawn = self._drawings(both, unwanted, guidance_scale, noise, num_inference_steps)
            tokens = (tokens + meant) / 2
        return Drawing(self.clip(most_typical(drawn * self.clip_scale) / self.clip_scale), tokens)

    def _drawings(
        self, asked: Sequence[Tensor], unwanted: Tensor, guidance_scale: float, noise: Tensor, steps: int
    ) -> Tensor:
        """Codes (B, N, codes) of drawings to several conditions (B, K) at once: to the mean of what each asks for."""
        conditions = torch.stack([*asked, unwanted], 1)[:, :, None]  # (B, conditions, 1, K)
        angles = torch.linspace(math.pi / 2, 0, steps + 1, device=noise.device)
        x = noise
        for angle, after in itertools.pairwise(angles):
            told = self.clean(x[:, None], angle, conditions)  # (B, conditions, N, codes)
            wanted, other = told[:, :-1].mean(1), told[:, -1]
            clean = other + guidance_scale * (wanted - other)
            x = after.cos() * clean + after.sin() * (x - angle.cos() * clean) / angle.sin()
        return x

    def clip(self, codes: Tensor) -> Tensor:
        """Latents (B, channels, F, h, w) of codes (B, codes)."""
        flat = self.clip_mean + codes * self.clip_scale @ self.clip_directions
        return flat.view(-1, self.config.channels, *self.config.shape[1:])

    def codes(self, latents: Tensor) -> Tensor:
        """The codes (B, codes) of clips' latents (B, C, F, h, w)."""
        flat = latents[:, : self.config.channels].flatten(1) - self.clip_mean
        return flat @ self.clip_directions.T / self.clip_scale

    def held(self, latents: Tensor, drawn: Tensor, fidelity: float) -> Tensor:
        """Latents (B, C, F, h, w) whose drawn part is moved towards a drawing (B, channels, F, h, w).

        The drawn part is what the codes tell of them; `fidelity` 1 makes it the drawing's, 0 changes nothing. Latents
        of another size than the sketch's are compared at its size.
        """
        size = self.config.shape[1:]
        small = F.interpolate(latents, size, mode="trilinear", align_corners=True)
        apart = fidelity * (drawn - self.clip(self.codes(small)))
        apart = F.interpolate(apart, latents.shape[2:], mode="trilinear", align_corners=True)
        return torch.cat([latents[:, : self.config.channels] + apart, latents[:, self.config.channels :]], 1)

    def layout(self, latents: Tensor) -> Tensor:
        """What a layout token should hold (B, token_dim): the first components, in units of the largest's scale."""
        return self.layout_of(self.codes(latents))

    def layout_of(self, codes: Tensor) -> Tensor:
        """As `layout`, of clips' codes (B, codes)."""
        width = self.config.token_dim
        return codes[:, :width] * (self.clip_scale[:width] / self.clip_scale[0])


def _beside(rows: Tensor, level: Tensor) -> Tensor:
    """Rows (..., K) with a level (L,) or (..., L) at the end of each."""
    return torch.cat([rows, level.expand(*rows.shape[:-1], -1)], -1)


def most_typical(drawn: Tensor) -> Tensor:
    """Where (B, K) the N drawings (B, N, K) lie densest: the mean of those around the densest one (a Gaussian kernel).

    One drawing shows what may have been; the densest place shows what most probably was. The mean there (one step of
    mean shift; Fukunaga and Hostetler 1975) leaves out what each of these drawings made up for itself.
    """
    count = drawn.shape[1]
    if count < 3:  # of two, neither is denser
        return drawn[:, 0]
    distances = torch.cdist(drawn, drawn)
    first, second = torch.triu_indices(count, count, 1)
    width = distances[:, first, second].quantile(NEAR, dim=1).clamp_min(1e-9)
    near = (-((distances / width[:, None, None]) ** 2)).exp()
    densest = near.sum(2).argmax(1)
    weights = near[torch.arange(len(drawn)), densest]
    return torch.einsum("bn,bnk->bk", weights, drawn) / weights.sum(1, keepdim=True)
