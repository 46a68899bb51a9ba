"""Small sketches, latents, scans and read-outs, for the tests of the sketch, of questions and of telling."""

from __future__ import annotations

import numpy as np
import torch

from mindviz.checkpoint.subject import SubjectData
from mindviz.extensions.questions import QuestionConfig, QuestionEncoder
from mindviz.extensions.sketch import SketchConfig
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.readout import AreaFit, SharedConfig, SharedQuestions, fit_areas, fit_recall
from training.demo.sketch import begin_sketch

SKETCH = SketchConfig(words=4, token_dim=8, rank=8, codes=12, channels=2, hidden=32, depth=2, shape=(4, 6, 8, 8))
AREAS = (0,) * 4 + (1,) * 6 + (2,) * 8 + (3,) * 10 + (4,) * 10 + (-1,) * 2
ENCODER = QuestionConfig(
    num_voxels=40,
    patch_size=10,
    embed_dim=8,
    depth=1,
    num_heads=2,
    num_tokens=5,
    token_dim=8,
    patch_embedding="per_patch",
    areas=AREAS,
    area_names=("V1", "V2", "MT", "FFC", "PHA1"),
    questions=("what", "layout"),
    sizes=(4, 2),
    answers=(("cat", "dog", "cow", "hen"), ()),
    key_dim=4,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_latents() -> LatentCorpus:
    """Films of 40 random frames, a caption for each ten."""
    g = generator()
    return LatentCorpus(
        latents=torch.randn(160, 4, 8, 8, generator=g),
        caption_index=torch.arange(160) // 10,
        tokens=torch.randn(16, 4, 8, generator=g),
        empty_tokens=torch.zeros(4, 8),
        clip_starts=torch.tensor([s for c in range(16) for s in range(10 * c, 10 * c + 5)]),
        scale=1.0,
    )


def make_scans() -> TrainingScans:
    windows = torch.randn(24, 2, 40, generator=generator(1))
    data = SubjectData(np.zeros(40), np.ones(40), windows.mean(0).numpy(), np.arange(40))
    return TrainingScans("1", windows, torch.arange(24) * 6, 6, data)


def make_fit(scans: TrainingScans, latents: LatentCorpus) -> tuple[AreaFit, tuple[torch.Tensor, torch.Tensor]]:
    """The codes of what captions answer and of the layout; and what the answers stand for."""
    answers = torch.eye(4)[torch.arange(16) % 4]
    frames = scans.first_frame[:, None] + torch.arange(scans.clip_frames)
    layouts = begin_sketch(SKETCH, latents).layout(latents.clips(scans.first_frame))
    targets = torch.cat([answers[latents.caption_index[frames]].mean(1), layouts[:, :2]], 1)
    weight, bias = fit_recall(answers, latents.tokens)
    recall = torch.block_diag(weight, torch.eye(8)[:, :2]), torch.cat([bias, torch.zeros(8)])
    return fit_areas(scans.windows, targets, ENCODER.patching, ENCODER.sizes), recall


def make_encoder(scans: TrainingScans, latents: LatentCorpus) -> tuple[QuestionEncoder, AreaFit]:
    """An encoder that asks areas at random."""
    fit, recall = make_fit(scans, latents)
    torch.manual_seed(0)
    shared = SharedQuestions(SharedConfig.of([ENCODER]), recall)
    torch.nn.init.normal_(shared.areas)
    return shared.encoder(ENCODER, fit), fit
