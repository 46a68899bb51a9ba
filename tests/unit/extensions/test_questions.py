"""Questions to areas in place of the published transformer and head, and the prior behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.sketched import ENCODER

from mindviz.attribution.attention import attention_rollout
from mindviz.attribution.gradients import gradient_attention
from mindviz.checkpoint.subject import read_encoder, read_encoder_config, write_encoder
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.extensions.prior import AnswerPrior
from mindviz.extensions.questions import (
    QuestionEncoder,
    attention_heads,
    attention_layers,
    make_encoder,
    questions_of,
)
from mindviz.types import LayerAttention, MindvizError


@pytest.fixture
def encoder() -> QuestionEncoder:
    """Everything in it is random."""
    torch.manual_seed(0)
    found = QuestionEncoder(ENCODER).eval()
    for parameter in found.readout.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return found


def test_a_configuration_makes_the_encoder_it_describes() -> None:
    plain = EncoderConfig(num_voxels=70, embed_dim=16, depth=3, num_heads=4, num_tokens=3, token_dim=8)
    for config, kind in ((plain, FMRIEncoder), (ENCODER, QuestionEncoder), (ENCODER.without_questions(), FMRIEncoder)):
        assert type(make_encoder(config)) is kind
        assert bool(questions_of(config)) == (kind is QuestionEncoder)
    assert attention_layers(plain) == ["layer 1", "layer 2", "layer 3"] and attention_layers(ENCODER) == ["read-out"]
    assert attention_heads(plain)[-1] == "head 4" and attention_heads(ENCODER) == ["what", "layout"]


def test_answers_are_what_areas_say_weighed_by_attention(encoder: QuestionEncoder) -> None:
    """An independent loop over questions, scans, areas and voxels."""
    bold, readout = torch.randn(1, 2, 40), encoder.readout
    tokens, layers = encoder.encode(bold, attention=True)
    assert len(layers) == 1 and layers[0].spatial.shape == (2, 2, 1, 5) and layers[0].temporal is None
    torch.testing.assert_close(layers[0].spatial.sum((0, 2, 3)), torch.full((2,), 2.0))  # 1 in the mean of two scans
    expected = torch.zeros(6)
    for q, part in enumerate((range(4), range(4, 6))):
        keys = torch.stack([torch.stack([a + s for a in readout.areas]) for s in readout.scans])
        shares = ((keys @ readout.queries[q]) / 2).flatten().softmax(0).view(2, 5)  # queries are 4 wide
        torch.testing.assert_close(layers[0].spatial[:, q, 0], 2 * shares)
        for t in range(2):
            for voxel, area in enumerate(ENCODER.areas):
                if area >= 0:
                    for r in part:
                        expected[r] += shares[t, area] * bold[0, t, voxel] * readout.codes[t, voxel, r]
    expected = readout.gain * expected + readout.bias
    torch.testing.assert_close(encoder.answers(bold)[0], expected, atol=1e-4, rtol=1e-4)
    likely = torch.cat([expected[:4].softmax(0), expected[4:]])
    recalled = (readout.prior.recall.weight @ likely + readout.prior.recall.bias).view(5, 8)
    torch.testing.assert_close(tokens[0], recalled, atol=1e-4, rtol=1e-4)


def test_gradients_lead_to_the_attention_that_is_handed_out(encoder: QuestionEncoder) -> None:
    bold, mean = torch.randn(3, 2, 40), torch.zeros(2, 40)
    found = gradient_attention(lambda windows: encoder.encode(windows, attention=True), bold, mean)
    assert found.shape == (3, 2, 5) and np.allclose(found.mean((1, 2)), 1, atol=1e-4) and found.std() > 0.1
    one = encoder.encode(bold[:1], attention=True)[1][0].spatial.detach().numpy()
    rolled = attention_rollout([LayerAttention(one, None)])
    assert rolled.shape == (2, 5) and rolled.mean() == pytest.approx(1, abs=1e-4)


def test_voxels_of_no_area_are_not_heard(encoder: QuestionEncoder) -> None:
    bold = torch.randn(2, 2, 40)
    other = bold.clone()
    other[..., 38:] += 5.0
    assert torch.equal(encoder(bold), encoder(other))
    other[..., 37] += 5.0
    assert not torch.equal(encoder(bold), encoder(other))


def test_attention_begins_uniform_and_learns() -> None:
    torch.manual_seed(0)
    encoder = QuestionEncoder(ENCODER)
    torch.nn.init.normal_(encoder.readout.codes)
    torch.nn.init.normal_(encoder.readout.prior.recall.weight)
    torch.testing.assert_close(encoder.readout.weights(), torch.full((2, 2, 5), 0.1))
    encoder(torch.randn(4, 2, 40)).square().sum().backward()
    assert encoder.readout.areas.grad.abs().max() > 0


def test_a_prior_decides_among_named_answers_and_keeps_numbers() -> None:
    prior = AnswerPrior((3, 2), (True, False), num_tokens=2, token_dim=4)
    answers = torch.tensor([[50.0, 0.0, 0.0, 0.3, -2.0]])
    torch.testing.assert_close(prior.expected(answers), torch.tensor([[1.0, 0.0, 0.0, 0.3, -2.0]]))
    certain = prior.recall.weight[:, 0] + 0.3 * prior.recall.weight[:, 3] - 2 * prior.recall.weight[:, 4]
    torch.testing.assert_close(prior(answers).flatten(), certain + prior.recall.bias)
    torch.testing.assert_close(prior.expected(torch.zeros(1, 5))[0, :3], torch.full((3,), 1 / 3))


def test_it_is_stored_whole(encoder: QuestionEncoder, tmp_path: Path) -> None:
    write_encoder(tmp_path, "1", encoder)
    assert read_encoder_config(tmp_path / "subject1" / "fmri_encoder") == ENCODER
    bold = torch.randn(2, 2, 40)
    torch.testing.assert_close(read_encoder(tmp_path, "1").eval()(bold), encoder(bold))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": (4,)}, "expected a size and the answers of each, found 1 sizes"),
        ({"questions": ("what", "what")}, "expected a size and the answers of each"),
        ({"sizes": (3, 2)}, "a number for each answer, found what: 3 numbers for 4 answers"),
        ({"sizes": (4, 0)}, "a number for each answer, found layout: 0 numbers"),
        ({"key_dim": 0}, "key_dim must be at least 1, found 0"),
        ({"area_names": ("V1",) * 5}, "expected a name of its own for each"),
        ({"area_names": ("V1",)}, "expected a name of its own for each"),
        ({"areas": (0,) * 39}, "expected one of each of 40 voxels, found 39"),
        ({"areas": (0,) * 30 + (2,) * 10}, "numbered from 0, each with a voxel"),
        ({"patch_size": 9}, "largest area, 10 voxels, found 9"),
        ({"padding": "published"}, "padded with zeros"),
    ],
)
def test_bad_questions_and_areas_are_one_sentence(changes: dict, sentence: str) -> None:
    with pytest.raises(MindvizError, match=sentence):
        replace(ENCODER, **changes)
