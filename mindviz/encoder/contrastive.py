"""The contrastive head: condition tokens into CLIP's space, and the losses that pull them there (paper section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindviz.types import MindvizError


@dataclass(frozen=True)
class ContrastiveConfig:
    """`token_dim` of the tokens, `clip_dim` of the CLIP embeddings, `temperature` to start with."""

    token_dim: int = 768
    clip_dim: int = 768
    temperature: float = 0.07
    max_scale: float = 100.0


class ContrastiveHead(nn.Module):
    """Mean-pooled tokens, a layer norm and a linear map to unit vectors in CLIP's space, with a learned temperature."""

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.token_dim)
        self.projection = nn.Linear(config.token_dim, config.clip_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1.0 / config.temperature)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit vectors (B, clip_dim) of condition tokens (B, S, token_dim)."""
        return F.normalize(self.projection(self.norm(tokens.mean(dim=1))), dim=-1)

    @property
    def scale(self) -> Tensor:
        """The factor on cosine similarities, ``exp(logit_scale)``, at most `max_scale`."""
        return self.logit_scale.exp().clamp(max=self.config.max_scale)

    def loss(self, tokens: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """Half the image loss and half the text loss, each a symmetric InfoNCE (paper equation 2).

        `image` and `text` are CLIP embeddings, (B, clip_dim), of the clip each window belongs to.
        """
        fmri = self(tokens)
        return 0.5 * (info_nce(fmri, image, self.scale) + info_nce(fmri, text, self.scale))


def info_nce(fmri: Tensor, target: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE: the mean cross-entropy of picking each row's partner, both ways.

    Parameters
    ----------
    fmri, target : (B, D); row i of one belongs to row i of the other. Normalised here.
    logit_scale : factor on the cosine similarities (the inverse temperature itself, not its logarithm).
    """
    if fmri.shape != target.shape or fmri.ndim != 2:
        raise MindvizError(f"info_nce needs two (B, D) tensors, found {tuple(fmri.shape)} and {tuple(target.shape)}")
    logits = logit_scale * F.normalize(fmri, dim=-1) @ F.normalize(target, dim=-1).T
    partner = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner))
