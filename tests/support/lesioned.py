"""A tiny checkpoint with what lesions can be checked by: a patch that is not heard, and a CLIP that reads captions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from mindviz.checkpoint.subject import write_encoder
from mindviz.decoder import Decoder
from mindviz.diffusion.clip import ClipConfig, ClipModel
from mindviz.encoder import FMRIEncoder
from mindviz.storage import save_module

DEAF = 3
"""The patch of subject 1 whose voxels reach nothing."""
CLIP = ClipConfig(16, 64, 16, 16, 1, 8, context_length=8, text_width=32, text_layers=1, text_heads=2)


def write_lesioned(home: Path, dataset: Path, checkpoint: Path) -> Path:
    """The tiny dataset with such a checkpoint in it; subject 2 keeps its encoder."""
    shutil.copytree(dataset, home, ignore=shutil.ignore_patterns("checkpoint"))
    shutil.copytree(checkpoint, home / "checkpoint")
    config = replace(Decoder.load(checkpoint).encoder_config("1"), patch_embedding="per_patch")
    torch.manual_seed(3)
    encoder = FMRIEncoder(config)
    with torch.no_grad():
        encoder.patch_embed.weight[DEAF] = 0
    write_encoder(home / "checkpoint", "1", encoder)
    clip = ClipModel(CLIP)
    words = torch.nn.init.normal_(clip.clip.token_embedding.weight)  # else all captions say nearly the same
    assert words.std() > 0.5
    save_module(home / "checkpoint" / "clip", clip, CLIP)
    return home
