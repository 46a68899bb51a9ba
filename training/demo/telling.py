"""What a brain would have told of clips that it never saw: the errors of a subject's codes, learnt and drawn anew.

Few windows of scans have to teach what many films could. The codes that a read-out gives training windows (fitted
without them) are a shrunk and blurred version of what they should have been; with that blur, any clip can be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from mindviz.extensions.readout import Correction, ReadOutConfig
from training.demo.ridge import RidgeFit

CLEAREST = 0.3
"""The least noise that a teller tells with, in that of the training windows: test scans are means of more repeats."""
MOST_GAIN = 2.0
TELLING_COMPONENTS = 256
"""A brain is asked about so many principal components of the tokens."""
TELLING_PENALTIES = (30.0, 100.0, 300.0)
"""Candidates of the ridge regression, in windows whose components all have the mean variance."""


@dataclass(frozen=True)
class Telling:
    """How a brain tells captions: codes are ``wanted @ into`` plus noise of covariance ``blur.T @ blur``.

    `heard` (R,) is the variance of the first part. A window's voxels always have a deviation of 1: with less noise in
    them the first part grows, so that the variance of the codes stays the same.
    """

    into: Tensor
    blur: Tensor
    heard: Tensor

    @classmethod
    def of(cls, codes: Tensor, wanted: Tensor) -> Telling:
        """By least squares from what codes (N, R) should have been."""
        into = torch.linalg.lstsq(wanted, codes, driver="gelsd").solution
        return cls._with(into, codes - wanted @ into, wanted)

    @classmethod
    def _with(cls, into: Tensor, rest: Tensor, wanted: Tensor) -> Telling:
        """Of a map and what it leaves unexplained."""
        return cls(into, _root(rest), (wanted @ into).var(0, correction=0))

    @classmethod
    def held_out(cls, codes: Tensor, wanted: Tensor, fold: Tensor) -> Telling:
        """By ridge regression from tokens (N, K), both sides centred, whose errors are those on unseen folds (N,).

        A map fitted to few clips adds to each a little that no brain said of it, and whoever learns from tellings would
        trust that. So what is told is scaled, direction by direction of the codes (where their noise is white), by what
        it foretells of folds that it was not fitted on: 1 for what is truly heard, 0 for what is not.
        """
        wanted, codes = wanted.double(), codes.double()
        axes = torch.linalg.svd(wanted, full_matrices=False)[2][:TELLING_COMPONENTS].T
        parts = wanted @ axes
        trials = {p: _foretold(parts, codes, fold, p) for p in TELLING_PENALTIES}
        penalty = min(trials, key=lambda p: float((codes - trials[p]).square().sum()))
        foretold = trials[penalty]
        rest, trusted = codes - foretold, torch.eye(codes.shape[1], dtype=codes.dtype)
        for _ in range(2):  # the noise is what is left after scaling, the scaling depends on the noise
            root = _root(rest)
            whiten = torch.linalg.inv(root)
            turn = torch.linalg.svd(foretold @ whiten, full_matrices=False)[2].T
            said, heard = foretold @ whiten @ turn, codes @ whiten @ turn
            trust = ((said * heard).sum(0) / said.square().sum(0).clamp_min(1e-9)).clamp(0, 1)
            trusted = whiten @ turn @ trust.diag() @ turn.T @ root
            rest = codes - foretold @ trusted
        into = axes @ _ridge(parts, codes, penalty) @ trusted
        return cls._with(into.float(), rest.float(), wanted.float())

    def __call__(self, wanted: Tensor, generator: torch.Generator, clearest: float = 1.0) -> Tensor:
        """Codes (N, R) for what they should have been, each told with `clearest` to 1 times the noise."""
        noise = torch.randn(len(wanted), len(self.blur), generator=generator) @ self.blur
        if clearest == 1.0:
            return wanted @ self.into + noise
        level = clearest + (1 - clearest) * torch.rand(len(wanted), 1, generator=generator)
        lost = (1 - level**2) * self.blur.square().sum(0)
        gain = (1 + lost / self.heard.clamp_min(1e-9)).sqrt().clamp_max(MOST_GAIN)
        return gain * (wanted @ self.into) + level * noise


def _root(rest: Tensor) -> Tensor:
    """A root (R, R) of the covariance of residuals (N, R); directions without any get a little."""
    covariance = rest.T @ rest / len(rest)
    ridge = 1e-4 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=rest.dtype)
    root: Tensor = torch.linalg.cholesky(covariance + ridge).T
    return root


def _ridge(parts: Tensor, codes: Tensor, penalty: float) -> Tensor:
    """Ridge regression (K, R) from components (N, K) to codes (N, R)."""
    load = penalty * parts.square().mean() * torch.eye(parts.shape[1], dtype=parts.dtype)
    weights: Tensor = torch.linalg.solve(parts.T @ parts + load, parts.T @ codes)
    return weights


def _foretold(parts: Tensor, codes: Tensor, fold: Tensor, penalty: float) -> Tensor:
    """Codes (N, R) as maps fitted on the other folds foretell them."""
    foretold = torch.empty_like(codes)
    for k in fold.unique():
        out = fold == k
        foretold[out] = parts[out] @ _ridge(parts[~out], codes[~out], penalty)
    return foretold


def wanted_codes(fit: RidgeFit, lengths: Tensor, tokens: Tensor) -> Tensor:
    """Codes (N, R) of centred tokens (N, K), the first K that the fit covers; `lengths` (R,) of its directions."""
    into = (fit.out.double() / lengths.double() ** 2)[: tokens.shape[1]]
    return (tokens.double() @ into).float()  # in double: any number of threads gives the same floats


def direction_lengths(fit: RidgeFit) -> Tensor:
    """The length (R,) of each column of `fit.out`."""
    return fit.out.norm(dim=0).clamp_min(1e-12)


class Teller:
    """Tokens that one subject's encoder might say of clips.

    Parameters
    ----------
    config, correction : of the encoder; its attention is taken as uniform.
    fit : the codes of its read-out.
    wanted : Tensor (N, S, D), what the tokens of the training windows should be.
    clearest : the least noise, in that of the windows (`Telling`).
    """

    def __init__(
        self,
        config: ReadOutConfig,
        fit: RidgeFit,
        correction: Mapping[str, Tensor],
        wanted: Tensor,
        clearest: float = CLEAREST,
    ) -> None:
        self.clearest = clearest
        self.correction = Correction(config)
        self.correction.load_state_dict(correction)
        self.correction.requires_grad_(False).eval()
        self.fit, self.mean = fit, fit.unseen.mean(0)
        self.telling = Telling.held_out(fit.unseen - self.mean, self._centred(wanted), fit.fold)

    def _centred(self, wanted: Tensor) -> Tensor:
        return wanted.flatten(1) - self.fit.bias  # the mean of the tokens of the training windows

    @torch.no_grad()
    def __call__(self, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Tokens (B, S, D) instead of those (B, S, D) that would be right."""
        codes = self.mean + self.telling(self._centred(wanted), generator, self.clearest)
        return self.fit.tokens(self.correction(codes), (wanted.shape[1], wanted.shape[2]))


@dataclass(frozen=True)
class Heard:
    """What a subject's brain said of clips, before co-training.

    Attributes
    ----------
    tokens : Tensor (N, S, D), of its training windows by codes and corrections that do not know them
    negative : Tensor (S, D), of its mean scan
    first_frame : Tensor (N,), where each window's clip begins
    teller : what it would say of other clips
    """

    tokens: Tensor
    negative: Tensor
    first_frame: Tensor
    teller: Teller


def heard_digest(heard: Sequence[Heard]) -> str:
    """A hash of what subjects said."""
    digest = sha256()
    for one in heard:
        digest.update(repr(one.teller.clearest).encode())
        teller, fit = one.teller, one.teller.fit
        told = (fit.out, fit.bias, teller.mean, teller.telling.into, teller.telling.blur)
        fixed = (one.tokens, one.negative, one.first_frame, *told)
        for tensor in (*fixed, *teller.correction.state_dict().values()):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
