"""Stage 3's sketch: a small diffusion model of whole clips, given a caption or what a brain said (`mindviz.diffusion`).

Its two bases are principal components, in closed form; the network between them learns to denoise, first from captions,
then from the encoders' tokens of training windows too (those of codes that were fitted without them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.extensions.sketch import Sketch, SketchConfig
from training.data.latents import LatentCorpus
from training.demo.telling import Heard, heard_digest
from training.engine.batch import Batch
from training.stages.denoising import drop_condition

SAMPLED_CLIPS = 6000
"""From so many clips come the principal components of all."""
WINDOWS = 4
"""A batch holds one window of scans for so many captions: there are few windows, and they come round soon enough."""
SMALLEST_SCALE = 0.01
"""Of the largest: a direction of the captions that hardly varies is not blown up further."""


def begin_sketch(config: SketchConfig, corpus: LatentCorpus, seed: int = 0) -> Sketch:
    """A sketch with the bases of a corpus and an untrained network."""
    torch.manual_seed(seed)
    sketch = Sketch(config)
    words = corpus.tokens.flatten(1)
    mean = words.mean(0)
    _, _, directions = torch.linalg.svd(words - mean, full_matrices=False)
    sketch.word_mean.copy_(mean)
    known = directions[: config.rank]
    sketch.word_directions[: len(known)] = known
    spread = ((words - mean) @ known.T).std(0)
    sketch.word_scale[: len(known)] = spread.clamp_min(SMALLEST_SCALE * spread.max())
    chosen = corpus.clip_starts[torch.randperm(len(corpus.clip_starts))[:SAMPLED_CLIPS]]
    clips = corpus.clips(chosen)[:, : config.channels].flatten(1)
    sketch.clip_mean.copy_(clips.mean(0))
    rank = min(config.codes, *clips.shape)
    _, values, found = torch.svd_lowrank(clips - sketch.clip_mean, rank, niter=3)
    sketch.clip_directions[:rank] = found.T
    spread = values / len(clips) ** 0.5
    scale = spread**0.5  # half white: coarse codes stay the larger ones
    sketch.clip_scale[:rank] = scale * (spread / scale).square().mean().sqrt()  # and their mean variance is 1
    return sketch


class SketchTask:
    """Squared error of the clean codes, at noise of every angle.

    `heard` holds what is known of each subject. With it, every batch of captions is joined by a smaller one of
    windows of one of them, and by the same clips as that subject would have told them. A fraction `dropout` of tokens
    becomes the negative: the empty caption, or the mean scan.
    """

    name = "sketch"

    def __init__(
        self,
        sketch: Sketch,
        corpus: LatentCorpus,
        heard: Sequence[Heard] = (),
        dropout: float = 0.1,
    ) -> None:
        self.module: nn.Module = sketch
        self.sketch, self.config, self.corpus, self.heard = sketch, sketch.config, corpus, tuple(heard)
        self.dropout = dropout
        self.clips = clip_codes(sketch, corpus, corpus.clip_starts)
        self.layouts = sketch.layout_of(self.clips)
        self.seen = [clip_codes(sketch, corpus, h.first_frame) for h in self.heard]

    def __len__(self) -> int:
        return len(self.corpus.clip_starts)

    def description(self) -> dict[str, Any]:
        return {
            "sketch": asdict(self.config),
            "options": {"dropout": self.dropout},
            "corpus": self.corpus.fingerprint,
            "heard": heard_digest(self.heard),
        }

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        tokens, empty = self.corpus.tokens_of(self.corpus.clip_starts[indices]), self.corpus.empty_tokens
        given = drop_condition(tokens, empty, self.dropout, generator)
        codes = self.clips[indices]
        samples = _noised("captions", given, codes, generator)
        if self.heard:
            subject = int(torch.randint(len(self.heard), (1,), generator=generator))
            heard = self.heard[subject]
            which = torch.randint(len(heard.tokens), indices.shape, generator=generator)
            said = drop_condition(heard.tokens[which], heard.negative, self.dropout, generator)
            samples |= _noised("windows", said, self.seen[subject][which], generator)
            wanted = torch.cat([tokens, self.layouts[indices][:, None]], 1)
            said = drop_condition(heard.teller(wanted, generator), heard.negative, self.dropout, generator)
            samples |= _noised("told", said, codes, generator)
        return Batch(samples)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        every = {"captions": 1, "windows": WINDOWS, "told": 1} if self.heard else {"captions": 1}
        errors = {}
        for kind, step in every.items():
            noisy, angle, tokens, codes = (batch[f"{kind}_{part}"][::step] for part in _PARTS)
            errors[kind] = (model(noisy, angle, tokens) - codes).square().mean()
        total = sum((e / every[k] for k, e in errors.items()), start=next(iter(errors.values())).new_zeros(()))
        return total / sum(1 / step for step in every.values()), {k: e.item() for k, e in errors.items()}


_PARTS = ("noisy", "angle", "tokens", "codes")


def _noised(kind: str, tokens: Tensor, codes: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Codes (B, codes) with noise of a random angle, and all that the loss on them needs."""
    angle = torch.rand(len(codes), generator=generator) * (torch.pi / 2)
    noise = torch.randn(codes.shape, generator=generator)
    noisy = angle.cos()[:, None] * codes + angle.sin()[:, None] * noise
    return {f"{kind}_{part}": t for part, t in zip(_PARTS, (noisy, angle, tokens, codes), strict=True)}


@torch.no_grad()
def clip_codes(sketch: Sketch, corpus: LatentCorpus, starts: Tensor) -> Tensor:
    """Codes (N, codes) of the clips that begin at `starts`."""
    return torch.cat([sketch.codes(corpus.clips(some)) for some in starts.split(1024)])
