"""Stage 3, inflation: the image model becomes a video model, tuned on clips with captions (paper section 3.3).

Convolutions and the VAE stay frozen; sparse causal, cross and temporal attention are trained. A new clip of one frame
is denoised exactly as the image model did (`VideoUNet.inflate`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.diffusion import UNet2DConditionModel, VideoUNet, attention_parameters
from mindviz.extensions.sketch import Sketch
from mindviz.extensions.sketched_unet import SKETCH_INPUT, SketchedUNet
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.demo.telling import Heard, heard_digest
from training.engine.processes import WHOLE_BATCH, local
from training.stages.denoising import Noising, denoising_loss, drop_condition


def freeze_all_but_attention(unet: VideoUNet) -> int:
    """Leave gradients to the attention, and to where a sketch comes in; returns how many numbers are trained."""
    trained = set(attention_parameters(unet))
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(name in trained or name.startswith(SKETCH_INPUT))
    return sum(p.numel() for p in unet.parameters() if p.requires_grad)


SMUDGE = 0.5
"""At most so much noise (of codes whose mean variance is 1) on the sketches that the U-Net learns from."""


@torch.no_grad()
def smudged(sketch: Sketch, clips: Tensor, generator: torch.Generator) -> tuple[Tensor]:
    """Sketches (B, channels, F, h, w) of clips' own latents (B, C, F, h, w), so imperfect as drawn ones will be.

    The conditioning augmentation of cascades (Ho et al. 2022, section 4).
    """
    codes = sketch.codes(clips)
    level = SMUDGE * torch.rand(len(codes), 1, generator=generator)
    return (sketch.clip(codes + level * torch.randn(codes.shape, generator=generator)),)


def bases_of(unet: VideoUNet, heard: Sequence[Heard]) -> Sketch | None:
    """A copy of a video model's sketch that stays on the CPU, where clips are told and smudged."""
    if isinstance(unet, SketchedUNet):
        return copy.deepcopy(unet.sketch)
    if heard:
        raise MindvizError("clips can be told to a video model with a sketch only, found one without")
    return None


def said_of(
    starts: Tensor,
    clips: Tensor,
    corpus: LatentCorpus,
    bases: Sketch | None,
    heard: Sequence[Heard],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """What is said of the clips (B, C, F, h, w) that begin at `starts`, and of nothing in particular.

    Tokens (B, S, D) and (S, D): their captions', or, where subjects were heard, every other time what one of them would
    have told of captions and layout.
    """
    tokens = corpus.tokens_of(starts)
    subject = int(torch.randint(2 * len(heard), (), generator=generator)) if heard else 0
    if subject >= len(heard):  # always, without any
        return tokens, corpus.empty_tokens
    assert bases is not None
    wanted = torch.cat([tokens, bases.layout(clips)[:, None]], 1)
    return heard[subject].teller(wanted, generator), heard[subject].negative


class TuneTask:
    """Predict the noise (or v) in the latents of a clip from its caption, with a video model that exists.

    With `heard`, a model with a sketch takes every other batch as one of these subjects would have told its clips.
    """

    name = "inflate"

    def __init__(
        self,
        video_model: VideoUNet,
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        dropout: float = 0.1,
        shared_noise: float = 0.0,
        heard: Sequence[Heard] = (),
    ) -> None:
        self.heard = tuple(heard)
        self.corpus, self.scheduler, self.dropout = corpus, scheduler, dropout
        self.noising = Noising(scheduler, shared_noise)
        self.module = video_model
        self.bases = bases_of(video_model, self.heard)
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
            **({"heard": heard_digest(self.heard)} if self.heard else {}),
        }

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        starts = self.corpus.clip_starts[indices]
        clips = self.corpus.clips(starts)
        noisy, timesteps, target = self.noising(clips, generator)
        tokens, negative = said_of(starts, clips, self.corpus, self.bases, self.heard, generator)
        tokens = drop_condition(tokens, negative, self.dropout, generator)
        drawn: Sequence[Tensor] = smudged(self.bases, clips, generator) if self.bases else ()
        noisy, timesteps, target, tokens, *drawn = local(model, rows, noisy, timesteps, target, tokens, *drawn)
        return denoising_loss(model(noisy, timesteps, tokens, *drawn), target, self.corpus.channel_weights), {}


class InflateTask(TuneTask):
    """The same, beginning with the image model (`VideoUNet.inflate`)."""

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
