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
        """`contrastive_loss` of condition tokens (B, S, token_dim), images and texts alike."""
        return contrastive_loss(self(tokens), image, text, self.scale)


def contrastive_loss(
    fmri: Tensor, image: Tensor, text: Tensor, scale: Tensor | float, image_weight: float = 0.5
) -> Tensor:
    """Symmetric InfoNCE against images and against texts, half weight each (paper equation 2).

    Parameters
    ----------
    fmri : (B, D), embeddings of windows in CLIP's space.
    image, text : (B, D), CLIP embeddings of the clip that each window belongs to.
    scale : factor on the cosine similarities.
    image_weight : the share of the images; 0 is texts alone, 1 images alone.
    """
    parts = [(image_weight, image), (1 - image_weight, text)]
    return sum((w * info_nce(fmri, target, scale) for w, target in parts if w), fmri.new_zeros(()))


def info_nce(one: Tensor, other: Tensor, scale: Tensor | float, label: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE: the mean cross-entropy of picking each row's partner, both ways.

    Parameters
    ----------
    one, other : (B, D); row i of one belongs to row i of the other. Normalised here.
    scale : factor on the cosine similarities (the inverse temperature itself, not its logarithm).
    label : (B,); rows of equal label are partners of each other, too, with equal probability. Without it a caption that
        stands in a batch several times would be pushed away from itself.
    """
    if one.shape != other.shape or one.ndim != 2:
        raise MindvizError(f"info_nce needs two (B, D) tensors, found {tuple(one.shape)} and {tuple(other.shape)}")
    logits = scale * F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T
    if label is None:
        partner = torch.arange(len(logits), device=logits.device)
    else:
        same = (label[:, None] == label[None, :]).to(logits)
        partner = same / same.sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner))
