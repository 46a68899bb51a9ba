"""The codes of the encoder's read-out, in closed form: ridge regression from windows to the tokens of their captions.

They are fitted once and stay as they are. What they say of the scans that they were fitted on is far too good, so
whatever trains on them (the attention, the correction, the generator) sees what is said of each run by codes that were
fitted on the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from mindviz.encoder import EncoderConfig, FMRIEncoder, initialise_encoder
from mindviz.extensions.readout import ReadOutEncoder, make_encoder
from mindviz.storage import load_tensors, save_tensors
from mindviz.types import MindvizError
from training.data.scans import TrainingScans

CODE_PENALTIES = (3e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5)
"""Candidates, for windows whose voxels have a standard deviation of 1; each direction of the tokens has its own."""


@dataclass(frozen=True)
class RidgeFit:
    """A fitted map, the maps fitted without one fold of runs each, and what these say of that fold.

    Attributes
    ----------
    into : Tensor (R, T V): the code of a window. Predictions for unseen runs have a deviation of 1.
    fold_into : Tensor (K, R, T V): fitted without fold k.
    fold : Tensor (N,), int64: the fold of each training window.
    out : Tensor (S D, R); bias : Tensor (S D,): from codes to tokens; their columns are the principal directions of the
        captions' tokens.
    unseen : Tensor (N, R): the code of each training window by the map fitted without its fold.
    penalty : Tensor (R,): for each direction the candidate with the least squared error on unseen runs.
    error, baseline : Tensor (): squared error of the tokens on unseen runs, and that of always saying the mean.
    """

    into: Tensor
    fold_into: Tensor
    fold: Tensor
    out: Tensor
    bias: Tensor
    unseen: Tensor
    penalty: Tensor
    error: Tensor
    baseline: Tensor

    def tokens(self, codes: Tensor, shape: tuple[int, int]) -> Tensor:
        """Tokens (N, S, D) of codes (N, R)."""
        return (codes @ self.out.T + self.bias).view(-1, *shape)

    def windows_to_tokens(self, windows: Tensor, shape: tuple[int, int]) -> Tensor:
        """What the ridge regression alone says of windows (N, T, V): tokens (N, S, D)."""
        return self.tokens(rearrange(windows, "n t v -> n (t v)") @ self.into.T, shape)


def folds_of(size: int, count: int) -> Tensor:
    """The fold of each of `size` samples: `count` blocks of neighbours, since the clips of one shot are alike."""
    return torch.arange(size) * count // size


def _dual(kernel: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """The weights (N, R) of the samples in kernel ridge regression."""
    factor = torch.linalg.cholesky(kernel + penalty * torch.eye(len(kernel), dtype=kernel.dtype))
    return torch.cholesky_solve(targets, factor)


def _duals(kernel: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """As `_dual`, with a penalty (R,) for each column."""
    duals = torch.empty_like(targets)
    for value in penalty.unique():
        columns = penalty == value
        duals[:, columns] = _dual(kernel, targets[:, columns], float(value))
    return duals


def _unseen(kernel: Tensor, targets: Tensor, fold: Tensor, penalty: float) -> Tensor:
    """Predictions (N, R) for each sample by a map fitted on the other folds."""
    predicted = torch.empty_like(targets)
    for k in fold.unique():
        out, rest = fold == k, fold != k
        mean = targets[rest].mean(0)
        predicted[out] = kernel[out][:, rest] @ _dual(kernel[rest][:, rest], targets[rest] - mean, penalty) + mean
    return predicted


def principal_directions(targets: Tensor, rank: int) -> Tensor:
    """The first `rank` principal directions (K, R) of centred targets (N, K); fewer where there are no more."""
    variance, directions = torch.linalg.eigh(targets.T @ targets)
    return directions.flip(1)[:, : min(rank, int((variance > 1e-6 * variance[-1]).sum()))]


def fit_ridge(windows: Tensor, targets: Tensor, rank: int, folds: int = 6) -> RidgeFit:
    """Fit windows (N, T, V), normalised, to the principal directions of tokens (N, S, D), at most `rank`.

    Each direction has the penalty that predicts unseen folds best; where the captions have fewer directions than
    `rank`, the codes of the others are 0.
    """
    if len(windows) != len(targets):
        raise MindvizError(f"ridge regression needs a target for each window, found {len(windows)} and {len(targets)}")
    x, y = rearrange(windows, "n t v -> n (t v)"), rearrange(targets, "n s d -> n (s d)")
    bias = y.mean(0)
    directions = principal_directions(y - bias, rank)
    wanted = (y - bias) @ directions
    kernel, fold = x @ x.T, folds_of(len(x), folds)
    trials = torch.stack([_unseen(kernel, wanted, fold, p) for p in CODE_PENALTIES])
    best = (trials - wanted).square().mean(1).argmin(0)  # of each direction
    penalty = torch.tensor(CODE_PENALTIES, dtype=x.dtype)[best]
    unseen = trials.gather(0, best.expand(1, len(x), -1))[0]
    spread = unseen.std(0).clamp_min(1e-6)
    rests = [fold != k for k in range(folds)]
    fold_into = torch.stack([_duals(kernel[r][:, r], wanted[r] - wanted[r].mean(0), penalty).T @ x[r] for r in rests])
    said = _said(x, fold_into, fold)
    return RidgeFit(
        into=_filled(_duals(kernel, wanted, penalty).T @ x / spread[:, None], rank, 0),
        fold_into=_filled(fold_into / spread[:, None], rank, 1),
        fold=fold,
        out=_filled(directions * spread, rank, 1),
        bias=bias,
        unseen=_filled(said / spread, rank, 1),
        penalty=penalty,
        error=(y - bias - unseen @ directions.T).square().mean(),
        baseline=(y - bias).square().mean(),
    )


def _said(x: Tensor, fold_into: Tensor, fold: Tensor) -> Tensor:
    """Codes (N, R) of samples (N, T V) by the map of their fold."""
    codes = torch.empty(len(x), fold_into.shape[1], dtype=x.dtype)
    for k, into in enumerate(fold_into):
        codes[fold == k] = x[fold == k] @ into.T
    return codes


def _filled(tensor: Tensor, size: int, dim: int) -> Tensor:
    """Zeros appended along `dim` up to `size`."""
    missing = [*tensor.shape]
    missing[dim] = size - tensor.shape[dim]
    return torch.cat([tensor, tensor.new_zeros(missing)], dim)


def kept_ridge(cache: Path, scans: TrainingScans, targets: Tensor, rank: int) -> RidgeFit:
    """`fit_ridge` of a subject's scans, which takes a minute; the folder `cache` keeps it for the next call."""
    key = sha256(f"{scans.fingerprint} {rank} {CODE_PENALTIES}".encode() + targets.contiguous().numpy().tobytes())
    path = cache / f"ridge-{key.hexdigest()[:16]}.safetensors"
    if not path.exists():
        save_tensors(path, {k: v.contiguous() for k, v in vars(fit_ridge(scans.windows, targets, rank)).items()})
    kept = load_tensors(path)
    return RidgeFit(**{field.name: kept[field.name] for field in fields(RidgeFit)})


