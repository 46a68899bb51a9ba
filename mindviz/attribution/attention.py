"""Where an encoder looked: from attention matrices to one value per patch.

Plain numpy. All maps are in units of uniform attention: 1.0 is what a patch receives when every query
attends to every patch alike, so the mean over patches is always 1. Attention is not importance: a large value says that
other patches read from this one, not that the decoded video depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from einops import rearrange

from mindviz.decoder import Decoder
from mindviz.types import AttentionMap, Decoded, Encoding, LayerAttention, MindvizError


def attention_received(attention: Sequence[LayerAttention[np.ndarray]], layer: int = -1, head: int = -1) -> np.ndarray:
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


def window_attention_received(
    attention: Sequence[LayerAttention[np.ndarray]], layer: int = -1, head: int = -1
) -> np.ndarray:
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


def attention_rollout(attention: Sequence[LayerAttention[np.ndarray]]) -> np.ndarray:
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


def _layers(attention: Sequence[LayerAttention[np.ndarray]], layer: int) -> list[LayerAttention[np.ndarray]]:
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


def attention_map(
    decoder: Decoder, decoded: Decoded | Encoding, subject: str, layer: int = -1, head: int = -1, stage: str = ""
) -> AttentionMap:
    """Attention received by each voxel, mean over the window; 1 is what uniform attention would give.

    `layer` and `head` -1 are means. `stage` is that of the encoder that made the encoding, if not the last.
    """
    encoding = decoded.encoding if isinstance(decoded, Decoded) else decoded
    by_patch = attention_received(encoding.attention, layer, head).mean(axis=0)
    values = decoder.encoder_config(subject).patching.to_voxels(by_patch)
    return AttentionMap(values, layer, head, stage or decoder.info.stage, "received")
