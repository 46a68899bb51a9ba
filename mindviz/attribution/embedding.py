"""What maps of dependence are about: how far the embedding of a window lies from that of a baseline.

The embedding is any function of a window of voxels; no model is known here. The baseline is the mean training scan, and
all maps are about one number, the distance along the line between the two embeddings. They go through the whole
function, whatever ways it has from voxels to embedding; attention alone cannot (`mindviz.attribution.attention`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mindviz.types import LayerAttention, MindvizError

Embed = Callable[[Tensor], Tensor]
"""Normalised windows (B, T, V) to embeddings (B, ...)."""


Attend = Callable[[Tensor], tuple[Tensor, Sequence[LayerAttention[Tensor]]]]
"""Normalised windows (B, T, V) to embeddings and the softmax of each layer that made them."""


SAME = 1e-4
"""Embeddings closer than this share of their length are the same, up to rounding."""


@torch.no_grad()
def direction_and_distance(embed: Embed, windows: Tensor, baseline: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Unit directions (B, K) from the baseline's embedding to the windows', and their distances (B,)."""
    start = embed(baseline[None]).flatten(1)
    away = torch.cat([embed(part).flatten(1) for part in windows.split(batch)]) - start
    distance = away.norm(dim=1)
    if not bool((distance > SAME * start.norm()).all()):
        raise MindvizError(
            "expected windows that are embedded elsewhere than the baseline, found one at the same place"
        )
    return away / distance[:, None], distance


def to_numpy(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().cpu().float().numpy()
    return found
