"""Stage 3, inflation: the image model becomes a video model, tuned on clips with captions (paper section 3.3).

Convolutions and the VAE stay frozen; sparse causal, cross and temporal attention are trained. A new clip of one frame
is denoised exactly as the image model did (`VideoUNet.inflate`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.diffusion import UNet2DConditionModel, VideoUNet, attention_parameters
from training.image import Noising, denoising_loss, drop_condition
from training.latents import LatentCorpus
from training.processes import WHOLE_BATCH, local


def freeze_all_but_attention(unet: VideoUNet) -> int:
    """Leave gradients to the attention parameters alone; returns how many numbers are trained."""
    trained = set(attention_parameters(unet))
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(name in trained)
    return sum(p.numel() for p in unet.parameters() if p.requires_grad)


class InflateTask:
    """Predict the noise (or v) in the latents of a clip from its caption."""

    name = "inflate"

    def __init__(
        self,
        image_model: UNet2DConditionModel,
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        dropout: float = 0.1,
        shared_noise: float = 0.0,
        frame_positions: bool = False,
    ) -> None:
        self.corpus, self.scheduler, self.dropout = corpus, scheduler, dropout
        self.noising = Noising(scheduler, shared_noise)
        self.module = VideoUNet.inflate(image_model, frame_positions)
        self.trained = freeze_all_but_attention(self.module)

    def __len__(self) -> int:
        return len(self.corpus.clip_starts)

    def description(self) -> dict[str, Any]:
        return {
            "unet": asdict(self.module.config),
            "scheduler": self.scheduler,
            "condition_dropout": self.dropout,
            "shared_noise": self.noising.shared,
            "corpus": self.corpus.fingerprint,
        }

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        starts = self.corpus.clip_starts[indices]
        noisy, timesteps, target = self.noising(self.corpus.clips(starts), generator)
        tokens = drop_condition(self.corpus.tokens_of(starts), self.corpus.empty_tokens, self.dropout, generator)
        noisy, timesteps, target, tokens = local(model, rows, noisy, timesteps, target, tokens)
        return denoising_loss(model(noisy, timesteps, tokens), target, self.corpus.channel_weights), {}


if __name__ == "__main__":
    from training.stage import main

    raise SystemExit(main("inflate"))
