"""The text-to-image model of the demo: diffusers' U-Net on the latents of single frames, conditioned on caption tokens.

The paper takes Stable Diffusion 1.5 here; no hub is reachable where the demo is made.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.diffusion import UNetConfig, build_unet2d
from training.data.latents import LatentCorpus
from training.engine.batch import Batch
from training.stages.denoising import Noising, denoising_loss, drop_condition


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

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        noisy, timesteps, target = self.noising(self.corpus.latents[indices], generator)
        tokens = self.corpus.tokens_of(indices)
        tokens = drop_condition(tokens, self.corpus.empty_tokens, self.condition_dropout, generator)
        return Batch({"noisy": noisy, "timesteps": timesteps, "target": target, "tokens": tokens})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        noisy = batch["noisy"].contiguous(memory_format=torch.channels_last)
        answer = model(noisy, batch["timesteps"], batch["tokens"]).sample
        return denoising_loss(answer, batch["target"], self.channel_weights), {}
