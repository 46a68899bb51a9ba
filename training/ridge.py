"""The linear path of the encoder, in closed form: ridge regression from windows to the tokens of the captions they saw.

It is fitted once and stays as it is. What it says of the scans that it was fitted on is far too good, so whatever
trains beside it (the transformer, the generator) sees what it says of each run when fitted on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from mindviz.checkpoint import load_tensors, save_tensors
from mindviz.encoder import FMRIEncoder
from mindviz.types import MindvizError
from training.scans import TrainingScans

PENALTIES = (1e3, 3e3, 1e4, 3e4, 1e5)
"""Candidates, for windows whose voxels have a standard deviation of 1."""


@dataclass(frozen=True)
class RidgeFit:
    """A fitted map and what it says of unseen runs.

    Attributes
    ----------
    into : Tensor (rank, T V); out : Tensor (S D, rank); bias : Tensor (S D,)
    unseen : Tensor (N, S, D): for each training window, the prediction of a map fitted without its fold of runs
    penalty : the candidate with the least squared error on unseen runs
    error, baseline : that error, and that of always saying the mean
    """

    into: Tensor
    out: Tensor
    bias: Tensor
    unseen: Tensor
    penalty: float
    error: float
    baseline: float


def folds_of(size: int, count: int) -> Tensor:
    """The fold of each of `size` samples: `count` blocks of neighbours, since the clips of one shot are alike."""
    return torch.arange(size) * count // size


def _dual(kernel: Tensor, targets: Tensor, penalty: float) -> Tensor:
    return torch.linalg.solve(kernel + penalty * torch.eye(len(kernel)), targets)


def _unseen(kernel: Tensor, targets: Tensor, fold: Tensor, penalty: float) -> Tensor:
    """Predictions (N, K) for each sample by a map fitted on the other folds."""
    predicted = torch.empty_like(targets)
    for k in fold.unique():
        out, rest = fold == k, fold != k
        mean = targets[rest].mean(0)
        predicted[out] = kernel[out][:, rest] @ _dual(kernel[rest][:, rest], targets[rest] - mean, penalty) + mean
    return predicted


def fit_ridge(windows: Tensor, targets: Tensor, rank: int, folds: int = 6) -> RidgeFit:
    """Fit windows (N, T, V), normalised, to tokens (N, S, D) by a map of at most `rank`.

    The penalty is chosen on unseen folds. The rank is cut along the principal directions of the fitted tokens
    (reduced-rank ridge regression, Mukherjee & Zhu 2011), the same ones for `unseen`.
    """
    if len(windows) != len(targets):
        raise MindvizError(f"ridge regression needs a target for each window, found {len(windows)} and {len(targets)}")
    x, y = rearrange(windows, "n t v -> n (t v)"), rearrange(targets, "n s d -> n (s d)")
    kernel, fold = x @ x.T, folds_of(len(x), folds)
    trials = {p: _unseen(kernel, y, fold, p) for p in PENALTIES}
    errors = {p: float((trial - y).square().mean()) for p, trial in trials.items()}
    penalty = min(errors, key=errors.__getitem__)
    bias = y.mean(0)
    dual = _dual(kernel, y - bias, penalty)
    directions = torch.linalg.svd(kernel @ dual, full_matrices=False).Vh[:rank]
    unseen = (trials[penalty] - bias) @ directions.T @ directions + bias
    return RidgeFit(
        into=directions @ dual.T @ x,
        out=directions.T,
        bias=bias,
        unseen=unseen.view_as(targets),
        penalty=penalty,
        error=float((unseen - y).square().mean()),
        baseline=float((y - bias).square().mean()),
    )


def kept_ridge(cache: Path, scans: TrainingScans, targets: Tensor, rank: int) -> RidgeFit:
    """`fit_ridge` of a subject's scans, which takes a minute; the folder `cache` keeps it for the next call."""
    key = sha256(f"{scans.fingerprint} {rank} {PENALTIES}".encode() + targets.contiguous().numpy().tobytes())
    path = cache / f"ridge-{key.hexdigest()[:16]}.safetensors"
    if not path.exists():
        fit = vars(fit_ridge(scans.windows, targets, rank))
        save_tensors(path, {k: torch.tensor(v).double() if isinstance(v, float) else v for k, v in fit.items()})
    kept = load_tensors(path)
    penalty, error, baseline = (float(kept[name]) for name in ("penalty", "error", "baseline"))
    return RidgeFit(kept["into"], kept["out"], kept["bias"], kept["unseen"], penalty, error, baseline)


def caption_targets(scans: TrainingScans, tokens: Tensor, caption_index: Tensor) -> Tensor:
    """The mean token sequence (N, S, D) of the captions of each window's frames."""
    frames = scans.first_frame[:, None] + torch.arange(scans.clip_frames)
    return tokens[caption_index[frames]].mean(1)


@torch.no_grad()
def set_linear_path(encoder: FMRIEncoder, fit: RidgeFit) -> None:
    """Put a fitted map into the encoder's linear path, and keep it from learning."""
    encoder.linear.into.weight.copy_(fit.into)
    encoder.linear.out.weight.copy_(fit.out)
    encoder.linear.out.bias.copy_(fit.bias)
    encoder.linear.requires_grad_(False)
