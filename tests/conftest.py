"""A tiny dataset and a tiny checkpoint, of the real classes, written with the real writers; weights are random."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

# Before torch is imported: two cores are shared by the app under test, the browser, and pytest or its workers. A worker
# inherits what the process that started it set here, so it sets its own: two threads of each wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest

SUBJECTS = ("1", "2")
NUM_SCANS, NUM_VOXELS, FRAMES = 12, 320, 6


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """A file's tests stay on one worker; those that drive the app all on the same, so that one app serves them."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "the app" if "ui/test_app" in file else file

    return Files(config, log)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated dataset folder: two subjects, one test run of 12 scans of 320 voxels, a film of 24 s in six shots."""
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "dataset")


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_dataset: Path) -> Path:
    """A checkpoint folder that fits `tiny_dataset` and lies where the app looks for it: ``checkpoint/`` inside."""
    return write_tiny_checkpoint(tiny_dataset / "checkpoint", tiny_dataset)


@pytest.fixture
def workspace(tiny_dataset: Path, tiny_checkpoint: Path):
    """The two opened."""
    from mindviz import session

    return session.open(tiny_dataset, tiny_checkpoint)


def tiny_film() -> np.ndarray:
    """72 frames of 64 x 64: six shots of a square of one colour that crosses a background of another."""
    rng = np.random.default_rng(5)
    frames = np.empty((NUM_SCANS * FRAMES, 64, 64, 3), dtype=np.uint8)
    for shot, colours in enumerate(rng.integers(0, 256, size=(6, 2, 3), dtype=np.uint8)):
        for i in range(FRAMES * 2):
            frame = frames[shot * FRAMES * 2 + i]
            frame[:] = colours[0]
            frame[20:44, 3 * i : 3 * i + 24] = colours[1]
    return frames


def write_tiny_dataset(folder: Path) -> Path:
    from mindviz.storage import save_arrays, write_json
    from mindviz.types import VideoClip
    from mindviz.video import write_mp4

    rng = np.random.default_rng(0)
    (folder / "stimuli").mkdir(parents=True)
    film = write_mp4(folder / "stimuli" / "test1.mp4", VideoClip(tiny_film(), 3.0), lossless=True)
    shots = [
        {"start": 12 * i, "stop": 12 * i + 12, "object": f"square {i}", "category": "things", "setting": "plain"}
        for i in range(6)
    ]
    captions = [f"square {i // 12} moves <right>" for i in range(NUM_SCANS * FRAMES)]
    write_json(folder / "stimuli" / "test1.json", {"captions": captions, "shots": shots})
    for subject in SUBJECTS:
        (folder / f"subject{subject}").mkdir()
        vertices = np.sort(rng.choice(59412, NUM_VOXELS, replace=False)).astype(np.int32)
        bold = rng.standard_normal((NUM_SCANS, NUM_VOXELS)).astype(np.float16)
        save_arrays(folder / f"subject{subject}" / "test1.safetensors", {"bold": bold, "vertices": vertices})
    content = {
        "format": 1,
        "name": "tiny",
        "simulated": True,
        "mesh": "fsLR-32k",
        "tr": 2.0,
        "window": {"size": 2, "lag": 2},
        "fps": 3,
        "subjects": {subject: {"train": [], "test": ["test1"]} for subject in SUBJECTS},
        "stimuli": {"test1": {"frames": len(captions), "sha256": hashlib.sha256(film.read_bytes()).hexdigest()}},
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_tiny_checkpoint(folder: Path, dataset_folder: Path) -> Path:
    import torch
    from support import tiny

    from mindviz.checkpoint.folder import CheckpointInfo, write_checkpoint
    from mindviz.checkpoint.subject import SubjectData
    from mindviz.data import Dataset
    from mindviz.diffusion import LatentCodec, VideoUNet
    from mindviz.encoder import EncoderConfig, FMRIEncoder
    from mindviz.types import SamplingSettings

    torch.manual_seed(0)
    dataset = Dataset.open(dataset_folder)
    unet = VideoUNet(replace(tiny.UNET, cross_attention_dim=32))
    codec = LatentCodec.from_config(tiny.VAE)
    config = EncoderConfig(NUM_VOXELS, embed_dim=32, depth=2, num_heads=4, num_tokens=8, token_dim=32)
    zeros, ones = np.zeros(NUM_VOXELS, np.float32), np.ones(NUM_VOXELS, np.float32)
    told = np.random.default_rng(0).random((2, NUM_VOXELS)).astype(np.float32)  # of the first subject alone
    data = {
        subject: SubjectData(
            zeros,
            ones,
            np.zeros((2, NUM_VOXELS), np.float32),
            dataset.run(subject, "test1").vertices,
            told if subject == SUBJECTS[0] else None,
        )
        for subject in SUBJECTS
    }
    info = CheckpointInfo(
        name="tiny model",
        image_size=64,
        sampling=asdict(SamplingSettings(num_inference_steps=4, guidance_scale=2.0)),
        simulated=True,
        dataset=dataset.fingerprint,
        mesh="fsLR-32k",
        subjects=SUBJECTS,
    )
    schedule = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "clip_sample": False}
    encoders = {subject: FMRIEncoder(config) for subject in SUBJECTS}
    write_checkpoint(folder, info, unet, codec, schedule, encoders, data)
    return folder
