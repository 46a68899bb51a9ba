"""What an embedding depends on: gradients and lesions of any function of a window of voxels; no model is known here.

All maps are about one number: how far the embedding of a window lies from that of a baseline (the mean training scan),
along the line between the two. They go through the whole function, whatever ways it has from voxels to embedding;
attention alone cannot (`mindviz.attribution.attention`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mindviz.progress import Progress, part_of, silent
from mindviz.types import MindvizError

Embed = Callable[[Tensor], Tensor]
"""Normalised windows (B, T, V) to embeddings (B, ...)."""


class Softmax(NamedTuple):
    """One layer's, in the graph of the embedding: spatial (B T, A, Q, P); temporal (B P, A, T, T) or None."""

    spatial: Tensor
    temporal: Tensor | None


Attend = Callable[[Tensor], tuple[Tensor, Sequence[Softmax]]]
"""Normalised windows (B, T, V) to embeddings and the softmax of each layer that made them."""


SAME = 1e-4
"""Embeddings closer than this share of their length are the same, up to rounding."""


@torch.no_grad()
def _line(embed: Embed, windows: Tensor, baseline: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Unit directions (B, K) from the baseline's embedding to the windows', and their distances (B,)."""
    start = embed(baseline[None]).flatten(1)
    away = torch.cat([embed(part).flatten(1) for part in windows.split(batch)]) - start
    distance = away.norm(dim=1)
    if not bool((distance > SAME * start.norm()).all()):
        raise MindvizError(
            "expected windows that are embedded elsewhere than the baseline, found one at the same place"
        )
    return away / distance[:, None], distance


def integrated_gradients(
    embed: Embed,
    windows: Tensor,
    baseline: Tensor,
    steps: int = 16,
    batch: int = 64,
    progress: Progress = silent,
) -> np.ndarray:
    """Gradients averaged on the way from the baseline to each window, times that way (Sundararajan et al. 2017).

    Parameters
    ----------
    windows : Tensor (B, T, V); baseline : Tensor (T, V), both normalised.
    steps : points on the way (midpoint rule). For a linear function one is exact.
    batch : points that go through `embed` at a time.

    Returns
    -------
    ndarray, shape (B, T, V), float32
        In shares of the distance between the two embeddings: each window's values add up to 1, up to the error of the
        sum over `steps`. Negative where a voxel leads away from what was embedded.
    """
    if steps < 1 or batch < 1:
        raise MindvizError(f"steps and batch need to be at least 1, found {steps} and {batch}")
    directions, distances = _line(embed, windows, baseline, batch)
    places = (torch.arange(steps, device=windows.device) + 0.5) / steps
    jobs = [(row, place) for row in range(len(windows)) for place in places]
    total = torch.zeros_like(windows)
    for first in range(0, len(jobs), batch):
        progress(first, len(jobs))
        rows = torch.tensor([row for row, _ in jobs[first : first + batch]], device=windows.device)
        share = torch.stack([place for _, place in jobs[first : first + batch]])[:, None, None]
        points = (baseline + share * (windows[rows] - baseline)).detach().requires_grad_()
        with torch.enable_grad():
            score = (embed(points).flatten(1) * directions[rows]).sum()
        total.index_add_(0, rows, torch.autograd.grad(score, points)[0])
    progress(len(jobs), len(jobs))
    return _numpy(total / steps * (windows - baseline) / distances[:, None, None])


def gradient_attention(attend: Attend, windows: Tensor, baseline: Tensor) -> np.ndarray:
    """Attention followed to the input, each softmax weighted by its gradient (Chefer, Gur & Wolf 2021, eq. 5 and 6).

    Heads that pull the embedding back count nothing. As in `attribution.attention_rollout` one vector is traced back; a
    layer with one query (a read-out) is where it begins.

    Returns
    -------
    ndarray, shape (B, T, P), float32
        The mean over T and P is 1, unless no attention has any influence: then all are 0.
    """
    directions, _ = _line(lambda w: attend(w)[0], windows, baseline)
    with torch.enable_grad():
        embedding, layers = attend(windows.detach().requires_grad_())
        score = (embedding.flatten(1) * directions).sum()
        tensors = [part for layer in layers for part in layer if part is not None]
        if not tensors:
            raise MindvizError("expected the attention of at least one layer, found none: ask the encoder for it")
        found = iter(torch.autograd.grad(score, tensors))
    batch, scans = windows.shape[:2]
    weighted = []
    for layer in layers:
        spatial = _weighted(layer.spatial, next(found))
        temporal = None if layer.temporal is None else _weighted(layer.temporal, next(found))
        weighted.append((spatial, temporal))
    patches = layers[0].spatial.shape[-1]
    flow = windows.new_ones(batch, scans, patches)
    for spatial, temporal in reversed(weighted):
        over_patches = rearrange(spatial, "(b t) q k -> b t q k", t=scans)
        if over_patches.shape[2] == 1:
            flow = over_patches[:, :, 0]
            continue
        if temporal is not None:
            flow = flow + torch.einsum("bqp,bpqk->bkp", flow, rearrange(temporal, "(b p) q k -> b p q k", b=batch))
        flow = flow + torch.einsum("btq,btqk->btk", flow, over_patches)
    mean = flow.mean(dim=(1, 2), keepdim=True)
    return _numpy(torch.where(mean > 0, flow / mean, torch.zeros_like(flow)))


def _weighted(softmax: Tensor, gradient: Tensor) -> Tensor:
    """(N, A, Q, K) to (N, Q, K): what raises the score, mean over heads."""
    return (softmax * gradient).clamp_min(0).mean(dim=1).detach()


@torch.no_grad()
def lesioned(
    embed: Embed, window: Tensor, baseline: Tensor, groups: np.ndarray, batch: int = 64, progress: Progress = silent
) -> Tensor:
    """Embeddings (G, ...) of one window (T, V), each with the voxels of one group replaced by the baseline's.

    `groups` (V,) says to which of the groups 0..G-1 a voxel belongs; -1 is none, and never replaced.
    """
    groups = np.asarray(groups)
    if groups.shape != (window.shape[1],) or not np.issubdtype(groups.dtype, np.integer):
        raise MindvizError(
            f"lesions need one whole number for each of {window.shape[1]} voxels, found {groups.shape} {groups.dtype}"
        )
    count = int(groups.max(initial=-1)) + 1
    if count == 0:
        raise MindvizError("lesions need at least one group of voxels, found none")
    of = torch.from_numpy(groups).to(window.device)
    parts = []
    for first in range(0, count, batch):
        progress(first, count)
        chosen = torch.arange(first, min(first + batch, count), device=window.device)
        lost = (of == chosen[:, None])[:, None]
        parts.append(embed(torch.where(lost, baseline, window)))
    progress(count, count)
    return torch.cat(parts)


@torch.no_grad()
def lesions(
    embed: Embed, windows: Tensor, baseline: Tensor, groups: np.ndarray, batch: int = 64, progress: Progress = silent
) -> np.ndarray:
    """How far the embedding moves when a group of voxels is replaced by the baseline's.

    Returns
    -------
    ndarray, shape (B, G), float32
        In units of the distance between the window's embedding and the baseline's: losing all voxels at once is 1.
    """
    _, distances = _line(embed, windows, baseline, batch)
    moved = []
    for number, (window, distance) in enumerate(zip(windows, distances, strict=True)):
        apart = lesioned(embed, window, baseline, groups, batch, part_of(progress, number, len(windows)))
        moved.append((apart - embed(window[None])).flatten(1).norm(dim=1) / distance)
    return _numpy(torch.stack(moved))


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
        return _numpy(torch.einsum("bk,ktv->btv", codes, self.weights))


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
    return Patterns(mean.float(), unit.float(), weights.float(), _numpy(explained))


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
def principal_directions(embed: Embed, scans: Tensor, components: int = 40, batch: int = 64) -> Tensor:
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
    directions : Tensor (K, D), of the embedding, whose gradients are taken (`principal_directions`). One alone, from
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
            found.append(_numpy(_regressed(*standardised, kept)[1]))
    progress(total, total)
    return np.stack(found)


def groups_to_voxels(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Give every voxel (V,) the value of its group, of values (..., G); NaN where it belongs to none."""
    values, groups = np.asarray(values, dtype=np.float32), np.asarray(groups)
    held = groups >= 0
    found = np.full((*values.shape[:-1], groups.size), np.nan, dtype=np.float32)
    found[..., held] = values[..., groups[held]]
    return found


def _numpy(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().cpu().float().numpy()
    return found
