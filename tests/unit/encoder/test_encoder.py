"""The encoder, masked brain modelling and the contrastive loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mindviz.encoder import (
    ContrastiveConfig,
    ContrastiveHead,
    EncoderConfig,
    FMRIEncoder,
    MaskedAutoencoder,
    MaskedConfig,
    Patching,
    info_nce,
    initialise_encoder,
    random_order,
)
from mindviz.types import MindvizError

SMALL = EncoderConfig(num_voxels=70, embed_dim=16, depth=2, num_heads=4, num_tokens=3, token_dim=8)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------------- patching
@pytest.mark.parametrize(
    ("voxels", "padding", "length"),
    [(70, "minimal", 80), (80, "minimal", 80), (70, "published", 80), (80, "published", 96), (70, "drop", 64)],
)
def test_padding_and_back(voxels: int, padding: str, length: int) -> None:
    patching = Patching(voxels, 16, padding)
    bold = torch.randn(2, voxels)
    padded = patching.pad(bold)
    assert padded.shape == (2, length) == (2, patching.num_patches * 16)
    places = patching.places().ravel()  # the map of attention to voxels must know the same places
    expected = np.where(places >= 0, bold.numpy()[:, places], 0.0)
    assert np.array_equal(padded.numpy(), expected)
    back = patching.to_voxels(np.arange(patching.num_patches))
    whole = np.arange(min(voxels, length)) // 16
    assert back.shape == (voxels,) and (back[len(whole) :] == 0).all()
    if padding != "published":  # there the first voxels stand in the last patch, too
        assert np.array_equal(back[: len(whole)], whole)


@pytest.mark.parametrize("num_voxels", [3, 16, 17, 32, 37])
def test_published_padding_folds_back_what_numpy_wraps(num_voxels: int) -> None:
    rng = np.random.default_rng(num_voxels)
    # the published code's own padding, of the voxel numbers, is the oracle for which voxel stands where
    places = np.pad(np.arange(num_voxels), (0, 16 - num_voxels % 16), "wrap").reshape(-1, 16)
    values = rng.standard_normal(len(places))
    expected = [values[np.nonzero(places == voxel)[0]].mean() for voxel in range(num_voxels)]
    np.testing.assert_allclose(Patching(num_voxels, 16, "published").to_voxels(values), expected, rtol=1e-5)


def test_leading_axes_of_values_by_patch_are_kept() -> None:
    values, patching = np.random.default_rng(0).standard_normal((2, 3, 4)), Patching(40, 12)
    found = patching.to_voxels(values)
    assert found.shape == (2, 3, 40) and found.dtype == np.float32
    assert np.array_equal(found[1, 2], patching.to_voxels(values[1, 2]))


@pytest.mark.parametrize("count", [3, 6])
def test_values_of_another_number_of_patches_are_refused(count: int) -> None:
    with pytest.raises(MindvizError, match=rf"expected values of 4 patches, found shape \({count},\)"):
        Patching(64).to_voxels(np.zeros(count))


def test_published_padding_takes_scans_that_are_padded_already() -> None:
    bold = torch.randn(1, 70)
    patching = Patching(70, 16, "published")
    assert torch.equal(patching.pad(patching.pad(bold)), patching.pad(bold))
    with pytest.raises(MindvizError, match="expected 70 voxels, found 71"):
        patching.pad(torch.randn(1, 71))


# ---------------------------------------------------------------------- the encoder
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, use_temporal=False),
        replace(SMALL, window_size=1, use_norm=True, mlp_ratio=2.5),
        replace(SMALL, patch_embedding="per_patch", padding="published"),
    ],
    ids=["plain", "no temporal", "one scan, norm", "per patch"],
)
def test_tokens_and_attention_of_one_pass(config: EncoderConfig) -> None:
    encoder = FMRIEncoder(config).eval()
    bold = torch.randn(3, config.window_size, config.num_voxels)
    tokens, attention = encoder.encode(bold, attention=True)
    patches = config.patching.num_patches
    assert tokens.shape == (3, 3, 8)
    assert torch.allclose(tokens, encoder(bold), atol=1e-5)
    assert encoder.encode(bold)[1] == []
    assert len(attention) == config.depth
    for layer in attention:
        assert layer.spatial.shape == (3 * config.window_size, 4, patches, patches)
        assert torch.allclose(layer.spatial.sum(-1), torch.ones(()), atol=1e-5)
        assert (layer.temporal is None) == (not config.use_temporal)
        if layer.temporal is not None:
            assert layer.temporal.shape == (3 * patches, 4, config.window_size, config.window_size)


def test_shared_and_own_patch_weights() -> None:
    """Exchanging two patches (and their places) leaves a shared embedding's features as they were, not the others'."""
    for kind, same in (("shared", True), ("per_patch", False)):
        encoder = FMRIEncoder(replace(SMALL, num_voxels=32, patch_embedding=kind)).eval()
        scans = torch.randn(1, 32)
        swapped = encoder.patch_embed(torch.cat([scans[:, 16:], scans[:, :16]], 1)).flip(1)
        assert torch.allclose(encoder.patch_embed(scans), swapped, atol=1e-6) == same


def test_dropout_only_in_training() -> None:
    encoder = FMRIEncoder(replace(SMALL, dropout=0.5))
    bold = torch.randn(8, 2, 70)
    assert not torch.equal(encoder(bold), encoder(bold))
    encoder.eval()
    assert torch.equal(encoder(bold), encoder(bold))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_heads": 5},
        {"depth": 0},
        {"dropout": 1.0},
        {"patch_embedding": "none"},
        {"padding": "zeros"},
    ],
)
def test_bad_configurations(changes: dict) -> None:
    with pytest.raises(MindvizError):
        replace(SMALL, **changes)


@pytest.mark.parametrize("shape", [(2, 70), (1, 3, 70), (1, 2, 71)])
def test_bad_windows(shape: tuple[int, ...]) -> None:
    with pytest.raises(MindvizError, match="the encoder: expected"):
        FMRIEncoder(SMALL)(torch.zeros(shape))


# ---------------------------------------------------------------------- masked brain modelling
MASKED = MaskedConfig(replace(SMALL, num_voxels=128), mask_ratio=0.75, decoder_dim=8, decoder_depth=1, decoder_heads=2)


def orders(count: int, seed: int) -> torch.Tensor:
    return random_order(count, 8, torch.Generator().manual_seed(seed))


def test_only_masked_patches_are_scored() -> None:
    model = MaskedAutoencoder(MASKED).eval()
    scans = torch.randn(5, 128)
    out = model(scans, orders(len(scans), 1))
    assert (out.mask.sum(1) == 6).all()
    target = scans.reshape(5, 8, 16)
    expected = np.mean([((out.prediction - target)[n, p] ** 2).mean().item() for n, p in out.mask.nonzero().tolist()])
    assert out.loss.item() == pytest.approx(expected, rel=1e-5)


def test_masked_patches_are_hidden_from_the_model() -> None:
    model = MaskedAutoencoder(MASKED).eval()
    scans = torch.randn(2, 128)
    out = model(scans, orders(len(scans), 1))
    changed = torch.where(out.mask.repeat_interleave(16, 1), scans + 100.0, scans)
    again = model(changed, orders(len(scans), 1))
    assert torch.equal(out.mask, again.mask)
    assert torch.equal(out.prediction, again.prediction)
    other = model(scans, orders(len(scans), 2))
    assert not torch.equal(out.mask, other.mask)


def test_masked_modelling_learns_and_hands_over() -> None:
    model = MaskedAutoencoder(MASKED)
    wave = torch.sin(torch.arange(128) / 5.0) * torch.randn(32, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        loss = model(wave, orders(32, step)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    encoder = FMRIEncoder(MASKED.encoder)
    initialise_encoder(encoder, model.encoder_state())
    assert torch.equal(encoder.blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)
    assert encoder.blocks[0].attn_temp.proj.weight.abs().max() == 0
    with pytest.raises(MindvizError, match="does not fit"):
        initialise_encoder(FMRIEncoder(SMALL), model.encoder_state())


# ---------------------------------------------------------------------- contrast
def numpy_info_nce(a: np.ndarray, b: np.ndarray, scale: float) -> float:
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    logits = scale * a @ b.T
    rows = [np.log(np.exp(m).sum(1)) - np.diag(m) for m in (logits, logits.T)]
    return float(np.mean(rows))


def test_info_nce_matches_numpy() -> None:
    a, b = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    assert info_nce(a, b, 7.0).item() == pytest.approx(numpy_info_nce(a.numpy(), b.numpy(), 7.0), rel=1e-10)
    assert info_nce(a, a, 100.0).item() < 0.01 < info_nce(a, a.roll(1, 0), 100.0).item()
    with pytest.raises(MindvizError):
        info_nce(a, b[:5], 1.0)


def test_the_head_weighs_image_and_text_alike() -> None:
    head = ContrastiveHead(ContrastiveConfig(token_dim=8, clip_dim=5, temperature=0.1))
    tokens, image, text = torch.randn(4, 3, 8), torch.randn(4, 5), torch.randn(4, 5)
    fmri = head(tokens).detach().numpy()
    assert np.allclose(np.linalg.norm(fmri, axis=1), 1.0, atol=1e-5)
    expected = 0.5 * numpy_info_nce(fmri, image.numpy(), 10.0) + 0.5 * numpy_info_nce(fmri, text.numpy(), 10.0)
    assert head.loss(tokens, image, text).item() == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------------- areas as patches
AREAS = (1, 0, -1, 1, 1, 0, 2, 2)


def test_areas_are_patches_of_different_sizes() -> None:
    patching = Patching(8, 3, areas=AREAS)
    assert patching.num_patches == 3 and patching.length == 9
    np.testing.assert_array_equal(patching.places(), [[1, 5, -1], [0, 3, 4], [6, 7, -1]])
    np.testing.assert_array_equal(patching.of_voxels(), AREAS)
    padded = patching.pad(torch.arange(1.0, 9.0)[None])
    assert padded.tolist() == [[2, 6, 0, 1, 4, 5, 7, 8, 0]]
    values = patching.to_voxels(np.array([[1.0, 2.0, 3.0]]))
    assert values.tolist() == [[2, 1, 0, 2, 2, 1, 3, 3]]
    with pytest.raises(MindvizError, match="expected 8 voxels, found 7"):
        patching.pad(torch.zeros(1, 7))


@pytest.mark.parametrize("embedding", ["shared", "per_patch"])
def test_an_encoder_of_areas_does_not_hear_voxels_of_none(embedding: str) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(
        num_voxels=8,
        patch_size=3,
        embed_dim=8,
        depth=1,
        num_heads=2,
        num_tokens=2,
        token_dim=4,
        patch_embedding=embedding,
        areas=AREAS,
        area_names=("a", "b", "c"),
    )
    encoder = FMRIEncoder(config).eval()
    bold = torch.randn(2, 2, 8)
    other = bold.clone()
    other[..., 2] += 9
    assert torch.equal(encoder(bold), encoder(other))
    tokens, layers = encoder.encode(bold, attention=True)
    assert tokens.shape == (2, 2, 4) and layers[0].spatial.shape == (4, 2, 3, 3)
    if embedding == "per_patch":
        assert encoder.patch_embed.weight.shape == (7, 8), "only places that hold a voxel have weights"


def test_masked_modelling_scores_only_places_that_hold_a_voxel() -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(
        num_voxels=8, patch_size=3, embed_dim=8, depth=1, num_heads=2, areas=AREAS, area_names=("a", "b", "c")
    )
    model = MaskedAutoencoder(MaskedConfig(encoder, decoder_dim=8, decoder_depth=1, decoder_heads=2)).eval()
    scans, order = torch.randn(5, 8), torch.tensor([[0, 1, 2]] * 5)
    found = model(scans, order)
    wanted = model.patching.pad(scans).view(5, 3, 3)
    held = torch.from_numpy(model.patching.places() >= 0)
    errors = [
        (found.prediction[i, p][held[p]] - wanted[i, p][held[p]]).square().mean()
        for i in range(5)
        for p in range(3)
        if found.mask[i, p]
    ]
    torch.testing.assert_close(found.loss, torch.stack(errors).mean())
