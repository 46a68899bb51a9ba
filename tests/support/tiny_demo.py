"""A demo folder at tiny size: scans in which the shots of a film are easy to find, and stages of a few steps."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from mindviz.data import Dataset
from mindviz.diffusion import VAEConfig
from mindviz.diffusion.clip import ClipConfig
from mindviz.encoder import MaskedConfig
from mindviz.extensions.naming import NamerConfig
from mindviz.extensions.questions import QuestionConfig
from mindviz.extensions.sketch import SketchConfig
from mindviz.simulate.films import caption_phrases
from mindviz.storage import load_arrays, save_arrays
from mindviz.types import VideoClip
from mindviz.video import write_mp4
from support import tiny
from training.demo.recipe import DEMO_PRETRAINED, PretrainedRecipe, StagesRecipe
from training.engine.loop import LoopConfig
from training.stages.contrast import ContrastConfig

LOOP = LoopConfig(steps=4, batch_size=6, lr=1e-3, warmup=2, save_every=2)
ENCODER = QuestionConfig(
    num_voxels=320,
    patch_size=32,
    embed_dim=8,
    depth=1,
    num_heads=2,
    num_tokens=7,
    token_dim=8,
    patch_embedding="per_patch",
    key_dim=4,
)
STAGES = StagesRecipe(
    encoder=ENCODER,
    mask_decoder=MaskedConfig(encoder=ENCODER, decoder_dim=8, decoder_depth=1, decoder_heads=2),
    mask_loop=LOOP,
    attend_loop=replace(LOOP, steps=40, lr=0.05),
    contrast=ContrastConfig(),
    contrast_loop=LOOP,
    inflate_loop=LOOP,
    sketch=SketchConfig(words=6, token_dim=8, rank=6, codes=8, channels=2, hidden=8, depth=1, shape=(4, 6, 16, 16)),
    sketch_loops=(LOOP,),
    namer=NamerConfig(codes=8, rank=6, hidden=8),
    name_loop=LOOP,
    sketched_loop=LOOP,
    painting_loops=(LOOP,),
    cotrain_loops=(LOOP,),
    finish_loops=(LOOP,),
)
FOUNDATION = PretrainedRecipe(
    codec=VAEConfig(block_out_channels=(48,), latent_channels=4, norm_num_groups=1, patch_size=4, scaling_factor=1.0),
    codec_loop=LOOP,
    codec_polish=LOOP,
    clip=ClipConfig(8, 64, 16, 8, 1, 4, 6, 8, 1, 2),
    clip_loop=LOOP,
    unet=tiny.UNET,
    scheduler=DEMO_PRETRAINED.scheduler,
    image_loop=LOOP,
    image_polish=LOOP,
)
REPEATS = 4


def write_demo(home: Path, tiny_dataset: Path) -> Path:
    """A demo folder: the tiny film for testing, its negative four times for training, scans that follow the shots."""
    data = home / "data"
    shutil.copytree(tiny_dataset, data, ignore=shutil.ignore_patterns("checkpoint"))
    film, notes = Dataset.open(data).film("test1"), json.loads((data / "stimuli" / "test1.json").read_text())
    shown = [" ".join(phrases) for phrases in zip(*caption_phrases(), strict=False)]
    notes["captions"] = [shown[i // 12] for i in range(72)]  # a clip has six frames, a shot two clips
    (data / "stimuli" / "test1.json").write_text(json.dumps(notes))
    frames = np.concatenate([255 - film.frames] * REPEATS)
    write_mp4(data / "stimuli" / "seg1.mp4", VideoClip(frames, film.fps), lossless=True)
    (data / "stimuli" / "seg1.json").write_text(json.dumps({"captions": notes["captions"] * REPEATS, "shots": []}))
    content = json.loads((data / "dataset.json").read_text())
    content["stimuli"]["seg1"] = {"frames": len(frames)}
    rng = np.random.default_rng(1)
    for subject, splits in content["subjects"].items():
        splits["train"] = ["seg1"]
        patterns, folder = rng.standard_normal((7, 320)), data / f"subject{subject}"
        vertices = load_arrays(folder / "test1.safetensors")["vertices"]
        for run, repeats in (("seg1", REPEATS), ("test1", 1)):
            shot = np.concatenate([[6, 6], np.tile(np.arange(12) // 2, repeats)])[: 12 * repeats]  # lag 2
            bold = patterns[shot] + 0.3 * rng.standard_normal((len(shot), 320))
            save_arrays(folder / f"{run}.safetensors", {"bold": bold.astype(np.float16), "vertices": vertices})
    (data / "dataset.json").write_text(json.dumps(content))
    return home