def beside(captions: RidgeFit, layout: RidgeFit) -> RidgeFit:
    """One fit of two: the codes of captions and, after them, of the layout; tokens of the captions, then the layout's.

    The errors are the captions'.
    """
    return RidgeFit(
        into=torch.cat([captions.into, layout.into]),
        fold_into=torch.cat([captions.fold_into, layout.fold_into], 1),
        fold=captions.fold,
        out=torch.block_diag(captions.out, layout.out),
        bias=torch.cat([captions.bias, layout.bias]),
        unseen=torch.cat([captions.unseen, layout.unseen], 1),
        penalty=torch.cat([captions.penalty, layout.penalty]),
        error=captions.error,
        baseline=captions.baseline,
    )


def caption_targets(scans: TrainingScans, tokens: Tensor, caption_index: Tensor) -> Tensor:
    """The mean token sequence (N, S, D) of the captions of each window's frames."""
    frames = scans.first_frame[:, None] + torch.arange(scans.clip_frames)
    return tokens[caption_index[frames]].mean(1)


def codes_of(encoder: ReadOutEncoder, into: Tensor) -> Tensor:
    """A map (..., R, T V) as the codes (..., T, P, patch, R) of an encoder's read-out."""
    c = encoder.config
    by_scan = rearrange(into, "... r (t v) -> ... t r v", t=c.window_size)
    return rearrange(c.patching.pad(by_scan), "... t r (p k) -> ... t p k r", k=c.patch_size).contiguous()


@torch.no_grad()
def set_read_out(encoder: ReadOutEncoder, fit: RidgeFit) -> None:
    """Put a fitted map into the encoder's read-out, and keep it from learning."""
    encoder.readout.codes.copy_(codes_of(encoder, fit.into))
    encoder.readout.out.weight.copy_(fit.out)
    encoder.readout.out.bias.copy_(fit.bias)
    freeze_read_out(encoder)


def freeze_read_out(encoder: ReadOutEncoder) -> None:
    """Keep what was fitted from learning; attention goes on, and a correction without a memory.

    A memory learnt from far more captions than a subject's windows show; those would undo it.
    """
    encoder.readout.codes.requires_grad_(False)
    encoder.readout.out.requires_grad_(False)
    if encoder.config.memory_heads:
        encoder.readout.correction.requires_grad_(False)


def begin_encoder(
    config: EncoderConfig,
    masked: Mapping[str, Tensor] | None = None,
    fit: RidgeFit | None = None,
    correction: Mapping[str, Tensor] | None = None,
) -> FMRIEncoder:
    """An encoder at the start of contrast: what masked modelling learnt, fitted codes and their correction."""
    encoder = make_encoder(config)
    if masked is not None:
        initialise_encoder(encoder, dict(masked))
    if fit is not None:
        assert isinstance(encoder, ReadOutEncoder)
        set_read_out(encoder, fit)
        if correction is not None:
            encoder.readout.correction.load_state_dict(correction)
    return encoder
