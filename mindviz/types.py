"""The nouns of mindviz: what flows through it, from a scan to a video and a cortex map.

Axis letters, used in every shape comment of the package:
``B`` batch, ``T`` scans in a window, ``V`` voxels (cortical vertices), ``P`` patches, ``S`` condition tokens,
``D`` width, ``F`` video frames, ``H W C`` pixels, ``L`` layers, ``A`` heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np


class MindvizError(ValueError):
    """Bad input, said in one sentence: the file, what was expected, what was found.

    The command line prints it and exits with status 2; the app shows it. Neither shows a traceback.
    """


@dataclass(frozen=True)
class ScanRun:
    """One run of one subject, cleaned (see `mindviz.data`).

    Attributes
    ----------
    bold : ndarray, shape (time, V), float32
        z-scored by run.
    vertices : ndarray, shape (V,), int64
        The index of each column among the cortical vertices of `mesh` (0..59411 for fsLR-32k, left hemisphere first).
    mesh : str
        ``"fsLR-32k"`` or ``"fsaverage5"``.
    tr : float
        Repetition time in seconds.
    """

    bold: np.ndarray
    vertices: np.ndarray
    mesh: str
    tr: float
    subject: str
    split: str
    name: str

    @cached_property
    def run_std(self) -> np.ndarray:
        """Standard deviation of each voxel over the run, float32 (V,)."""
        return self.bold.std(axis=0)


@dataclass(frozen=True)
class Window:
    """The scans that follow one clip: what the encoder sees.

    Attributes
    ----------
    bold : ndarray, shape (T, V), float32
        z-scored by run, then averaged over repeats; the checkpoint's normaliser is applied by the decoder, once.
    run_std : ndarray, shape (V,), or None
        Standard deviation over the whole run: the more repeats were averaged, the further below 1. None: not known.
    index : int
        Position in the run of the clip it decodes, in TR (the clip starts `index * tr` seconds into the film).
    clamped : bool
        True where the lag reaches past the end of the run and the last volume stands in.
    """

    bold: np.ndarray
    subject: str
    run: str
    index: int
    clamped: bool = False
    run_std: np.ndarray | None = None


@dataclass(frozen=True)
class VideoClip:
    """uint8 RGB frames, shape (F, H, W, 3), and their rate in frames a second."""

    frames: np.ndarray
    fps: float

    def __post_init__(self) -> None:
        f = self.frames
        if f.dtype != np.uint8 or f.ndim != 4 or f.shape[-1] != 3 or 0 in f.shape:
            raise MindvizError(f"a clip needs uint8 frames of shape (F, H, W, 3), found {f.dtype} {f.shape}")
        if not self.fps > 0:
            raise MindvizError(f"a clip needs a positive frame rate, found {self.fps}")


@dataclass(frozen=True)
class Segment:
    """A window, the clip the subject watched, and one caption per frame of it."""

    window: Window
    clip: VideoClip
    captions: tuple[str, ...] = ()


Array = TypeVar("Array")
"""ndarray, or the tensor of whatever computes with tensors."""


class LayerAttention(NamedTuple, Generic[Array]):
    """The softmax of one encoder layer, for one window or for a batch of B.

    Attributes
    ----------
    spatial : Array, shape (T, A, P, P), of a batch (B T, A, P, P); rows (last axis) sum to 1: query patch, key patch.
        A read-out has one query: (T, A, 1, P).
    temporal : Array or None, shape (P, A, T, T), of a batch (B P, A, T, T); None without attention over the window.
    """

    spatial: Array
    temporal: Array | None


@dataclass(frozen=True)
class Encoding:
    """Condition tokens, shape (S, D) float32, and the attention of each layer if it was asked for."""

    tokens: np.ndarray
    attention: tuple[LayerAttention[np.ndarray], ...] = ()


@dataclass(frozen=True)
class AttentionMap:
    """One value per voxel, shape (V,), and where it comes from.

    `layer` counts from 0; -1 is the mean over layers; `head` -1 the mean over heads. `stage` names the training stage
    of the encoder (``"mask"``, ``"contrast"``, ``"full"``, ``"untrained"``), `method` the attribution (``"received"``,
    …).
    """

    values: np.ndarray
    layer: int
    head: int
    stage: str
    method: str


@dataclass(frozen=True)
class SurfaceMap:
    """One value per vertex of each hemisphere's mesh; NaN off the voxels and on the medial wall.

    Where several vertices show one voxel of an image, `counted` tells the one that stands for it: bool, left
    hemisphere's vertices first; None where every vertex has a value of its own.
    """

    left: np.ndarray
    right: np.ndarray
    mesh: str
    label: str = ""
    counted: np.ndarray | None = None


@dataclass(frozen=True)
class SamplingSettings:
    """How a clip is generated (`diffusion.sampling`); `seed` fixes the initial latents.

    `guidance_scale` is s in ``e(negative) + s (e(fmri) - e(negative))``; `negative` is ``"training"`` (the mean of the
    training fMRI, stored in the checkpoint) or ``"given"`` (handed over by the caller, for reproduction).
    `shared_noise` is the share of the variance of the initial noise that all frames have in common
    (`diffusion.clip_noise`). `sketch_guidance` is s while the sketch is drawn (`diffusion.Sketch`), for a model with
    one; of `sketch_draws` sketches the most typical is painted; with `name_sketch` they are put into words and drawn
    again to what these agree on with the brain's (`diffusion.naming`). `sketch_fidelity`, from 0 to 1, is how far each
    step of the painting is led back to the sketch (`diffusion.steered`).
    """

    num_inference_steps: int = 15
    guidance_scale: float = 4.0
    seed: int = 0
    num_frames: int = 6
    negative: str = "training"
    shared_noise: float = 0.0
    sketch_guidance: float = 2.0
    sketch_draws: int = 1
    name_sketch: bool = False
    sketch_fidelity: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise MindvizError(f"seed must be from 0 to {2**32 - 1}, found {self.seed}")
        for name in ("shared_noise", "sketch_fidelity"):
            if not 0 <= getattr(self, name) <= 1:
                raise MindvizError(f"{name} must be from 0 to 1, found {getattr(self, name)}")
        if min(self.num_inference_steps, self.num_frames, self.sketch_draws) < 1:
            raise MindvizError(
                "num_inference_steps, num_frames and sketch_draws must be at least 1, "
                f"found {self.num_inference_steps}, {self.num_frames} and {self.sketch_draws}"
            )
        if not (np.isfinite(self.guidance_scale) and np.isfinite(self.sketch_guidance)):
            raise MindvizError(
                "guidance_scale and sketch_guidance must be finite numbers, "
                f"found {self.guidance_scale} and {self.sketch_guidance}"
            )
        if self.negative not in ("training", "given"):
            raise MindvizError(f"negative must be 'training' or 'given', found {self.negative!r}")


@dataclass(frozen=True)
class Decoded:
    """One decoded window. Every view re-renders it; none computes it again.

    `timings` holds seconds by step (``encode``, ``sketch`` where one is drawn, ``sample``, ``vae``); `provenance` the
    checkpoint, stage and versions.
    """

    clip: VideoClip
    window: Window
    encoding: Encoding
    settings: SamplingSettings
    timings: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
