"""Train the small CLIP on frames and captions of the training films (Radford et al. 2021)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.diffusion.clip import ClipConfig, ClipModel
from mindviz.encoder import info_nce
from training.data.corpus import Corpus
from training.engine.batch import Batch
from training.engine.processes import gathered


class ClipTask:
    """Frames against captions; the frame is shifted by up to `shift` pixels, so that nothing is known by its border."""

    name = "clip"

    def __init__(self, config: ClipConfig, corpus: Corpus, shift: int = 4) -> None:
        self.module = ClipModel(config)
        self.corpus = corpus
        self.shift = shift
        self.ids = self.module.token_ids(corpus.vocabulary)
        self.label = torch.from_numpy(corpus.caption_index)

    def __len__(self) -> int:
        return len(self.corpus.frames)

    def description(self) -> dict[str, Any]:
        return {"clip": asdict(self.module.config), "shift": self.shift, "corpus": self.corpus.fingerprint}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        pixels = self.corpus.pixels(indices.numpy())
        offset = torch.randint(-self.shift, self.shift + 1, (2,), generator=generator).tolist()
        label = self.label[indices]
        return Batch({"pixels": torch.roll(pixels, offset, dims=(2, 3)), "ids": self.ids[label], "label": label})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        image, text, scale = model(batch["pixels"], batch["ids"])
        image, text, label = gathered(image), gathered(text), gathered(batch["label"])
        hit = (label[(image @ text.T).argmax(1)] == label).float().mean()
        return info_nce(image, text, scale, label), {"accuracy": hit.item(), "scale": scale.item()}
