"""After the four stages: the U-Net whole, convolutions too, mostly on single frames beside their sketches.

The paper freezes the convolutions, as Stable Diffusion's have seen hundreds of millions of pictures. The demo's have
seen few, and none with a sketch beside it; with attention alone tuned, a painting in one step came out no nearer to
the clip than its sketch is. Frames of one clip are much alike, so a batch of frames of as many clips teaches more than
as many frames of few clips; every so often it is whole clips all the same, or frames would forget each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from mindviz.diffusion import VideoUNet
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.demo.telling import Heard
from training.engine.processes import WHOLE_BATCH, local
from training.stages.denoising import denoising_loss, drop_condition
from training.stages.inflate import TuneTask, said_of, smudged

CLIPS = 1 / 6
"""So many of the batches are whole clips."""
BEGINNINGS = 0.5
"""So many of the samples are noise alone (or as near to it as the schedule comes), where a sampler of few steps begins
and most is decided."""


class FinishTask(TuneTask):
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
        super().__init__(video_model, corpus, scheduler, dropout, shared_noise, heard)
        if self.bases is None:
            raise MindvizError("a video model without a sketch is finished by its four stages, found one")
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(not name.startswith("sketch."))

    def description(self) -> dict[str, Any]:
        return super().description() | {"clips": CLIPS, "beginnings": BEGINNINGS}

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        whole, of_clips = float(torch.rand((), generator=generator)) < CLIPS, self._clips(rows)
        if whole:
            indices, rows = indices[:: self.corpus.clip_frames], of_clips
        starts = self.corpus.clip_starts[indices]
        clips = self.corpus.clips(starts)
        tokens, negative = said_of(starts, clips, self.corpus, self.bases, self.heard, generator)
        tokens = drop_condition(tokens, negative, self.dropout, generator)
        assert self.bases is not None
        (drawn,) = smudged(self.bases, clips, generator)
        if not whole:
            clips, drawn = _one_frame_each(clips, drawn, generator)
        noisy, timesteps, target = self.noising(clips, generator, BEGINNINGS)
        noisy, timesteps, target, tokens, drawn = local(model, rows, noisy, timesteps, target, tokens, drawn)
        error = denoising_loss(model(noisy, timesteps, tokens, drawn), target, self.corpus.channel_weights)
        return error, {"clips" if whole else "frames": error.item()}

    def _clips(self, rows: slice) -> slice:
        """The rows of a batch of clips that stand for these of a batch of frames."""
        if rows == WHOLE_BATCH:
            return rows
        frames = self.corpus.clip_frames
        if rows.start % frames or rows.stop % frames:
            raise MindvizError(
                f"finish: expected a batch of which each process and part gets a multiple of {frames} samples, found "
                f"rows {rows.start} to {rows.stop}"
            )
        return slice(rows.start // frames, rows.stop // frames)


def _one_frame_each(clips: Tensor, drawn: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A frame of each of clips (B, C, F, h, w) and of their sketches, the same of both: (B, C, 1, h, w)."""
    frame = torch.randint(clips.shape[2], (len(clips),), generator=generator)
    each = torch.arange(len(clips))
    return tuple(rearrange(x[each, :, frame], "b c h w -> b c 1 h w") for x in (clips, drawn))  # type: ignore[return-value]
