"""Train the small CLIP on frames and captions of the training films (Radford et al. 2021)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.diffusion.clip import ClipConfig, ClipModel
from training.data.corpus import Corpus
from training.engine.processes import WHOLE_BATCH, gathered, local


def shared_caption_loss(image: Tensor, text: Tensor, scale: Tensor, label: Tensor) -> Tensor:
    """Symmetric cross-entropy in which every pair with the same caption counts as a match.

    Captions repeat in a batch (a shot has up to 24 frames): the plain InfoNCE would push a frame from its own caption.
    """
    logits = scale * image @ text.T
    same = (label[:, None] == label[None, :]).float()
    target = same / same.sum(1, keepdim=True)
    return 0.5 * (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target))


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

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        pixels = self.corpus.pixels(indices.numpy())
        offset = torch.randint(-self.shift, self.shift + 1, (2,), generator=generator).tolist()
        pixels = torch.roll(pixels, offset, dims=(2, 3))
        label = self.label[indices]
        pixels, ids, label = local(model, rows, pixels, self.ids[label], label)
        image, text, scale = model(pixels, ids)
        image, text, label = gathered(image), gathered(text), gathered(label)
        loss = shared_caption_loss(image, text, scale, label)
        hit = (label[(image @ text.T).argmax(1)] == label).float().mean()
        return loss, {"accuracy": hit.item(), "scale": scale.item()}
