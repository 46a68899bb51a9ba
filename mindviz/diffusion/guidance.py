"""Adversarial guidance, wrapped around the model: away from a negative that is a brain scan (paper section 3.4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(latents [B, C, F, h, w], timestep) -> predicted noise, same shape: all that a sampler knows of the model."""


def guided(
    model: Callable[[Tensor, Tensor, Tensor], Tensor], tokens: Tensor, negative: Tensor, guidance_scale: float
) -> Denoiser:
    """``e(negative) + s (e(tokens) - e(negative))``, both branches in one batch.

    Parameters
    ----------
    model : (latents, timestep, tokens) -> noise.
    tokens, negative : condition tokens, shape (B, S, D); a negative of batch 1 serves all.
    guidance_scale : s; 1 is the plain conditional model, which then runs alone.
    """
    if guidance_scale == 1.0:
        return lambda latents, timestep: model(latents, timestep, tokens)
    both = torch.cat([negative.expand_as(tokens), tokens])

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        if timestep.ndim > 0 and timestep.shape[0] == latents.shape[0]:
            timestep = torch.cat([timestep, timestep])
        without, with_ = model(torch.cat([latents, latents]), timestep, both).chunk(2)
        return without + guidance_scale * (with_ - without)

    return denoise
