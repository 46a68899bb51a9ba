"""Maps by gradients: integrated from the baseline to a window, and of attention weighted by its gradient."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mindviz.attribution.embedding import Attend, Embed, direction_and_distance, to_numpy
from mindviz.progress import Progress, silent
from mindviz.types import MindvizError


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
    directions, distances = direction_and_distance(embed, windows, baseline, batch)
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
    return to_numpy(total / steps * (windows - baseline) / distances[:, None, None])


def gradient_attention(attend: Attend, windows: Tensor, baseline: Tensor) -> np.ndarray:
    """Attention followed to the input, each softmax weighted by its gradient (Chefer, Gur & Wolf 2021, eq. 5 and 6).

    Heads that pull the embedding back count nothing. As in `attribution.attention_rollout` one vector is traced back; a
    layer with one query (a read-out) is where it begins.

    Returns
    -------
    ndarray, shape (B, T, P), float32
        The mean over T and P is 1, unless no attention has any influence: then all are 0.
    """
    directions, _ = direction_and_distance(lambda w: attend(w)[0], windows, baseline)
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
    return to_numpy(torch.where(mean > 0, flow / mean, torch.zeros_like(flow)))


def _weighted(softmax: Tensor, gradient: Tensor) -> Tensor:
    """(N, A, Q, K) to (N, Q, K): what raises the score, mean over heads."""
    return (softmax * gradient).clamp_min(0).mean(dim=1).detach()
