"""Pixel agreement of decoded and true clips: SSIM in its two common definitions, and PSNR.

Clips are uint8 arrays of shape (N, F, H, W, 3).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from skimage.metrics import structural_similarity

from mindviz.types import MindvizError

SSIMWindow = Literal["uniform", "gaussian"]

_WINDOWS: dict[str, dict[str, Any]] = {
    # The published evaluation: scikit-image's default, a uniform 7 x 7 window with the sample covariance.
    "uniform": {"win_size": 7},
    # Wang et al. 2004 and most later papers: a Gaussian of sigma 1.5 truncated at 11 x 11, population covariance.
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}


def ssim(decoded: np.ndarray, truth: np.ndarray, window: SSIMWindow = "uniform") -> np.ndarray:
    """Structural similarity of each clip: the mean over its frames, colours and pixels, for data in 0..255.

    Parameters
    ----------
    decoded, truth : ndarray, shape (N, F, H, W, 3), uint8
    window : {"uniform", "gaussian"}
        ``"uniform"`` is what the published evaluation computes, ``"gaussian"`` the original definition.
        The two differ by a few hundredths: never compare one with the other.

    Returns
    -------
    ndarray, shape (N,), float64, -1..1
    """
    _check_clips(decoded, truth)
    if window not in _WINDOWS:
        raise MindvizError(f"the SSIM window must be 'uniform' or 'gaussian', found {window!r}")
    side = 7 if window == "uniform" else 11
    if min(decoded.shape[2:4]) < side:
        raise MindvizError(f"SSIM needs frames of at least {side} x {side} pixels, found {decoded.shape[2:4]}")
    options = {"channel_axis": -1, "data_range": 255, **_WINDOWS[window]}
    frames = (
        (structural_similarity(a, b, **options) for a, b in zip(x, y, strict=True))
        for x, y in zip(decoded, truth, strict=True)
    )
    return np.array([np.mean(list(clip)) for clip in frames])


def psnr(decoded: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each clip in dB, from the mean squared error over all its pixels.

    Infinite where the two are equal.

    Returns
    -------
    ndarray, shape (N,), float64
    """
    _check_clips(decoded, truth)
    # One clip at a time: the whole test film in float64 would need gigabytes.
    errors = np.array([np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(decoded, truth, strict=True)])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / errors)


def mean_clip(clips: np.ndarray) -> np.ndarray:
    """The mean training video, (F, H, W, 3) uint8: the baseline that SSIM and PSNR are compared with."""
    if clips.ndim != 5 or clips.dtype != np.uint8 or len(clips) == 0:
        raise MindvizError(f"clips must be uint8 of shape (N, F, H, W, 3), found {clips.dtype} {clips.shape}")
    return np.rint(clips.mean(axis=0, dtype=np.float64)).astype(np.uint8)


def grey_clip(num_frames: int, height: int, width: int) -> np.ndarray:
    """A clip that shows nothing: (F, H, W, 3) uint8 of mid grey."""
    return np.full((num_frames, height, width, 3), 128, dtype=np.uint8)


def _check_clips(decoded: np.ndarray, truth: np.ndarray) -> None:
    for clips in (decoded, truth):
        if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3 or 0 in clips.shape:
            raise MindvizError(f"clips must be uint8 of shape (N, F, H, W, 3), found {clips.dtype} {clips.shape}")
    if decoded.shape != truth.shape:
        raise MindvizError(f"decoded and true clips must have one shape, found {decoded.shape} and {truth.shape}")
