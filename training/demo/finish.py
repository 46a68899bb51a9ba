"""After the four stages: the U-Net whole, convolutions too, mostly on single frames beside their sketches.

The paper freezes the convolutions, as Stable Diffusion's have seen hundreds of millions of pictures. The demo's have
seen few, and none with a sketch beside it; with attention alone tuned, a painting in one step came out no nearer to
the clip than its sketch is. Frames of one clip are much alike, so a batch of frames of as many clips teaches more than
as many frames of few clips; every so often it is whole clips all the same, or frames would forget each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from mindviz.diffusion import VideoUNet
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.demo.conditions import DemoConditions
from training.demo.telling import Heard
from training.engine.batch import Batch
from training.stages.denoising import drop_condition
from training.stages.inflate import VideoTask, further_inputs

SHARE_OF_CLIPS = 1 / 6
"""So many of the batches are whole clips."""
BEGINNINGS = 0.5
"""So many of the samples are noise alone (or as near to it as the schedule comes), where a sampler of few steps begins
and most is decided."""


class FinishTask(VideoTask):
    """Predict the noise (or v) in the latents of single frames, at times of whole clips, from tokens and sketches.

    A batch of clips takes as much memory and time as one of frames: of its indices, every F-th is used.
    """

    name = "finish"

    def __init__(
        self,
        video_model: VideoUNet,
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        dropout: float = 0.1,
        shared_noise: float = 0.0,
        heard: Sequence[Heard] = (),
    ) -> None:
        conditions = DemoConditions(video_model, corpus, heard)
        super().__init__(video_model, corpus, scheduler, dropout, shared_noise, conditions)
        if conditions.bases is None:
            raise MindvizError("a video model without a sketch is finished by its four stages, found one")
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(not name.startswith("sketch."))

    def description(self) -> dict[str, Any]:
        return super().description() | {"clips": SHARE_OF_CLIPS, "beginnings": BEGINNINGS}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        whole = float(torch.rand((), generator=generator)) < SHARE_OF_CLIPS
        if whole:
            indices = indices[:: self.corpus.clip_frames]
        starts = self.corpus.clip_starts[indices]
        clips = self.corpus.clips(starts)
        tokens, negative = self.conditions.tokens(starts, clips, generator)
        tokens = drop_condition(tokens, negative, self.dropout, generator)
        inputs = further_inputs(self.conditions, clips, generator)
        if not whole:
            clips, inputs = _one_frame_each(clips, inputs, generator)
        noisy, timesteps, target = self.noising(clips, generator, BEGINNINGS)
        samples = {"noisy": noisy, "timesteps": timesteps, "target": target, "tokens": tokens}
        return Batch(samples | inputs, {"whole": whole})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        error, _ = super().loss(model, batch)
        return error, {"clips" if batch["whole"] else "frames": error.item()}


def _one_frame_each(
    clips: Tensor, inputs: Mapping[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """A frame of each of clips (B, C, F, h, w) and the same of their sketches: (B, C, 1, h, w)."""
    frame = torch.randint(clips.shape[2], (len(clips),), generator=generator)
    each = torch.arange(len(clips))
    one = {n: rearrange(x[each, :, frame], "b c h w -> b c 1 h w") for n, x in ({"": clips} | dict(inputs)).items()}
    return one.pop(""), one
