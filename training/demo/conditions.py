"""What the demo's video model learns from: captions, what subjects would have said of clips, and sketches of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mindviz.diffusion import VideoUNet
from mindviz.extensions.sketch import Sketch
from mindviz.extensions.sketched_unet import SketchedUNet
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.demo.telling import Heard, heard_digest
from training.stages.conditions import CaptionConditions

SMUDGE = 0.5
"""At most so much noise (of codes whose mean variance is 1) on the sketches that the U-Net learns from."""


class DemoConditions(CaptionConditions):
    """Captions or, every other time, what one of the subjects `heard` would have said; and a sketch of each clip.

    Raises
    ------
    MindvizError
        If subjects are heard but the video model has no sketch to take a layout token.
    """

    def __init__(self, unet: VideoUNet, corpus: LatentCorpus, heard: Sequence[Heard] = ()) -> None:
        super().__init__(corpus)
        self.heard = tuple(heard)
        # a copy that stays on the CPU, where batches are drawn
        self.bases = copy.deepcopy(unet.sketch) if isinstance(unet, SketchedUNet) else None
        if self.heard and self.bases is None:
            raise MindvizError("clips can be told to a video model with a sketch only, found one without")

    def tokens(self, starts: Tensor, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens = self.corpus.tokens_of(starts)
        subject = int(torch.randint(2 * len(self.heard), (), generator=generator)) if self.heard else 0
        if subject >= len(self.heard):  # always, without any
            return tokens, self.corpus.empty_tokens
        assert self.bases is not None
        wanted = torch.cat([tokens, self.bases.layout(clips)[:, None]], 1)
        return self.heard[subject].teller(wanted, generator), self.heard[subject].negative

    def inputs(self, clips: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {} if self.bases is None else {"sketch": smudged(self.bases, clips, generator)}

    def description(self) -> dict[str, Any]:
        return {"heard": heard_digest(self.heard)} if self.heard else {}


@torch.no_grad()
def smudged(sketch: Sketch, clips: Tensor, generator: torch.Generator) -> Tensor:
    """Sketches (B, channels, F, h, w) of clips' own latents (B, C, F, h, w), so imperfect as drawn ones will be.

    The conditioning augmentation of cascades (Ho et al. 2022, section 4).
    """
    codes = sketch.codes(clips)
    level = SMUDGE * torch.rand(len(codes), 1, generator=generator)
    return sketch.clip(codes + level * torch.randn(codes.shape, generator=generator))
