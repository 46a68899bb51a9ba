"""A checkpoint folder: its description, and how it is written; `mindviz.decoder` reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from mindviz.checkpoint.subject import SINGLE, SubjectData, write_data, write_encoder
from mindviz.diffusion import LatentCodec, UNetConfig, VideoUNet
from mindviz.diffusion.clip import ClipConfig, ClipModel
from mindviz.encoder import FMRIEncoder
from mindviz.extensions.naming import Namer, NamerConfig, read_captions, write_captions
from mindviz.extensions.sketch import SketchConfig
from mindviz.extensions.sketched_unet import SketchedUNetConfig
from mindviz.storage import (
    CONFIG_FILE,
    atomic_folder,
    config_from_dict,
    load_module,
    read_config,
    read_json,
    save_module,
    write_json,
)
from mindviz.types import MindvizError

CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class CheckpointInfo:
    """``CKPT/config.json``.

    `subjects` is empty for a single-subject checkpoint (an imported one), whose encoder lies in ``CKPT/fmri_encoder``.
    `dataset` is the fingerprint of the training dataset, `mesh` the mesh of its vertices, `lag` that of its windows
    (None: not known), `sampling` the default `SamplingSettings`, `image_size` the side of a decoded frame in pixels.
    """

    name: str
    image_size: int
    sampling: dict[str, Any]
    stage: str = "full"
    simulated: bool = False
    dataset: str = ""
    mesh: str = ""
    lag: int | None = None
    fps: float = 3.0
    subjects: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    format: int = CHECKPOINT_FORMAT


def read_info(folder: Path) -> CheckpointInfo:
    """``CKPT/config.json``, of a format we know."""
    path = folder / CONFIG_FILE
    info = config_from_dict(CheckpointInfo, read_json(path), path)
    if info.format != CHECKPOINT_FORMAT:
        raise MindvizError(f"{path}: expected format {CHECKPOINT_FORMAT}, found {info.format}")
    return info


def read_clip(folder: Path) -> ClipModel | None:
    """The CLIP of a checkpoint, if it carries one."""
    home = folder / "clip"
    if not home.is_dir():
        return None
    model = ClipModel(read_config(home, ClipConfig))
    load_module(home, model)
    return model.eval()


def read_unet_config(home: Path) -> UNetConfig:
    """The configuration of the video model in a folder: the paper's, or with the key of a sketch."""
    extended = "sketch" in read_json(home / CONFIG_FILE)
    return read_config(home, SketchedUNetConfig if extended else UNetConfig)


def read_namer(folder: Path, sketch: SketchConfig | None) -> tuple[Namer, tuple[str, ...]] | None:
    """What a checkpoint names drawings with (`mindviz.extensions.naming`) and the captions it chooses from, if it does.

    Raises
    ------
    MindvizError
        A namer without a sketch of its sizes, or without a CLIP that can read the captions.
    """
    home = folder / "namer"
    if not home.is_dir():
        return None
    namer, captions = Namer(read_config(home, NamerConfig)), read_captions(home)
    load_module(home, namer)
    found = None if sketch is None else (sketch.codes, sketch.rank)
    if found != (namer.config.codes, namer.config.rank):
        expected = f"a sketch of {namer.config.codes} codes and {namer.config.rank} words' components"
        raise MindvizError(f"{home}: expected {expected}, found {found or 'no sketch'}")
    if not (folder / "clip").is_dir():
        raise MindvizError(f"{home}: expected a CLIP to read the captions with ({folder / 'clip'}), found none")
    return namer.eval(), captions


def write_checkpoint(
    folder: Path | str,
    info: CheckpointInfo,
    unet: VideoUNet,
    codec: LatentCodec,
    schedule: Mapping[str, Any],
    encoders: Mapping[str, FMRIEncoder],
    data: Mapping[str, SubjectData] | None = None,
    stages: Mapping[tuple[str, str], FMRIEncoder] | None = None,
    clip: nn.Module | None = None,
    naming: tuple[Namer, Sequence[Sequence[str]]] | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint folder that `Decoder.load` reads; all or nothing, replacing an older one.

    `schedule` is a scheduler's configuration with ``_class_name``; `encoders` and `data` go by subject as in `info` (a
    single-subject checkpoint: one encoder, under `SINGLE`, and no data), `stages` by (subject, stage); `clip` is a
    module whose ``config`` is a dataclass; `naming` is a namer and the phrases whose combinations are its captions;
    `half` stores weights as fp16.
    """
    data = data or {}
    if set(encoders) != set(info.subjects or (SINGLE,)) or set(data) != set(info.subjects):
        found = f"found {sorted(encoders)} and {sorted(data)}"
        raise MindvizError(f"{folder}: expected an encoder and data for each of {list(info.subjects)}, {found}")
    with atomic_folder(folder) as target:
        write_json(target / CONFIG_FILE, asdict(info))
        save_module(target / "unet", unet, unet.config, half)
        save_module(target / "vae", codec.vae, codec.config, half)
        (target / "scheduler").mkdir()
        write_json(target / "scheduler" / CONFIG_FILE, schedule)
        every = {(subject, "full"): encoder for subject, encoder in encoders.items()} | dict(stages or {})
        for (subject, stage), encoder in every.items():
            write_encoder(target, subject, encoder, stage, half)
        for subject, statistics in data.items():
            write_data(target, subject, statistics, encoders[subject].config)
        if clip is not None:
            save_module(target / "clip", clip, clip.config, half)
        if naming is not None:
            save_module(target / "namer", naming[0], naming[0].config, half)
            write_captions(target / "namer", naming[1])
