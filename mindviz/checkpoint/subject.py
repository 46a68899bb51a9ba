"""One subject's part of a checkpoint folder: its encoder, those of earlier stages, the training set's statistics."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.extensions.questions import QuestionConfig, QuestionEncoder, make_encoder
from mindviz.storage import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    empty,
    load_arrays,
    load_module,
    read_config,
    read_json,
    require_file,
    save_arrays,
    save_module,
)
from mindviz.types import MindvizError

SINGLE = ""
"""The name under which the only encoder of a single-subject checkpoint is known: it serves every subject."""


@dataclass(frozen=True)
class SubjectData:
    """What belongs to one subject's encoder: the training set's statistics.

    Attributes
    ----------
    mean, std : ndarray, shape (V,), float32; the normaliser.
    negative : ndarray, shape (T, V), float32; the mean normalised training window, for guidance.
    vertices : ndarray, shape (V,), int64; the cortical vertex of each voxel.
    explained : ndarray, shape (T, V), float32, or None where it was not computed; the share (0..1) of each voxel's
        variance over the training windows that the encoder's tokens explain
        (`mindviz.attribution.patterns.activation_patterns`).
    """

    mean: np.ndarray
    std: np.ndarray
    negative: np.ndarray
    vertices: np.ndarray
    explained: np.ndarray | None = None

    def check(self, config: EncoderConfig, source: Path | str) -> SubjectData:
        """Itself, if it fits the encoder."""
        voxels = (config.num_voxels,)
        shapes = {"mean": voxels, "std": voxels, "negative": (config.window_size, *voxels), "vertices": voxels}
        if self.explained is not None:
            shapes["explained"] = shapes["negative"]
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise MindvizError(f"{source}: expected {name} of shape {shape}, found {array.shape}")
            if not np.isfinite(array).all():
                raise MindvizError(f"{source}: expected finite values in {name}, found NaN or infinity")
        if (self.std <= 0).any():
            raise MindvizError(f"{source}: expected a std above 0, found {int((self.std <= 0).sum())} that are not")
        return self

    def normalise(self, bold: np.ndarray, run_std: np.ndarray | None = None) -> np.ndarray:
        """Scans (T, V), z-scored by run and averaged over repeats, at the scale of training.

        The training mean is taken off. The scale is `run_std` (V,), that of the scans' own run; the training set's
        where it is not known. That would be too large for a test run: the mean of ten repeats (Wen et al. 2018) varies
        less than the mean of two, so every response in it would look weaker than it was.
        """
        scale = self.std if run_std is None else run_std
        positive = np.isfinite(scale) & (scale > 0)
        if scale.shape != self.std.shape or not positive.all():
            found = f"shape {scale.shape}, {int((~positive).sum())} of them not positive"
            raise MindvizError(f"a window's run: expected positive deviations of {len(self.std)} voxels, found {found}")
        return (bold - self.mean) / scale


def check_vertices(vertices: np.ndarray, config: EncoderConfig, data: SubjectData | None, where: str) -> None:
    """Refuse scans whose vertices (V,) are not those of training, in their order; `data` None: their count alone."""
    if len(vertices) != config.num_voxels:
        raise MindvizError(f"{where}: expected {config.num_voxels} voxels, found {len(vertices)}")
    if data is not None and not np.array_equal(vertices, data.vertices):
        other = int((vertices != data.vertices).sum())
        raise MindvizError(f"{where}: expected the checkpoint's vertices in their order, found {other} that differ")


def encoder_folder(folder: Path, subject: str, stage: str = "full") -> Path:
    """Where an encoder lies in a checkpoint folder."""
    home = folder / f"subject{subject}" if subject else folder
    return home / "fmri_encoder" if stage == "full" else home / "stages" / stage


def data_file(folder: Path, subject: str) -> Path:
    """Where a subject's statistics lie in a checkpoint folder."""
    return folder / f"subject{subject}" / "data.safetensors"


def require_subject(folder: Path, subject: str) -> None:
    """Refuse a checkpoint folder that lacks a file of a subject."""
    require_file(encoder_folder(folder, subject) / CONFIG_FILE, "an encoder's configuration")
    require_file(encoder_folder(folder, subject) / WEIGHTS_FILE, "an encoder's weights")
    if subject:
        require_file(data_file(folder, subject), "an encoder's normaliser")


def read_encoder_config(home: Path) -> EncoderConfig:
    """The configuration of the encoder in a folder: the paper's, or with questions."""
    extended = "questions" in read_json(home / CONFIG_FILE)
    return read_config(home, QuestionConfig if extended else EncoderConfig)


def read_encoder(folder: Path, subject: str, stage: str = "full") -> FMRIEncoder:
    """A subject's encoder; ``"untrained"`` is one with random weights (seed 0)."""
    if stage == "untrained":
        config = read_encoder_config(encoder_folder(folder, subject))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = make_encoder(config)
            if isinstance(encoder, QuestionEncoder):
                encoder.readout.scramble()
            return encoder
    home = encoder_folder(folder, subject, stage)
    config = read_encoder_config(home)
    encoder = empty(lambda: make_encoder(config))
    load_module(home, encoder)
    return encoder


def write_encoder(folder: Path, subject: str, encoder: FMRIEncoder, stage: str = "full", half: bool = False) -> None:
    """Write what `read_encoder` reads."""
    save_module(encoder_folder(folder, subject, stage), encoder, encoder.config, half)


def read_data(folder: Path, subject: str, config: EncoderConfig) -> SubjectData:
    """A subject's statistics, checked against its encoder."""
    path = data_file(folder, subject)
    arrays = load_arrays(path)
    if set(arrays) - {"explained"} != set(SubjectData.__dataclass_fields__) - {"explained"}:
        raise MindvizError(f"{path}: expected mean, std, negative and vertices, found {', '.join(sorted(arrays))}")
    floats = {name: array.astype(np.float32) for name, array in arrays.items() if name != "vertices"}
    return SubjectData(**floats, vertices=arrays["vertices"].astype(np.int64)).check(config, path)


def write_data(folder: Path, subject: str, data: SubjectData, config: EncoderConfig) -> None:
    """Write what `read_data` reads, after the same checks."""
    path = data_file(folder, subject)
    arrays = {name: array for name, array in dataclasses.asdict(data.check(config, path)).items() if array is not None}
    save_arrays(path, arrays | {"vertices": data.vertices.astype(np.int32)})
