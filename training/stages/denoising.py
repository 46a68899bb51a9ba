"""What every stage that denoises shares: noise added by the schedule, the loss, and conditions left out at times."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mindviz.diffusion import clip_noise, make_scheduler


class Noising:
    """Adds noise by a scheduler of diffusers, and says what the model should answer (epsilon or v).

    `shared` is that of `mindviz.diffusion.clip_noise`.
    """

    def __init__(self, scheduler_config: dict[str, Any], shared: float = 0.0) -> None:
        self.scheduler, self.shared = make_scheduler(scheduler_config), shared
        self.kind = self.scheduler.config["prediction_type"]

    def __call__(
        self, latents: Tensor, generator: torch.Generator, beginnings: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, …) -> (noisy latents, timesteps (B,), target of the model's answer).

        A fraction `beginnings` of the samples (0..1) is at the last timestep, the others at any.
        """
        noise = clip_noise(tuple(latents.shape), generator, self.shared)
        steps = self.scheduler.config["num_train_timesteps"]
        timesteps = torch.randint(steps, (len(latents),), generator=generator)
        if beginnings:
            timesteps[torch.rand(len(latents), generator=generator) < beginnings] = steps - 1
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        target = noise if self.kind == "epsilon" else self.scheduler.get_velocity(latents, noise, timesteps)
        return noisy, timesteps, target


def denoising_loss(answer: Tensor, target: Tensor, channel_weights: Tensor | None = None) -> Tensor:
    """Mean squared error of (B, C, …); channels count by their share of the picture where weights (C,) are given.

    Most channels of the demo's latents are fine detail that hardly depends on the caption; unweighted, they are most of
    the loss, while what an object is shows in the first few.
    """
    if channel_weights is None:
        return functional.mse_loss(answer, target)
    errors = (answer.float() - target).square().flatten(2).mean((0, 2))
    return (errors * channel_weights.to(errors)).mean()


def drop_condition(tokens: Tensor, negative: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Replace the tokens (B, S, D) of a fraction `rate` of samples by `negative` (S, D), so that guidance is learnt."""
    dropped = torch.rand(len(tokens), generator=generator) < rate
    return torch.where(dropped[:, None, None].to(tokens.device), negative.to(tokens.device), tokens)
