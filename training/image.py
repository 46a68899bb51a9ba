"""The text-to-image model of the demo: diffusers' U-Net on the latents of single frames, conditioned on caption tokens.

The paper takes Stable Diffusion 1.5 here; no hub is reachable where the demo is made.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.diffusion import UNetConfig, build_unet2d, clip_noise, make_scheduler
from training.latents import LatentCorpus
from training.processes import WHOLE_BATCH, local


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


class ImageTask:
    """Predict the noise (or v) in the latents of a frame from its caption; at times from the empty caption."""

    name = "image"

    def __init__(
        self, config: UNetConfig, corpus: LatentCorpus, scheduler: dict[str, Any], condition_dropout: float = 0.1
    ) -> None:
        self.config, self.corpus, self.scheduler = config, corpus, scheduler
        self.condition_dropout = condition_dropout
        self.channel_weights: Tensor | None = None  # of `denoising_loss`; may be set between two runs of the loop
        self.noising = Noising(scheduler)
        self.module = build_unet2d(config)
        self.module = self.module.to(memory_format=torch.channels_last)  # type: ignore[call-arg]

    def __len__(self) -> int:
        return len(self.corpus.latents)

    def description(self) -> dict[str, Any]:
        return {
            "unet": asdict(self.config),
            "scheduler": self.scheduler,
            "condition_dropout": self.condition_dropout,
            "corpus": self.corpus.fingerprint,
        } | ({} if self.channel_weights is None else {"channel_weights": self.channel_weights.tolist()})

    def set_gradient_checkpointing(self, enable: bool) -> None:
        (self.module.enable_gradient_checkpointing if enable else self.module.disable_gradient_checkpointing)()

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        noisy, timesteps, target = self.noising(self.corpus.latents[indices], generator)
        tokens = self.corpus.tokens_of(indices)
        tokens = drop_condition(tokens, self.corpus.empty_tokens, self.condition_dropout, generator)
        noisy, timesteps, target, tokens = local(model, rows, noisy, timesteps, target, tokens)
        answer = model(noisy.contiguous(memory_format=torch.channels_last), timesteps, tokens).sample
        return denoising_loss(answer, target, self.channel_weights), {}
