"""Attention by patch against plain loops and closed forms."""

import numpy as np
import pytest

from mindviz.attribution import attention
from mindviz.types import LayerAttention, MindvizError


def _softmax(rng, shape):
    scores = np.exp(rng.standard_normal(shape))
    return (scores / scores.sum(axis=-1, keepdims=True)).astype(np.float32)


def _layers(scans=3, heads=2, patches=5, depth=4, seed=0):
    rng = np.random.default_rng(seed)
    return [
        LayerAttention(_softmax(rng, (scans, heads, patches, patches)), _softmax(rng, (patches, heads, scans, scans)))
        for _ in range(depth)
    ]


def test_received_is_the_column_mean_times_patches():
    layers = _layers()
    found = attention.attention_received(layers, layer=2, head=1)
    for t in range(3):
        for p in range(5):
            assert found[t, p] == pytest.approx(
                5 * np.mean([layers[2].spatial[t, 1, q, p] for q in range(5)]), rel=1e-5
            )


def test_received_averages_layers_and_heads():
    layers = _layers()
    each = [attention.attention_received(layers, layer, head) for layer in range(4) for head in range(2)]
    np.testing.assert_allclose(attention.attention_received(layers), np.mean(each, axis=0), rtol=1e-5)
    np.testing.assert_allclose(attention.attention_received(layers).mean(axis=1), 1, rtol=1e-5)


def test_uniform_attention_is_one_everywhere():
    uniform = [LayerAttention(np.full((2, 3, 4, 4), 0.25), np.full((4, 3, 2, 2), 0.5))] * 3
    for method in (
        attention.attention_received,
        attention.window_attention_received,
        attention.attention_rollout,
    ):
        np.testing.assert_allclose(method(uniform), np.ones((2, 4)), rtol=1e-6)


def test_window_attention_finds_the_scan_that_everyone_reads():
    temporal = np.zeros((4, 1, 3, 3), dtype=np.float32)
    temporal[..., 1] = 1
    found = attention.window_attention_received([LayerAttention(np.full((3, 1, 4, 4), 0.25), temporal)])
    np.testing.assert_allclose(found, [[0] * 4, [3] * 4, [0] * 4])


def test_rollout_equals_the_product_of_the_full_matrices():
    layers = _layers(scans=2, patches=3, depth=3)
    size = 6  # token (t, p) -> t * 3 + p
    rolled = np.eye(size)
    for layer in layers:
        spatial, temporal = np.zeros((size, size)), np.zeros((size, size))
        for t in range(2):
            for q in range(3):
                for k in range(3):
                    spatial[t * 3 + q, t * 3 + k] = layer.spatial[t, :, q, k].mean()
        for p in range(3):
            for q in range(2):
                for k in range(2):
                    temporal[q * 3 + p, k * 3 + p] = layer.temporal[p, :, q, k].mean()
        rolled = (np.eye(size) + temporal) / 2 @ (np.eye(size) + spatial) / 2 @ rolled
    expected = rolled.mean(axis=0).reshape(2, 3) * size
    np.testing.assert_allclose(attention.attention_rollout(layers), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: attention.attention_received([]), "found none"),
        (
            lambda: attention.attention_received(_layers(), layer=4),
            r"layer needs to be -1 \(mean\) or 0\.\.3, found 4",
        ),
        (lambda: attention.attention_received(_layers(), layer=-2), "found -2"),
        (lambda: attention.attention_received(_layers(), head=2), r"0\.\.1, found 2"),
        (
            lambda: attention.window_attention_received([LayerAttention(np.ones((1, 1, 1, 1)), None)]),
            "no attention over the window",
        ),
    ],
)
def test_bad_input_is_one_clear_sentence(call, sentence):
    with pytest.raises(MindvizError, match=sentence):
        call()
