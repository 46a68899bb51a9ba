"""Gradients and lesions against functions whose answer is known, and against torch's own derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mindviz.attribution import patterns
from mindviz.attribution.embedding import Attend
from mindviz.attribution.gradients import gradient_attention, integrated_gradients
from mindviz.attribution.lesion_maps import groups_to_voxels, lesioned, lesions
from mindviz.attribution.patterns import activation_patterns, embedding_directions, gradient_patterns
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.types import LayerAttention, MindvizError

T, V, K = 2, 24, 5
ENCODER = EncoderConfig(
    num_voxels=V, patch_size=6, embed_dim=8, depth=2, num_heads=2, num_tokens=3, token_dim=4, window_size=T, dropout=0.0
)


@pytest.fixture
def windows() -> Tensor:
    return torch.randn(3, T, V, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def baseline() -> Tensor:
    return 0.3 * torch.randn(T, V, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def encoder() -> FMRIEncoder:
    torch.manual_seed(0)
    return FMRIEncoder(ENCODER).eval()


@pytest.fixture
def matrix() -> Tensor:
    return torch.randn(T * V, K, generator=torch.Generator().manual_seed(2))


# ---------------------------------------------------------------------- integrated gradients
def test_of_a_linear_map_they_are_weights_times_values(windows: Tensor, baseline: Tensor, matrix: Tensor) -> None:
    found = integrated_gradients(lambda w: w.flatten(1) @ matrix, windows, baseline, steps=1)
    away = (windows - baseline).flatten(1)
    moved = away @ matrix
    expected = away * (moved @ matrix.T) / moved.norm(dim=1, keepdim=True) ** 2
    np.testing.assert_allclose(found.reshape(3, -1), expected.numpy(), atol=1e-5)


def test_they_add_up_to_the_whole_distance(encoder: FMRIEncoder, windows: Tensor, baseline: Tensor) -> None:
    """Completeness, with the real encoder: and the more steps, the closer."""
    few = integrated_gradients(encoder, windows, baseline, steps=4).sum((1, 2))
    many = integrated_gradients(encoder, windows, baseline, steps=200).sum((1, 2))
    np.testing.assert_allclose(many, 1, atol=2e-3)
    assert np.abs(many - 1).max() < np.abs(few - 1).max()


def test_the_batch_changes_nothing(encoder: FMRIEncoder, windows: Tensor, baseline: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    whole = integrated_gradients(encoder, windows, baseline, 5)
    pieces = integrated_gradients(encoder, windows, baseline, 5, batch=2, progress=lambda *a: seen.append(a))
    np.testing.assert_allclose(pieces, whole, atol=1e-6)
    assert seen[0] == (0, 15) and seen[-1] == (15, 15) and len(seen) == 9


def test_a_dead_voxel_counts_nothing(windows: Tensor, baseline: Tensor, matrix: Tensor) -> None:
    dead = matrix.clone()
    dead[7] = 0  # scan 0, voxel 7
    found = integrated_gradients(lambda w: (w.flatten(1) @ dead).tanh(), windows, baseline)
    assert not found[:, 0, 7].any() and found[:, 1, 7].all()


# ---------------------------------------------------------------------- attention weighted by its gradient
def _read_out(chosen: Tensor) -> Attend:
    """One question whose softmax sees nothing: patch p of 4 says the mean of its voxels, times `chosen[p]`."""

    def attend(w: Tensor) -> tuple[Tensor, list[LayerAttention]]:
        said = w.unflatten(2, (4, 6)).mean(-1) * chosen
        softmax = (0 * said).softmax(-1).flatten(0, 1)[:, None, None]
        read = softmax.unflatten(0, (-1, T))[:, :, 0, 0] * said
        return read.sum((1, 2))[:, None], [LayerAttention(softmax, None)]

    return attend


def test_only_what_raises_the_score_counts(windows: Tensor) -> None:
    """A patch that says nothing gets 0; of the others, each what it adds, and nothing if it pulls back."""
    baseline = torch.zeros(T, V)
    found = gradient_attention(_read_out(torch.tensor([1.0, 0.0, 2.0, -1.0])), windows, baseline)
    said = windows.unflatten(2, (4, 6)).mean(-1) * torch.tensor([1.0, 0.0, 2.0, -1.0])
    sign = said.sum((1, 2)).sign()[:, None, None]
    expected = (said * sign).clamp_min(0)
    np.testing.assert_allclose(found, (expected / expected.mean((1, 2), keepdim=True)).numpy(), atol=1e-5)


def test_through_the_layers_of_the_encoder(encoder: FMRIEncoder, windows: Tensor, baseline: Tensor) -> None:
    """Against the full matrix over (scan, patch) pairs, made block by block."""

    def attend(w: Tensor) -> tuple[Tensor, list[LayerAttention]]:
        tokens, maps = encoder.encode(w, attention=True)
        return tokens, [LayerAttention(*m) for m in maps]

    found = gradient_attention(attend, windows[:1], baseline)
    away = (encoder(windows[:1]) - encoder(baseline[None])).detach()
    tokens, maps = attend(windows[:1].requires_grad_())
    flow = torch.eye(T * 4)
    score = (tokens * away / away.norm()).sum()
    for layer in reversed(range(2)):
        spatial, temporal = maps[layer]
        parts = torch.autograd.grad(score, (spatial, temporal), retain_graph=True)
        a_s = (spatial * parts[0]).clamp_min(0).mean(1)  # T P P
        a_t = (temporal * parts[1]).clamp_min(0).mean(1)  # P T T
        over_space, over_time = torch.block_diag(*a_s), torch.zeros(T * 4, T * 4)
        for p in range(4):
            over_time[p::4, p::4] = a_t[p]
        flow = flow @ (torch.eye(T * 4) + over_time) @ (torch.eye(T * 4) + over_space)
    expected = flow.sum(0).view(T, 4)
    np.testing.assert_allclose(found[0], (expected / expected.mean()).detach().numpy(), atol=1e-5)


# ---------------------------------------------------------------------- lesions
def test_a_lesion_takes_away_what_a_group_adds(windows: Tensor, baseline: Tensor, matrix: Tensor) -> None:
    groups = np.repeat([0, 1, -1, 2], 6)
    found = lesions(lambda w: w.flatten(1) @ matrix, windows, baseline, groups, batch=2)
    away = windows - baseline
    for g, part in enumerate([slice(0, 6), slice(6, 12), slice(18, 24)]):
        lost = torch.zeros_like(away)
        lost[:, :, part] = away[:, :, part]
        expected = (lost.flatten(1) @ matrix).norm(dim=1) / (away.flatten(1) @ matrix).norm(dim=1)
        np.testing.assert_allclose(found[:, g], expected, atol=1e-5)


def test_losing_everything_is_one(encoder: FMRIEncoder, windows: Tensor, baseline: Tensor) -> None:
    np.testing.assert_allclose(lesions(encoder, windows, baseline, np.zeros(V, int)), np.ones((3, 1)), atol=1e-5)
    whole = lesioned(encoder, windows[0], baseline, np.zeros(V, int))
    torch.testing.assert_close(whole, encoder(baseline[None]))


def test_values_of_groups_go_to_their_voxels() -> None:
    found = groups_to_voxels(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, -1, 0]))
    np.testing.assert_array_equal(found, [[2, np.nan, 1], [4, np.nan, 3]])


# ---------------------------------------------------------------------- patterns
def _noisy(count: int = 4000) -> Tensor:
    """Voxel 0 holds the signal and noise, voxel 1 the same noise alone, voxel 2 nothing of either."""
    g = torch.Generator().manual_seed(0)
    signal, noise, rest = torch.randn(3, count, generator=g)
    return torch.stack([signal + noise, noise, rest], 1)[:, None]


def test_a_pattern_does_not_show_what_only_cancels_noise() -> None:
    """The best decoder takes voxel 1 from voxel 0: its gradient is as large, its pattern is none (Haufe 2014)."""
    windows = _noisy()
    decoder = torch.tensor([[1.0], [-1.0], [0.0]])
    embed = lambda w: w.flatten(1) @ decoder  # noqa: E731
    gradients = np.abs(integrated_gradients(embed, windows[:50], torch.zeros(1, 3), steps=1)).mean((0, 1))
    assert gradients[1] > 0.5 * gradients[0] and gradients[2] == 0
    found = activation_patterns(windows, embed(windows), components=1)
    assert found.explained[0, 0] == pytest.approx(0.5, abs=0.03)
    assert (found.explained[0, 1:] < 0.01).all()


def test_patterns_are_the_covariance_times_the_weights(matrix: Tensor) -> None:
    """Haufe et al. (2014), theorem 1: A = cov(x) W cov(s)^-1, here with s made white and x scaled."""
    g = torch.Generator().manual_seed(4)
    windows = torch.randn(300, T * V, generator=g) @ torch.randn(T * V, T * V, generator=g)
    found = activation_patterns(windows.view(300, T, V), windows @ matrix, components=K)
    x = (windows - windows.mean(0)).double()
    weights = matrix.double() @ found.directions.double().T
    expected = (x.T @ x / 300 @ weights).T / x.std(0, correction=0)
    torch.testing.assert_close(found.weights.flatten(1).double(), expected, atol=1e-3, rtol=1e-3)
    predicted = found.of((windows @ matrix)[:7])
    beta = np.linalg.lstsq((x @ matrix.double()).numpy(), (x / x.std(0, correction=0)).numpy(), rcond=None)[0]
    np.testing.assert_allclose(predicted.reshape(7, -1), (x[:7] @ matrix.double()).numpy() @ beta, atol=1e-3)


def test_explained_variance_is_adjusted_for_luck() -> None:
    """Forty random codes of 120 windows tell a third of any voxel; adjusted, nothing."""
    g = torch.Generator().manual_seed(0)
    windows, embeddings = torch.randn(120, 1, 200, generator=g), torch.randn(120, 60, generator=g)
    assert activation_patterns(windows, embeddings, 40).explained.mean() < 0.05
    windows[:, 0, 3] = 1.0
    assert activation_patterns(windows, embeddings, 40).explained[0, 3] == 0


# ---------------------------------------------------------------------- gradients turned by the covariance
def _mixed(count: int = 300) -> Tensor:
    """Windows (N, T, V) whose voxels share sources, so that their covariance is far from diagonal."""
    g = torch.Generator().manual_seed(4)
    return (torch.randn(count, T * V, generator=g) @ torch.randn(T * V, T * V, generator=g)).view(count, T, V)


def test_of_a_linear_function_a_turned_gradient_is_the_covariance_times_the_weights(windows: Tensor) -> None:
    """Haufe et al. (2014), theorem 1, for one read-out w: cov(x) w, here squared over the two variances.

    The covariance is made by numpy, V by V. It is the same wherever a linear function's gradient is taken.
    """
    scans, weights = _mixed(), torch.randn(T * V, generator=torch.Generator().manual_seed(5))
    embed = lambda w: (w.flatten(1) @ weights)[:, None]  # noqa: E731
    directions = embedding_directions(embed, scans, components=1)
    assert directions.abs().tolist() == [[1.0]]
    found = gradient_patterns(embed, windows, scans, directions)
    covariance = np.cov(scans.flatten(1).numpy().astype(float).T, bias=True)
    w = weights.numpy().astype(float)
    pattern = covariance @ w
    share = pattern**2 / np.diag(covariance) / (w @ pattern)
    adjusted = np.clip(1 - (1 - share) * 299 / 298, 0, None)
    assert (adjusted > 0.02).sum() > 5
    for one in found:
        np.testing.assert_allclose(one.ravel(), adjusted, atol=1e-5)


def test_several_directions_tell_what_a_regression_on_them_tells(matrix: Tensor, windows: Tensor) -> None:
    """Of a linear encoder of K outputs: R squared of each voxel on all of them, by numpy's least squares."""
    scans = _mixed()
    embed = lambda w: w.flatten(1) @ matrix  # noqa: E731
    found = gradient_patterns(embed, windows[:1], scans, embedding_directions(embed, scans, K), batch=2)
    x = scans.flatten(1).numpy().astype(float)
    x -= x.mean(0)
    said = x @ matrix.numpy().astype(float)
    rest = x - said @ np.linalg.lstsq(said, x, rcond=None)[0]
    adjusted = 1 - rest.var(0) / x.var(0) * 299 / (299 - K)
    np.testing.assert_allclose(found.ravel(), np.clip(adjusted, 0, None), atol=1e-5)


