"""A subject's training scans in memory: normalised windows, and the film frames that each of them saw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from mindviz.checkpoint.subject import SubjectData
from mindviz.data import Dataset
from mindviz.encoder.patching import Patching
from mindviz.types import MindvizError

NEVER_CONSTANT = 1e-3


@dataclass(frozen=True)
class TrainingScans:
    """All training windows of one subject.

    Attributes
    ----------
    windows : Tensor (N, T, V), normalised with `data`
    first_frame : Tensor (N,): where in the training films (one after the other) each window's clip begins
    data : SubjectData, the statistics that travel with the encoder
    """

    subject: str
    windows: Tensor
    first_frame: Tensor
    clip_frames: int
    data: SubjectData

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every window."""
        return sha256(np.ascontiguousarray(self.windows.numpy()).data).hexdigest()


def load_scans(dataset: Dataset, subject: str, runs: tuple[str, ...] | None = None) -> TrainingScans:
    """Read the training runs of a subject; windows that the end of a run cuts short are left out.

    Raises
    ------
    MindvizError
        A run and its film do not have the same number of clips, or two runs not the same voxels.
    """
    runs = runs or dataset.runs(subject, "train")
    parts, first, offset, vertices = [], [], 0, None
    for name in runs:
        run, film = dataset.run(subject, name), dataset.film(name)
        clips = len(film.frames) // dataset.clip_frames
        if clips != len(run.bold):
            raise MindvizError(
                f"run {name} of subject {subject}: expected as many volumes as its film has clips ({clips}), "
                f"found {len(run.bold)}"
            )
        if vertices is not None and not np.array_equal(vertices, run.vertices):
            raise MindvizError(f"run {name} of subject {subject}: expected the voxels of run {runs[0]}, found others")
        vertices = run.vertices
        whole = [i for i in range(clips) if not dataset.window_spec.clamped(i, clips)]
        parts.append(dataset.windows(subject, name)[whole])
        first.append(offset + np.array(whole) * dataset.clip_frames)
        offset += len(film.frames)
    assert vertices is not None
    windows = np.concatenate(parts)
    mean, std = windows.mean((0, 1)), windows.std((0, 1))
    if (std < NEVER_CONSTANT).any():
        count = int((std < NEVER_CONSTANT).sum())
        raise MindvizError(f"subject {subject}: expected voxels that vary over training, found {count} constant ones")
    windows = (windows - mean) / std
    data = SubjectData(mean, std, windows.mean(0), vertices)
    return TrainingScans(
        subject, torch.from_numpy(windows), torch.from_numpy(np.concatenate(first)), dataset.clip_frames, data
    )


def augment(windows: Tensor, patching: Patching, drop: float, noise: float, generator: torch.Generator) -> Tensor:
    """Silence whole patches and add noise: (B, T, V) -> (B, T, V).

    A fraction `drop` of the patches (the same ones in all scans of a window) becomes the training mean, 0, and what is
    left is scaled up so that a linear read-out keeps its mean; white noise of deviation `noise` is added to every
    voxel.
    """
    patch = torch.from_numpy(patching.of_voxels())
    kept = (torch.rand(len(windows), patching.num_patches, generator=generator) >= drop).float() / (1 - drop)
    kept = torch.where(patch >= 0, kept[:, patch.clamp_min(0)], 1.0)[:, None]
    return windows * kept + noise * torch.randn(windows.shape, generator=generator)
