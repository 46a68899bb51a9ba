"""The read-out in place of the published head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mindviz.extensions.readout import ReadOutConfig, ReadOutEncoder, has_readout, make_encoder, rank_of

from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.types import MindvizError

READ_OUT = ReadOutConfig(
    num_voxels=70,
    embed_dim=16,
    depth=2,
    num_heads=4,
    num_tokens=3,
    token_dim=8,
    readout_rank=8,
    readout_hidden=6,
    readout_dropout=0.0,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_a_configuration_makes_the_encoder_it_describes() -> None:
    plain = EncoderConfig(num_voxels=70, embed_dim=16, depth=1, num_heads=4, num_tokens=3, token_dim=8)
    for config, kind in ((plain, FMRIEncoder), (READ_OUT, ReadOutEncoder), (READ_OUT.without_readout(), FMRIEncoder)):
        assert type(make_encoder(config)) is kind
        assert has_readout(config) == (kind is ReadOutEncoder) and rank_of(config) == 8 * has_readout(config)


def test_the_read_out_is_the_last_layer_of_attention() -> None:
    encoder = ReadOutEncoder(replace(READ_OUT, patch_embedding="per_patch")).eval()
    bold = torch.randn(3, 2, 70)
    tokens, attention = encoder.encode(bold, attention=True)
    assert tokens.shape == (3, 3, 8) and len(attention) == 3
    assert torch.allclose(tokens, encoder(bold), atol=1e-5) and encoder.encode(bold)[1] == []
    last = attention[-1]
    assert last.spatial.shape == (6, 4, 1, 5) and last.temporal is None
    assert torch.allclose(last.spatial.sum(-1), torch.ones(()), atol=1e-5)


def test_the_read_out_begins_as_a_linear_map_of_all_voxels() -> None:
    """Uniform attention and no correction: tokens = out(sum of the codes of all voxels), whatever the transformer."""
    encoder = ReadOutEncoder(READ_OUT).eval()
    torch.nn.init.normal_(encoder.readout.codes)
    bold = torch.randn(4, 2, 70)
    codes = encoder.readout.codes.flatten(1, 2)[:, :70]  # T, V, R; the padding holds no voxel
    expected = encoder.readout.out(torch.einsum("btv,tvr->br", bold, codes)).view(4, 3, 8)
    torch.testing.assert_close(encoder(bold), expected, atol=1e-4, rtol=1e-4)


def test_attention_of_the_read_out_weighs_what_each_patch_says() -> None:
    """An independent loop over scans, heads and patches."""
    encoder = ReadOutEncoder(READ_OUT).eval()
    for parameter in encoder.readout.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    bold = torch.randn(1, 2, 70)
    tokens, attention = encoder.encode(bold, attention=True)
    said = encoder.readout.read(encoder.patches(bold))[0]  # T, P, R
    weights = attention[-1].spatial[:, :, 0]  # T, A, P
    code = torch.zeros(8)
    for t in range(2):
        for head in range(4):
            for p in range(5):
                part = slice(2 * head, 2 * head + 2)
                code[part] += 5 * weights[t, head, p] * said[t, p, part]
    expected = encoder.readout.out(encoder.readout.correction(code[None])).view(1, 3, 8)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)
    assert weights.std() > 0.01


def test_the_attention_of_the_read_out_learns() -> None:
    encoder = ReadOutEncoder(READ_OUT)
    torch.nn.init.normal_(encoder.readout.codes)
    encoder(torch.randn(4, 2, 70)).square().sum().backward()
    assert encoder.readout.keys.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"readout_rank": 3}, "a multiple of 4 heads, found 3"),
        ({"readout_dropout": 1.0}, "readout_dropout must be in 0..1"),
        ({"layout_rank": 8}, "layout_rank must be below readout_rank"),
        ({"memory_heads": -1}, "memory_heads must be 0 or more"),
    ],
)
def test_bad_read_outs_are_one_sentence(changes: dict, sentence: str) -> None:
    with pytest.raises(MindvizError, match=sentence):
        replace(READ_OUT, **changes)
