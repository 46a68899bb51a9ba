"""A checkpoint in memory: its models, and each subject's encoder and statistics, read on first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mindviz import __version__
from mindviz.checkpoint.folder import CheckpointInfo, read_clip, read_info, read_namer, read_unet_config
from mindviz.checkpoint.subject import (
    SINGLE,
    SubjectData,
    check_vertices,
    encoder_folder,
    read_data,
    read_encoder,
    read_encoder_config,
    require_subject,
)
from mindviz.data import Dataset
from mindviz.diffusion import LatentCodec, VAEConfig, VideoUNet
from mindviz.diffusion.clip import encode_captions
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.extensions.naming import Namer
from mindviz.extensions.sketch import Naming
from mindviz.extensions.sketched_unet import make_unet, sketch_of
from mindviz.storage import CONFIG_FILE, config_from_dict, empty, load_module, read_config, read_json, require_folder
from mindviz.types import MindvizError, SamplingSettings


def check_device(device: str | torch.device) -> None:
    """Refuse, with `MindvizError`, a device that torch does not know or that is not on this machine."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # what builds of torch without CUDA raise
        reason = str(error).splitlines()[0]
        raise MindvizError(f"expected a device of this machine (cpu, cuda, mps), found {device}: {reason}") from error


class LoadedCheckpoint:
    """What a checkpoint folder holds. Make one with `load`."""

    def __init__(
        self,
        folder: Path,
        info: CheckpointInfo,
        unet: VideoUNet,
        codec: LatentCodec,
        schedule: Mapping[str, Any],
        device: str | torch.device = "cpu",
        namer: tuple[Namer, tuple[str, ...]] | None = None,
    ) -> None:
        self.folder, self.info, self.schedule = folder, info, dict(schedule)
        self.device = torch.device(device)
        self.unet, self.codec = unet.to(self.device).eval(), codec.to(self.device).eval()
        self.default_settings = config_from_dict(SamplingSettings, info.sampling, folder / CONFIG_FILE)
        self._namer = namer
        self._encoders: dict[tuple[str, str], FMRIEncoder] = {}
        self._configs: dict[str, EncoderConfig] = {}
        self._data: dict[str, SubjectData | None] = {}

    @classmethod
    def load(cls, folder: Path | str, device: str | torch.device = "cpu") -> Self:
        """Read a checkpoint folder; all that it promises must be there.

        Raises
        ------
        MindvizError
            Naming the file, what was expected and what was found; for a device that is not on this machine.
        """
        folder = require_folder(folder, "a checkpoint folder")
        check_device(device)
        info = read_info(folder)
        for subject in info.subjects or (SINGLE,):
            require_subject(folder, subject)
        unet_config, vae_config = read_unet_config(folder / "unet"), read_config(folder / "vae", VAEConfig)
        if unet_config.in_channels != vae_config.latent_channels:
            expected, found = vae_config.latent_channels, unet_config.in_channels
            raise MindvizError(f"{folder}: expected a U-Net of {expected} channels, as the VAE has, found {found}")
        namer = read_namer(folder, sketch_of(unet_config))
        unet, codec = empty(lambda: make_unet(unet_config)), empty(lambda: LatentCodec.from_config(vae_config))
        load_module(folder / "unet", unet)
        load_module(folder / "vae", codec.vae)
        return cls(folder, info, unet, codec, read_json(folder / "scheduler" / CONFIG_FILE), device, namer)

    def check_settings(self, settings: SamplingSettings) -> None:
        """Refuse settings that this checkpoint cannot follow."""
        if settings.name_sketch and self._namer is None:
            raise MindvizError(f"{self.folder}: settings.name_sketch is true: expected a namer, found none")

    @cached_property
    def naming(self) -> Naming:
        """The namer and the tokens of all captions that it chooses from, read when first asked for (seconds)."""
        clip = read_clip(self.folder)
        assert self._namer is not None and clip is not None  # `check_settings` and `read_namer` have seen to it
        namer, captions = self._namer
        return Naming(namer.to(self.device), encode_captions(clip, captions).clone().to(self.device))

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def simulated(self) -> bool:
        """Whether it was trained on simulated subjects."""
        return self.info.simulated

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects with an encoder of their own; empty if one encoder serves any (an imported checkpoint)."""
        return self.info.subjects

    @property
    def provenance(self) -> dict[str, Any]:
        """Where a decoded clip comes from."""
        facts = {"checkpoint": self.info.name, "stage": self.info.stage, "simulated": self.info.simulated}
        return facts | {"dataset": self.info.dataset, "mindviz": __version__, "torch": torch.__version__}

    def check(self, dataset: Dataset) -> None:
        """Refuse a dataset whose mesh, test runs' vertices (and their order) or windows are not those of training."""
        if self.info.mesh and dataset.mesh != self.info.mesh:
            raise MindvizError(f"{dataset.folder}: expected the mesh {self.info.mesh}, found {dataset.mesh}")
        shared = [subject for subject in dataset.subjects if subject in self.subjects or not self.subjects]
        if not shared:
            raise MindvizError(f"{dataset.folder}: expected subjects of {self.subjects}, found {dataset.subjects}")
        for subject in shared:
            config, data = self.encoder_config(subject), self.data(subject)
            spec, lag = dataset.window_spec, self.info.lag
            if spec.size != config.window_size or lag not in (None, spec.lag):
                expected = f"windows of {config.window_size} scans" + (f" with lag {lag}" if lag is not None else "")
                raise MindvizError(f"{dataset.folder}: expected {expected}, found {spec.size} with lag {spec.lag}")
            for run in dataset.runs(subject, "test"):
                where = f"{dataset.folder}: run {run} of subject {subject}"
                check_vertices(dataset.run(subject, run).vertices, config, data, where)

    def encoder_config(self, subject: str) -> EncoderConfig:
        """The configuration of a subject's encoder."""
        subject = self._known(subject)
        if subject not in self._configs:
            self._configs[subject] = read_encoder_config(encoder_folder(self.folder, subject))
        return self._configs[subject]

    def encoder(self, subject: str, stage: str = "full") -> FMRIEncoder:
        """A subject's encoder, read when first asked for; ``"untrained"`` has random weights (seed 0)."""
        key = (self._known(subject), "full" if stage == self.info.stage else stage)
        if key not in self._encoders:
            encoder = read_encoder(self.folder, *key)
            width, found = self.unet.config.cross_attention_dim, encoder.config.token_dim
            if found != width:
                raise MindvizError(f"{self.folder}: expected tokens of width {width} for the U-Net, found {found}")
            self._encoders[key] = encoder.to(self.device).eval()
        return self._encoders[key]

    def data(self, subject: str) -> SubjectData | None:
        """A subject's statistics; None for an imported checkpoint, which takes scans as its authors normalised them."""
        subject = self._known(subject)
        if subject == SINGLE:
            return None
        if subject not in self._data:
            self._data[subject] = read_data(self.folder, subject, self.encoder_config(subject))
        return self._data[subject]

    def vertices(self, subject: str) -> np.ndarray:
        """The cortical vertex of each voxel, int64 (V,)."""
        data = self.data(subject)
        if data is None:
            raise MindvizError(
                f"{self.folder}: expected stored vertices, found none: where its voxels lie is not known"
            )
        return data.vertices

    def _known(self, subject: str) -> str:
        if not self.subjects:
            return SINGLE
        if subject not in self.subjects:
            raise MindvizError(f"{self.folder}: expected a subject of {', '.join(self.subjects)}, found {subject!r}")
        return subject
