"""What contrastive learning aims at: frozen embeddings of every training frame and its caption."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Frozen embeddings of every training frame.

    Attributes
    ----------
    image : Tensor (N, E), unit vectors
    text : Tensor (captions, E), unit vectors
    tokens : Tensor (captions, S, D)
    caption_index : Tensor (N,): each frame's row in `text` and `tokens`
    """

    image: Tensor
    text: Tensor
    tokens: Tensor
    caption_index: Tensor

    def of(self, first_frame: Tensor, clip_frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Image and text embeddings (B, E) and tokens (B, S, D) of one random frame of each clip."""
        frame = first_frame + torch.randint(clip_frames, first_frame.shape, generator=generator)
        caption = self.caption_index[frame]
        return self.image[frame], self.text[caption], self.tokens[caption]
