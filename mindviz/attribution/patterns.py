"""Activation patterns: which activity goes with what is decoded (Haufe et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mindviz.attribution.embedding import SAME, Embed, to_numpy
from mindviz.progress import Progress, silent
from mindviz.types import MindvizError


@dataclass(frozen=True)
class Patterns:
    """Which activity goes with what is decoded, fitted over N windows (`activation_patterns`).

    Attributes
    ----------
    mean : Tensor (D,), of the embeddings; directions : Tensor (K, D), their principal directions, divided by their
        deviations: codes ``(embedding - mean) @ directions.T`` have a deviation of 1 and are uncorrelated.
    weights : Tensor (K, T, V), what a voxel does for each code, in its own deviations.
    explained : ndarray (T, V), the share of each voxel's variance that the codes tell, adjusted for their number as if
        the windows were independent. Scans that follow each other are not, so voxels that know nothing stay above 0:
        compare voxels, and do not read it as a test.
    """

    mean: Tensor
    directions: Tensor
    weights: Tensor
    explained: np.ndarray

    def of(self, embedding: Tensor) -> np.ndarray:
        """The activity (B, T, V), in deviations, that goes with embeddings (B, ...)."""
        codes = (embedding.flatten(1) - self.mean) @ self.directions.T
        return to_numpy(torch.einsum("bk,ktv->btv", codes, self.weights))


@torch.no_grad()
def activation_patterns(windows: Tensor, embeddings: Tensor, components: int = 40) -> Patterns:
    """The forward model of a decoder (Haufe et al. 2014): voxels regressed on what was decoded from them.

    What a decoder depends on is not what it decodes: it also listens to voxels that say nothing, to take the noise that
    they share with others away. Gradients and lesions show both; the pattern, a gradient turned by the covariance of
    the voxels, shows the second alone. For a linear decoder of full rank it is that product exactly.

    Parameters
    ----------
    windows : Tensor (N, T, V), more of them than `components`; a voxel that never changes explains nothing.
    embeddings : Tensor (N, ...), of these windows.
    components : so many principal directions of the embeddings are kept.
    """
    count = len(windows)
    if len(embeddings) != count or not 1 <= components < count - 1:
        raise MindvizError(
            f"patterns need an embedding for each window and more windows than components, found {count} windows, "
            f"{len(embeddings)} embeddings and {components} components"
        )
    mean, kept, values, directions = _principal(embeddings, components)
    weights, explained = _regressed(*_standardised(windows), kept)
    unit = directions / values[:, None] * count**0.5
    return Patterns(mean.float(), unit.float(), weights.float(), to_numpy(explained))


def _standardised(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (N, T, V) in double, each voxel less its mean and by its deviation; and whether it varies, (T, V)."""
    centred = windows.double()
    centred = centred - centred.mean(dim=0)
    deviation = centred.std(dim=0, correction=0)
    varies = deviation > 0
    return centred / torch.where(varies, deviation, torch.ones_like(deviation)), varies


def _regressed(scaled: Tensor, varies: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (K, T, V) of `_standardised` windows on scores (N, K) of unit length; the share that these explain."""
    count, components = kept.shape
    weights = torch.einsum("nk,ntv->ktv", kept, scaled) / count**0.5  # codes of deviation 1: kept * sqrt(N)
    unexplained = 1 - weights.square().sum(dim=0)
    explained = 1 - unexplained * (count - 1) / (count - components - 1)
    return weights, torch.where(varies, explained.clamp_min(0), torch.zeros_like(explained))


def _principal(embeddings: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean (D,), and the first principal components of embeddings (N, ...) in double: scores (N, K) of unit length,
    singular values (K,) and unit directions (K, D); those without any variance are left out."""
    flat = embeddings.flatten(1).double()
    mean = flat.mean(dim=0)
    scores, values, directions = torch.linalg.svd(flat - mean, full_matrices=False)
    known = values[:components] > 1e-9 * values[0].clamp_min(1e-300)
    return mean, scores[:, :components][:, known], values[:components][known], directions[:components][known]


@torch.no_grad()
def embedding_directions(embed: Embed, scans: Tensor, components: int = 40, batch: int = 64) -> Tensor:
    """Unit directions (K, D) along which the embeddings of scans (N, T, V) differ most; K at most `components`.

    Raises
    ------
    MindvizError
        For no more scans than components, or scans that are all embedded alike.
    """
    if not 1 <= components < len(scans) - 1 or batch < 1:
        raise MindvizError(
            f"principal directions need more scans than components and batches of at least 1, found {len(scans)} "
            f"scans, {components} components and a batch of {batch}"
        )
    said = torch.cat([embed(part).flatten(1) for part in scans.split(batch)])
    if bool((said - said.mean(dim=0)).norm() <= SAME * said.norm()):
        raise MindvizError("expected scans that are embedded differently, found them all at the same place")
    return _principal(said, components)[3].to(scans.dtype)


def gradient_patterns(
    embed: Embed, windows: Tensor, scans: Tensor, directions: Tensor, batch: int = 64, progress: Progress = silent
) -> np.ndarray:
    """Gradients turned by the covariance of the scans: the activation pattern of what `embed` does near each window.

    Near a window the function is the linear decoder that its gradients are. Haufe et al. (2014, NeuroImage 87:96) tell
    which activity goes with what such a decoder W reads: cov(x) W cov(W x)^-1. The covariance is that of `scans`; no
    labels are needed, and it is never made: the gradients read the scans, and the voxels are regressed on what they
    read (`activation_patterns`).

    Parameters
    ----------
    windows : Tensor (B, T, V), whose maps are wanted.
    scans : Tensor (N, T, V), of the run that they belong to, more of them than directions.
    directions : Tensor (K, D), of the embedding, whose gradients are taken (`embedding_directions`). One alone, from
        the baseline to the window, is not enough: for the length of a film it goes with other things by chance.
    batch : windows that go through `embed` at a time.

    Returns
    -------
    ndarray, shape (B, T, V), float32
        The share of each voxel's variance over `scans` that goes with what is read near the window, adjusted as
        `Patterns.explained`.
    """
    total, count = len(windows) * len(directions), len(directions)
    if not 1 <= count < len(scans) - 1:
        raise MindvizError(f"expected more scans than directions, found {len(scans)} scans and {count} directions")
    centred, standardised = (scans - scans.mean(dim=0)).flatten(1), _standardised(scans)
    found = []
    for number, window in enumerate(windows):
        gradients = []
        for first in range(0, count, batch):
            progress(number * count + first, total)
            part = directions[first : first + batch]
            points = window.detach().expand(len(part), *window.shape).clone().requires_grad_()
            with torch.enable_grad():
                score = (embed(points).flatten(1) * part).sum()
            gradients.append(torch.autograd.grad(score, points)[0].flatten(1))
        with torch.no_grad():
            kept = _principal(centred @ torch.cat(gradients).T, count)[1]
            found.append(to_numpy(_regressed(*standardised, kept)[1]))
    progress(total, total)
    return np.stack(found)
