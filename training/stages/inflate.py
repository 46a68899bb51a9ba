"""Stage 3, inflation: the image model becomes a video model, tuned on clips with captions (paper section 3.3).

Convolutions and the VAE stay frozen; sparse causal, cross and temporal attention are trained. A new clip of one frame
is denoised exactly as the image model did (`VideoUNet.inflate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.diffusion import UNet2DConditionModel, VideoUNet, attention_parameters
from training.data.latents import LatentCorpus
from training.engine.batch import Batch
from training.stages.conditions import CaptionConditions, ClipConditions
from training.stages.denoising import Noising, denoising_loss, drop_condition

_INPUT = "input of the model: "


def freeze_all_but_attention(unet: VideoUNet, also: Sequence[str] = ()) -> int:
    """Leave gradients to the attention, and to parameters whose names begin with one of `also`.

    Returns how many numbers are trained.
    """
    trained = set(attention_parameters(unet))
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(name in trained or name.startswith(tuple(also)))
    return sum(p.numel() for p in unet.parameters() if p.requires_grad)


class VideoTask:
    """Predict the noise (or v) in the latents of a clip from its condition, with a video model that exists.

    `dropout` is the share of the samples whose condition is replaced by the unconditional one, so that guidance is
    learnt; `also` names further parameters to train (`freeze_all_but_attention`).
    """

    name = "inflate"

    def __init__(
        self,
        video_model: VideoUNet,
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        dropout: float = 0.1,
        shared_noise: float = 0.0,
        conditions: ClipConditions | None = None,
        also: Sequence[str] = (),
    ) -> None:
        self.corpus, self.scheduler, self.dropout = corpus, scheduler, dropout
        self.noising = Noising(scheduler, shared_noise)
        self.module = video_model
        self.conditions = conditions or CaptionConditions(corpus)
        self.trained = freeze_all_but_attention(self.module, also)

    def __len__(self) -> int:
        return len(self.corpus.clip_starts)

    def description(self) -> dict[str, Any]:
        return {
            "unet": asdict(self.module.config),
            "scheduler": self.scheduler,
            "condition_dropout": self.dropout,
            "shared_noise": self.noising.shared,
            "corpus": self.corpus.fingerprint,
            **self.conditions.description(),
        }

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        starts = self.corpus.clip_starts[indices]
        clips = self.corpus.clips(starts)
        noisy, timesteps, target = self.noising(clips, generator)
        tokens, negative = self.conditions.tokens(starts, clips, generator)
        tokens = drop_condition(tokens, negative, self.dropout, generator)
        samples = {"noisy": noisy, "timesteps": timesteps, "target": target, "tokens": tokens}
        return Batch(samples | further_inputs(self.conditions, clips, generator))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        answer = model(batch["noisy"], batch["timesteps"], batch["tokens"], **model_inputs(batch))
        return denoising_loss(answer, batch["target"], self.corpus.channel_weights), {}


def further_inputs(conditions: ClipConditions, clips: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """`ClipConditions.inputs` under the names that `model_inputs` finds in a batch."""
    return {f"{_INPUT}{name}": tensor for name, tensor in conditions.inputs(clips, generator).items()}


def model_inputs(batch: Batch) -> dict[str, Tensor]:
    """The model's further inputs by name, as `further_inputs` put them into a batch."""
    return {n.removeprefix(_INPUT): tensor for n, tensor in batch.samples.items() if n.startswith(_INPUT)}


class InflateTask(VideoTask):
    """`VideoTask` that begins with the image model (`VideoUNet.inflate`)."""

    def __init__(
        self,
        image_model: UNet2DConditionModel,
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        dropout: float = 0.1,
        shared_noise: float = 0.0,
        frame_positions: bool = False,
    ) -> None:
        video_model = VideoUNet.inflate(image_model, frame_positions)
        super().__init__(video_model, corpus, scheduler, dropout, shared_noise)
