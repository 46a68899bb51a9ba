"""Co-training with captions among the scans, so that few scans do not undo what many captions taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mindviz.diffusion import VideoUNet
from mindviz.extensions.sketched_unet import SKETCH_INPUT
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.conditions import DemoConditions
from training.demo.telling import Heard
from training.engine.batch import Batch
from training.stages.cotrain import CotrainTask, FullModel
from training.stages.encoders import PlainEncoder

CAPTIONS = "captions"
"""Stands for a subject in a batch of captions."""


class CaptionedModel(FullModel):
    """The full model, which may be given tokens in place of a subject's windows."""

    def encode(self, subject: Any, windows: Tensor, which: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return (windows, negative) if subject == CAPTIONS else super().encode(subject, windows, which, negative)


class CaptionedCotrainTask(CotrainTask):
    """`CotrainTask` of which `caption_rate` of the steps take captions, or clips as subjects would have told them."""

    full_model = CaptionedModel

    def __init__(
        self,
        encoders: Mapping[str, PlainEncoder],
        unet: VideoUNet,
        scans: Mapping[str, TrainingScans],
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        token_weight: float = 0.1,
        shared_noise: float = 0.0,
        caption_rate: float = 0.0,
        heard: Sequence[Heard] = (),
    ) -> None:
        super().__init__(
            encoders,
            unet,
            scans,
            corpus,
            scheduler,
            token_weight=token_weight,
            shared_noise=shared_noise,
            conditions=DemoConditions(unet, corpus, heard),
            also=(SKETCH_INPUT,),
        )
        self.caption_rate = caption_rate
        self.options |= {"caption_rate": caption_rate} if caption_rate else {}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        if not self.caption_rate or float(torch.rand((), generator=generator)) >= self.caption_rate:
            return super().draw(indices, generator)
        corpus = self.corpus
        starts = corpus.clip_starts[torch.randint(len(corpus.clip_starts), indices.shape, generator=generator)]
        clips = corpus.clips(starts)
        tokens, negative = self.conditions.tokens(starts, clips, generator)
        samples = {"windows": tokens, "which": indices, "wanted": tokens} | self.noised(clips, generator)
        return Batch(samples, {"subject": CAPTIONS, "negative": negative})
