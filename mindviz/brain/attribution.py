"""Where an encoder looked: from attention matrices to one value per patch, and from patches to voxels.

Plain numpy; knows no model. All maps are in units of uniform attention: 1.0 is what a patch receives when every query
attends to every patch alike, so the mean over patches is always 1. Attention is not importance: a large value says that
other patches read from this one, not that the decoded video depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from einops import rearrange

from mindviz.types import LayerAttention, MindvizError

PADDINGS = ("minimal", "published")


def attention_received(attention: Sequence[LayerAttention], layer: int = -1, head: int = -1) -> np.ndarray:
    """Spatial attention that each patch receives, averaged over the queries.

    The rows of an attention matrix sum to one, so what is received is the mean of its columns; times P, 1.0 is uniform.

    Parameters
    ----------
    attention : one `LayerAttention` per layer
    layer : layer, from 0; -1 is the mean over layers
    head : head, from 0; -1 is the mean over heads

    Returns
    -------
    ndarray, shape (T, P), float32
        By scan of the window and patch; the mean over P is 1.

    Raises
    ------
    MindvizError
        If there is no attention, or no such layer or head.
    """
    maps = [_received(chosen.spatial, head) for chosen in _layers(attention, layer)]
    return np.stack(maps).mean(axis=0).astype(np.float32)


def window_attention_received(attention: Sequence[LayerAttention], layer: int = -1, head: int = -1) -> np.ndarray:
    """Attention over the window that each scan receives, by patch: which scan carries the information.

    Returns
    -------
    ndarray, shape (T, P), float32
        The mean over T is 1. Ones for a window of one scan.

    Raises
    ------
    MindvizError
        If the encoder has no attention over the window, or there is no such layer or head.
    """
    maps = [
        rearrange(_received(chosen.temporal, head), "p t -> t p")
        for chosen in _layers(attention, layer)
        if chosen.temporal is not None  # a read-out has none
    ]
    if not maps:
        raise MindvizError("this encoder has no attention over the window")
    return np.stack(maps).mean(axis=0).astype(np.float32)


def attention_rollout(attention: Sequence[LayerAttention]) -> np.ndarray:
    """Attention followed through all layers to the input (Abnar & Zuidema 2020, arXiv 2005.00928).

    Each attention is averaged over heads and mixed half and half with the identity, for the residual path. A layer
    looks over patches first, then over the window; the uniform output is traced back through the product of all of
    them, one vector at a time, so no (T P) x (T P) matrix is ever made.

    Returns
    -------
    ndarray, shape (T, P), float32
        The mean over T and P is 1.
    """
    layers = _layers(attention, -1)
    flow = np.ones(layers[0].spatial[:, 0, 0, :].shape)  # T P
    for chosen in reversed(layers):
        if chosen.spatial.shape[2] == 1:  # a read-out: its one question is where the flow begins
            flow = _received(chosen.spatial, -1)
            continue
        if chosen.temporal is not None:
            flow = (flow + np.einsum("qp,pqk->kp", flow, chosen.temporal.mean(axis=1))) / 2
        flow = (flow + np.einsum("tq,tqk->tk", flow, chosen.spatial.mean(axis=1))) / 2
    return flow.astype(np.float32)


def _layers(attention: Sequence[LayerAttention], layer: int) -> list[LayerAttention]:
    if not attention:
        raise MindvizError("expected the attention of at least one layer, found none: ask the encoder for it")
    if not -1 <= layer < len(attention):
        raise MindvizError(f"layer needs to be -1 (mean) or 0..{len(attention) - 1}, found {layer}")
    return list(attention) if layer == -1 else [attention[layer]]


def _received(softmax: np.ndarray, head: int) -> np.ndarray:
    """(N, A, Q, K) -> (N, K): mean over queries (and heads), times K."""
    heads, keys = softmax.shape[1], softmax.shape[-1]
    if not -1 <= head < heads:
        raise MindvizError(f"head needs to be -1 (mean) or 0..{heads - 1}, found {head}")
    chosen = softmax if head == -1 else softmax[:, head : head + 1]
    return chosen.mean(axis=(1, 2), dtype=np.float64) * keys


def patch_sources(num_voxels: int, patch_size: int, padding: str) -> np.ndarray:
    """Which voxel stands at each place of each patch.

    Parameters
    ----------
    padding : ``"minimal"`` (only what is missing, holding no voxel) or ``"published"`` (the voxels again from the
        first, and a whole extra patch when `num_voxels` is already a multiple of `patch_size`)

    Returns
    -------
    ndarray, shape (P, patch_size), int64
        Voxel numbers; -1 where the padding repeats no voxel.
    """
    if padding not in PADDINGS:
        raise MindvizError(f"padding needs to be one of {', '.join(PADDINGS)}, found {padding!r}")
    if num_voxels < 1 or patch_size < 1:
        raise MindvizError(f"num_voxels and patch_size need to be at least 1, found {num_voxels} and {patch_size}")
    missing = -num_voxels % patch_size
    if padding == "minimal":
        places = np.concatenate([np.arange(num_voxels), np.full(missing, -1)])
    else:
        places = np.arange(num_voxels + (missing or patch_size)) % num_voxels
    return rearrange(places, "(p s) -> p s", s=patch_size)


def patches_to_voxels(
    values: np.ndarray, num_voxels: int, patch_size: int = 16, padding: str = "minimal"
) -> np.ndarray:
    """Give every voxel the value of its patch; a voxel that padding repeats gets the mean over its places.

    Parameters
    ----------
    values : ndarray, shape (P,) or (..., P)

    Returns
    -------
    ndarray, shape (num_voxels,) or (..., num_voxels), float32

    Raises
    ------
    MindvizError
        If there is not one value per patch.
    """
    values = np.asarray(values)
    sources = patch_sources(num_voxels, patch_size, padding)
    if values.ndim == 0 or values.shape[-1] != len(sources):
        raise MindvizError(
            f"{num_voxels} voxels in patches of {patch_size} with {padding} padding need {len(sources)} values, "
            f"found shape {values.shape}"
        )
    places = sources.ravel()
    held = places >= 0
    by_place = np.repeat(values.astype(np.float64), patch_size, axis=-1)[..., held]
    flat = by_place.reshape(-1, held.sum())
    sums = np.stack([np.bincount(places[held], weights=row, minlength=num_voxels) for row in flat])
    counts = np.bincount(places[held], minlength=num_voxels)
    return (sums / counts).reshape(*values.shape[:-1], num_voxels).astype(np.float32)