def test_a_turned_gradient_does_not_show_what_only_cancels_noise() -> None:
    scans = _noisy()
    embed = lambda w: w.flatten(1) @ torch.tensor([[1.0], [-1.0], [0.0]])  # noqa: E731
    found = gradient_patterns(embed, scans[:2], scans, embedding_directions(embed, scans, 1))
    assert found[:, 0, 0] == pytest.approx(0.5, abs=0.03) and (found[:, 0, 1:] < 0.01).all()


def test_gradients_are_those_at_the_window(encoder: FMRIEncoder, windows: Tensor) -> None:
    """Against the Jacobian that torch makes; windows differ, batches do not."""
    scans = _mixed(60) / 10
    directions = embedding_directions(encoder, scans, 3)
    seen: list[tuple[int, int]] = []
    found = gradient_patterns(encoder, windows, scans, directions, 2, lambda *a: seen.append(a))
    np.testing.assert_allclose(gradient_patterns(encoder, windows, scans, directions), found, atol=1e-5)
    assert seen[0] == (0, 9) and seen[-1] == (9, 9) and len(seen) == 7
    assert np.abs(found[0] - found[1]).max() > 1e-3
    jacobian = torch.autograd.functional.jacobian(lambda w: encoder(w[None]).flatten() @ directions.T, windows[1])
    read = scans.flatten(1) @ jacobian.detach().flatten(1).T
    np.testing.assert_allclose(found[1], activation_patterns(scans, read, 3).explained, atol=1e-4)


