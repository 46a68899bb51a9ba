"""Teach a namer: from the codes of a clip to the codes of its caption (`mindviz.extensions.naming`).

It learns from the training films' clips alone; of brains it knows nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.extensions.naming import Namer, NamerConfig
from mindviz.extensions.sketch import Sketch
from training.data.latents import LatentCorpus
from training.demo.sketch import clip_codes
from training.engine.batch import Batch


class NameTask:
    """Squared error of the captions' codes, which count by their own variance.

    Drawings are less clean than clips: to each clip's codes white noise is added, of a deviation between 0 and `blur`.
    """

    name = "name"

    def __init__(
        self, config: NamerConfig, sketch: Sketch, corpus: LatentCorpus, blur: float = 0.1, seed: int = 0
    ) -> None:
        torch.manual_seed(seed)
        self.namer = Namer(config)
        self.module: nn.Module = self.namer
        self.config, self.corpus, self.blur = config, corpus, blur
        with torch.no_grad():
            self.clips = clip_codes(sketch, corpus, corpus.clip_starts)
            self.words = sketch.words(corpus.tokens)
        self.captions = corpus.caption_index[corpus.clip_starts]
        self.counts = sketch.word_scale.square() / sketch.word_scale.square().sum()

    def __len__(self) -> int:
        return len(self.clips)

    def description(self) -> dict[str, Any]:
        return {"namer": asdict(self.config), "blur": self.blur, "corpus": self.corpus.fingerprint}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        clips, words = self.clips[indices], self.words[self.captions[indices]]
        level = self.blur * torch.rand(len(clips), 1, generator=generator)
        seen = clips + level * torch.randn(clips.shape, generator=generator)
        return Batch({"seen": seen, "words": words}, {"counts": self.counts})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return ((model(batch["seen"]) - batch["words"]).square() * batch["counts"]).sum(1).mean(), {}
