"""The sampler: a function of a denoiser, a schedule and latents. It knows neither guidance nor the brain."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from mindviz.diffusion.guidance import Denoiser
from mindviz.types import MindvizError

StepCallback = Callable[[int, int, Tensor], None]
"""(step, counted from 1; total; latents): the progress bar and the preview. It may raise, to cancel."""


class Scheduler(Protocol):
    """What every scheduler of diffusers offers (`parts.make_scheduler`)."""

    config: Any
    timesteps: Tensor
    init_noise_sigma: Any
    alphas_cumprod: Tensor
    step: Callable[..., Any]

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None: ...
    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor: ...


@torch.no_grad()
def sample(
    model: Denoiser,
    scheduler: Scheduler,
    latents: Tensor,
    num_inference_steps: int,
    callback: StepCallback | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoise standard normal `latents` (B, C, F, h, w) with any scheduler of diffusers.

    `generator` feeds the noise of stochastic schedulers; deterministic ones ignore it. PNDM calls the model once more
    than `num_inference_steps`; the callback counts calls.
    """
    trained = scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps < trained:
        raise MindvizError(f"num_inference_steps must be between 1 and {trained - 1}, found {num_inference_steps}")
    scheduler.set_timesteps(num_inference_steps, device=latents.device)
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    timesteps = scheduler.timesteps
    latents = latents * scheduler.init_noise_sigma
    for step, timestep in enumerate(timesteps):
        noise = model(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(noise, timestep, latents, **extra).prev_sample
        if callback is not None:
            callback(step + 1, len(timesteps), latents)
    return latents


def clip_noise(shape: tuple[int, ...], generator: torch.Generator, shared: float = 0.0) -> Tensor:
    """Standard normal noise (B, C, F, h, w), a fraction `shared` (0..1) of whose variance all frames have in common.

    The mixed noise of Ge et al. 2023 (PYoCo, section 4.1): frames that start alike end alike, which a small temporal
    attention need not bring about by itself. 0 is independent noise, as in the paper.
    """
    own = torch.randn(shape, generator=generator)
    if not shared:
        return own
    common = torch.randn((*shape[:2], 1, *shape[3:]), generator=generator)
    return shared**0.5 * common + (1 - shared) ** 0.5 * own


def initial_latents(shape: tuple[int, ...], seed: int, shared: float = 0.0) -> Tensor:
    """The noise of `clip_noise`, the same on every device: drawn on the CPU."""
    return clip_noise(shape, torch.Generator("cpu").manual_seed(seed), shared)