def test_what_does_not_depend_on_the_window_is_made_once(
    encoder: FMRIEncoder, windows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of a whole run in double."""
    made: list[int] = []
    standardised = patterns._standardised
    monkeypatch.setattr(patterns, "_standardised", lambda scans: made.append(len(scans)) or standardised(scans))
    scans = _mixed(60) / 10
    gradient_patterns(encoder, windows, scans, embedding_directions(encoder, scans, 3))
    assert len(windows) > 1 and made == [60]
    with pytest.raises(MindvizError, match="expected more scans than directions, found 3 scans and 2 directions"):
        gradient_patterns(encoder, windows, scans[:3], torch.ones(2, 12))


def test_directions_are_those_in_which_embeddings_differ_most(matrix: Tensor) -> None:
    scans = _mixed()
    embed = lambda w: w.flatten(1) @ matrix  # noqa: E731
    found = embedding_directions(embed, scans, 2, batch=7)
    vectors = np.linalg.eigh(np.cov(embed(scans).numpy().T))[1]
    np.testing.assert_allclose(np.abs(found.numpy() @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-3)


# ---------------------------------------------------------------------- bad input and cancelling
def test_progress_may_cancel(encoder: FMRIEncoder, windows: Tensor, baseline: Tensor) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for method in (
        lambda: integrated_gradients(encoder, windows, baseline, progress=stop),
        lambda: gradient_patterns(encoder, windows, windows, torch.ones(1, 12), progress=stop),
        lambda: lesions(encoder, windows, baseline, np.arange(V), progress=stop),
    ):
        with pytest.raises(KeyboardInterrupt):
            method()


@pytest.mark.parametrize(
    "groups", [np.zeros(V - 1, int), np.zeros(V), np.full(V, -1)], ids=["too few", "not whole", "empty"]
)
def test_bad_groups_are_refused(groups: np.ndarray, encoder: FMRIEncoder, windows: Tensor, baseline: Tensor) -> None:
    with pytest.raises(MindvizError, match="lesions need"):
        lesions(encoder, windows, baseline, groups)


def test_a_window_that_is_the_baseline_is_refused(encoder: FMRIEncoder, baseline: Tensor) -> None:
    with pytest.raises(MindvizError, match="found one at the same place"):
        integrated_gradients(encoder, baseline[None], baseline)
    with pytest.raises(MindvizError, match="found 3 windows, 3 embeddings and 2 components"):
        activation_patterns(baseline.expand(3, T, V), torch.ones(3, 4), components=2)
    with pytest.raises(MindvizError, match="steps and batch need to be at least 1, found 0 and 64"):
        integrated_gradients(encoder, baseline[None], baseline, steps=0)
    with pytest.raises(MindvizError, match="found 3 scans, 2 components and a batch of 64"):
        embedding_directions(encoder, baseline.expand(3, T, V), 2)
    with pytest.raises(MindvizError, match="found them all at the same place"):
        embedding_directions(encoder, baseline.expand(9, T, V), 2)
