"""Maps by lesions: how far the embedding moves when a group of voxels is replaced by the baseline's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mindviz.attribution.embedding import Embed, direction_and_distance, to_numpy
from mindviz.progress import Progress, part_of, silent
from mindviz.types import MindvizError


@torch.no_grad()
def lesioned(
    embed: Embed, window: Tensor, baseline: Tensor, groups: np.ndarray, batch: int = 64, progress: Progress = silent
) -> Tensor:
    """Embeddings (G, ...) of one window (T, V), each with the voxels of one group replaced by the baseline's.

    `groups` (V,) is the group, 0..G-1, of each voxel; voxels of -1 belong to no group and are never replaced.
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
    _, distances = direction_and_distance(embed, windows, baseline, batch)
    moved = []
    for number, (window, distance) in enumerate(zip(windows, distances, strict=True)):
        apart = lesioned(embed, window, baseline, groups, batch, part_of(progress, number, len(windows)))
        moved.append((apart - embed(window[None])).flatten(1).norm(dim=1) / distance)
    return to_numpy(torch.stack(moved))


def groups_to_voxels(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Give every voxel (V,) the value of its group, of values (..., G); NaN where it belongs to none."""
    values, groups = np.asarray(values, dtype=np.float32), np.asarray(groups)
    held = groups >= 0
    found = np.full((*values.shape[:-1], groups.size), np.nan, dtype=np.float32)
    found[..., held] = values[..., groups[held]]
    return found
