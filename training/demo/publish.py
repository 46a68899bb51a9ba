"""What `assets/demo` ships: the checkpoint in half precision, and the test scans with their film."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindviz import __version__
from mindviz.attribution.patterns import activation_patterns
from mindviz.checkpoint.folder import CheckpointInfo, write_checkpoint
from mindviz.data import Dataset
from mindviz.diffusion import LatentCodec, VideoUNet
from mindviz.diffusion.clip import ClipModel
from mindviz.encoder import FMRIEncoder
from mindviz.extensions.naming import Namer, combined
from mindviz.extensions.questions import QuestionEncoder
from mindviz.storage import atomic_folder, read_json, save_module, write_json
from mindviz.types import SamplingSettings
from training.data.scans import TrainingScans
from training.demo.judge import Judge


def publish_data(dataset: Dataset, target: Path) -> Path:
    """Copy the test runs, their films and the planted truth of a prepared dataset; its training runs stay behind."""
    content = read_json(dataset.folder / "dataset.json")
    films = sorted({run for s in dataset.subjects for run in dataset.runs(s, "test")})
    content["stimuli"] = {name: content["stimuli"][name] for name in films}
    for splits in content["subjects"].values():
        splits["train"] = []
    with atomic_folder(target) as aside:
        (aside / "stimuli").mkdir()
        for name in films:
            for suffix in (".mp4", ".json"):
                shutil.copyfile(dataset.folder / "stimuli" / f"{name}{suffix}", aside / "stimuli" / f"{name}{suffix}")
        for subject in dataset.subjects:
            home = f"subject{subject}"
            (aside / home).mkdir()
            names = [f"{run}.safetensors" for run in dataset.runs(subject, "test")]
            for name in [*names, "volume.safetensors", "truth.safetensors", "truth.json"]:
                if (dataset.folder / home / name).exists():
                    shutil.copyfile(dataset.folder / home / name, aside / home / name)
        write_json(aside / "dataset.json", content)
    return target


def without_attention(encoder: QuestionEncoder) -> QuestionEncoder:
    """A copy that asks all areas alike."""
    twin = copy.deepcopy(encoder)
    with torch.no_grad():
        twin.readout.queries.zero_()
    return twin


@torch.inference_mode()
def attention_choice(encoder: QuestionEncoder, windows: Tensor) -> float:
    """How much it matters where a read-out's attention looks, 0 and up.

    All that such an encoder says passes through that attention; this is the share of the variance of its tokens over
    `windows` (N, T, V) that changes when the attention is made uniform (a lesion of the choice, not of the path).
    """
    chosen = encoder(windows)
    uniform = without_attention(encoder)(windows)
    return float((chosen - uniform).square().sum() / (chosen - chosen.mean(0)).square().sum())


def test_windows(dataset: Dataset, scans: TrainingScans) -> Tensor:
    """All test windows (N, T, V) of a subject, normalised as `Decoder.normalise` does."""
    subject = scans.subject
    runs = [
        (dataset.windows(subject, run) - scans.data.mean) / dataset.run(subject, run).run_std
        for run in dataset.runs(subject, "test")
    ]
    return torch.from_numpy(np.concatenate(runs)).float()


@torch.inference_mode()
def explained(encoder: FMRIEncoder, scans: TrainingScans) -> np.ndarray:
    """What the encoder's tokens explain of each voxel (T, V), over the training windows.

    The encoder was trained on these, so the shares are too high for other scans: they tell voxels apart, no more.
    """
    said = torch.cat([encoder.eval()(some) for some in scans.windows.float().split(256)])
    found: np.ndarray = activation_patterns(scans.windows, said).explained
    return found


def scaled_codec(codec: LatentCodec, scale: float) -> LatentCodec:
    """The codec with the factor that brings its latents to a standard deviation of 1."""
    twin = LatentCodec.from_config(dataclasses.replace(codec.config, scaling_factor=scale))
    twin.load_state_dict(codec.state_dict())
    return twin


def _clips(dataset: Dataset, run: str) -> int:
    return len(dataset.film(run).frames) // dataset.clip_frames


def publish_demo(
    target: Path,
    dataset: Dataset,
    encoders: Mapping[str, QuestionEncoder],
    earlier: Mapping[str, Mapping[str, FMRIEncoder]],
    scans: Mapping[str, TrainingScans],
    unet: VideoUNet,
    codec: LatentCodec,
    clip: ClipModel,
    judge: Judge,
    scheduler: dict[str, Any],
    latent_scale: float,
    sampling: SamplingSettings,
    naming: tuple[Namer, Sequence[Sequence[str]]],
) -> Path:
    """Write the dataset TARGET, in it TARGET/checkpoint and TARGET/judge; `earlier`: encoders by stage and subject."""
    choices = {s: round(attention_choice(e.eval(), test_windows(dataset, scans[s])), 4) for s, e in encoders.items()}
    info = CheckpointInfo(
        name=f"{dataset.name} model",
        image_size=dataset.film(dataset.runs(dataset.subjects[0], "test")[0]).frames.shape[1],
        sampling=dataclasses.asdict(sampling),
        simulated=dataset.simulated,
        dataset=dataset.fingerprint,
        mesh=dataset.mesh,
        lag=dataset.window_spec.lag,
        fps=dataset.info.fps,
        subjects=tuple(encoders),
        provenance={"made_by": "python -m training.demo", "mindviz": __version__, "attention_choice": choices},
    )
    stages = {(subject, stage): e for stage, group in earlier.items() for subject, e in group.items()}
    data = {s: dataclasses.replace(scan.data, explained=explained(encoders[s], scan)) for s, scan in scans.items()}
    words = {c for run in dataset.info.stimuli for i in range(_clips(dataset, run)) for c in dataset.captions(run, i)}
    publish_data(dataset, target)
    save_module(target / "judge", judge, judge.config, half=True)
    write_checkpoint(
        target / "checkpoint",
        info,
        unet,
        scaled_codec(codec, latent_scale),
        scheduler,
        encoders,
        data,
        stages,
        clip.keeping(sorted(words | set(combined(naming[1])))),
        naming,
        half=True,
    )
    return target
