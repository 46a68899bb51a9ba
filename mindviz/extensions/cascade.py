"""Decoding in two steps: a sketch is drawn to the condition tokens, and then painted. The paper paints at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mindviz.diffusion import Denoiser, guided
from mindviz.extensions.sketch import Drawing, Naming
from mindviz.extensions.sketched_unet import SketchedUNet
from mindviz.extensions.steering import steered
from mindviz.types import SamplingSettings


def draw(
    unet: SketchedUNet, tokens: Tensor, negative: Tensor, settings: SamplingSettings, naming: Naming | None
) -> Drawing:
    """The sketch of tokens (1, S, D), guided away from `negative` (1, S, D), and the tokens to paint it to."""
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    noise = torch.randn(1, settings.sketch_draws, unet.sketch.config.codes, generator=generator)
    return unet.sketch.draw(tokens, negative, settings.sketch_guidance, noise.to(tokens.device), naming=naming)


def painter(
    unet: SketchedUNet, drawing: Drawing, negative: Tensor, settings: SamplingSettings, scheduler: Any
) -> Denoiser:
    """The guided denoiser that paints a drawing, held to it by `settings.sketch_fidelity`."""
    denoiser = guided(unet.painting(drawing.latents), drawing.tokens, negative, settings.guidance_scale)
    if not settings.sketch_fidelity:
        return denoiser
    hold = partial(unet.sketch.held, drawn=drawing.latents, fidelity=settings.sketch_fidelity)
    shares = getattr(scheduler, "alphas_cumprod", None)
    return steered(denoiser, shares, scheduler.config.get("prediction_type", ""), hold)
