"""Small sketches, latents, scans and read-outs, for the tests of the sketch and of telling."""

from __future__ import annotations

import numpy as np
import torch
from mindviz.extensions.readout import ReadOutConfig
from training.demo.ridge import RidgeFit, beside, caption_targets, fit_ridge

from mindviz.checkpoint.subject import SubjectData
from mindviz.extensions.sketch import SketchConfig
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.sketch import begin_sketch

SKETCH = SketchConfig(words=4, token_dim=8, rank=8, codes=12, channels=2, hidden=32, depth=2, shape=(4, 6, 8, 8))
ENCODER = ReadOutConfig(
    num_voxels=40,
    patch_size=8,
    embed_dim=8,
    depth=1,
    num_heads=2,
    num_tokens=5,
    token_dim=8,
    patch_embedding="per_patch",
    readout_rank=6,
    readout_hidden=8,
    readout_dropout=0.0,
    layout_rank=2,
    memory_heads=3,
    memory_slots=2,
    memory_sharpness=2.0,
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


def make_fit(scans: TrainingScans, latents: LatentCorpus) -> tuple[RidgeFit, torch.Tensor]:
    """Codes of captions and, beside them, of the layout; and what the tokens should be."""
    captions = caption_targets(scans, latents.tokens, latents.caption_index)
    layout = begin_sketch(SKETCH, latents).layout(latents.clips(scans.first_frame))[:, None]
    both = beside(fit_ridge(scans.windows, captions, 4), fit_ridge(scans.windows, layout, 2))
    return both, torch.cat([captions, layout], 1)
