"""The metrics against independent references: sampled trials, brute force over all draws, explicit formulas."""

from itertools import combinations

import numpy as np
import pytest

from mindviz.metrics import (
    cosine_similarity,
    grey_clip,
    identify,
    mean_clip,
    n_way_chance,
    n_way_top_k,
    psnr,
    ssim,
    top_classes,
)
from mindviz.types import MindvizError


def sampled_trials(scores, true, n_way, top_k, trials, rng):
    """The published procedure: draw classes, rank each true class among them, count a trial if one is in the top k."""
    others = np.setdiff1d(np.arange(len(scores)), true)
    correct = 0
    for _ in range(trials):
        drawn = rng.choice(others, n_way - 1, replace=False)
        correct += any((scores[drawn] > scores[t]).sum() < top_k for t in true)
    return correct / trials


@pytest.mark.parametrize(("n_way", "top_k", "num_true"), [(2, 1, 1), (5, 1, 3), (2, 1, 3), (10, 3, 1), (10, 2, 3)])
def test_n_way_equals_sampled_trials(n_way, top_k, num_true):
    rng = np.random.default_rng(n_way * 100 + top_k)
    scores = rng.normal(size=(6, 30))
    truth = top_classes(scores + rng.normal(size=scores.shape), num_true)
    exact = n_way_top_k(scores, truth, n_way, top_k)
    for row, true, p in zip(scores, truth, exact, strict=True):
        sampled = sampled_trials(row, true, n_way, top_k, 3000, rng)
        assert abs(sampled - p) <= 4 * np.sqrt(max(p * (1 - p), 1e-4) / 3000)


def test_n_way_equals_every_draw_with_ties_broken_at_random():
    # Scores with many ties: the mean over all draws, and within each over the orders of the tied, by brute force.
    scores = np.array([2.0, 1.0, 2.0, 2.0, 0.0, 2.0, 3.0])
    true = [0, 2]
    rng = np.random.default_rng(0)
    broken = [scores + 1e-6 * rng.permutation(len(scores)) for _ in range(4000)]
    wins = [
        any(sum(s[d] > s[t] for d in drawn) < 2 for t in true)
        for s in broken
        for drawn in combinations([1, 3, 4, 5, 6], 3)
    ]
    assert n_way_top_k(scores[None], np.array([true]), n_way=4, top_k=2)[0] == pytest.approx(np.mean(wins), abs=0.01)


@pytest.mark.parametrize(("n_way", "top_k", "num_true"), [(2, 1, 3), (50, 1, 3), (50, 1, 1), (10, 5, 1), (10, 2, 3)])
def test_random_scores_are_at_chance(n_way, top_k, num_true):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4000, 80))
    truth = top_classes(rng.normal(size=scores.shape), num_true)
    accuracy = n_way_top_k(scores, truth, n_way, top_k)
    assert accuracy.mean() == pytest.approx(n_way_chance(n_way, top_k, num_true), abs=4 * accuracy.std() / 4000**0.5)


def test_chance_levels_and_constant_scores():
    assert n_way_chance(2, num_true=3) == 0.75
    assert n_way_chance(50, num_true=3) == pytest.approx(3 / 52)
    assert n_way_chance(50) == pytest.approx(1 / 50)
    assert n_way_chance(10, top_k=3) == pytest.approx(0.3)
    # An uninformative classifier is at chance, not at 0 or 1.
    assert n_way_top_k(np.zeros((1, 9)), np.array([[1, 4, 5]]), 3)[0] == pytest.approx(3 / 5)


def test_n_way_accuracy_is_1_or_0_at_the_extremes():
    scores = np.eye(5)
    assert n_way_top_k(scores, np.arange(5), 5).tolist() == [1] * 5
    assert n_way_top_k(-scores, np.arange(5), 2).tolist() == [0] * 5
    assert n_way_top_k(-scores, np.arange(5), 2, top_k=2).tolist() == [1] * 5
    assert top_classes(np.array([[0.1, 0.9, 0.5, 0.7]])).tolist() == [[1, 3, 2]]


@pytest.mark.parametrize(
    ("scores", "truth", "n_way", "top_k", "message"),
    [
        (np.zeros((2, 5)), np.array([0, 5]), 2, 1, "0 to 4"),
        (np.zeros((2, 5)), np.array([0]), 2, 1, "found"),
        (np.zeros((1, 5)), np.array([[0, 0]]), 2, 1, "named twice"),
        (np.zeros((1, 5)), np.array([[0, 1, 2]]), 4, 1, "n_way must be 2 to 3"),
        (np.full((1, 5), np.nan), np.array([0]), 2, 1, "finite"),
        (np.zeros((1, 5)), np.array([0.0]), 2, 1, "integers"),
        (np.zeros((1, 5)), np.array([0]), 2, 0, "top_k"),
    ],
)
def test_n_way_refuses_bad_input(scores, truth, n_way, top_k, message):
    with pytest.raises(MindvizError, match=message):
        n_way_top_k(scores, truth, n_way, top_k)


def test_identification_matches_manual_values():
    similarity = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.3, 0.7, 0.7]])
    result = identify(similarity, np.array([0, 0, 1]))
    assert result.right_clip.tolist() == [1, 0, 0.5]
    assert result.right_shot.tolist() == [1, 1, 0.5]
    assert result.rank.tolist() == [1, 3, 1.5]
    assert result.pairwise.tolist() == [1, 0, 0.75]
    assert result.chance_clip == pytest.approx(1 / 3)
    assert result.chance_shot == pytest.approx(5 / 9)


def test_identification_of_random_embeddings_is_at_chance():
    rng = np.random.default_rng(2)
    shots = np.repeat(np.arange(40), [1, 2, 3, 4] * 10)
    results = [identify(rng.normal(size=(100, 100)), shots) for _ in range(60)]
    assert np.mean([r.right_clip for r in results]) == pytest.approx(results[0].chance_clip, abs=0.006)
    assert np.mean([r.right_shot for r in results]) == pytest.approx(results[0].chance_shot, abs=0.01)
    assert np.mean([r.pairwise for r in results]) == pytest.approx(0.5, abs=0.02)


def test_equal_candidates_have_bitwise_equal_similarities():
    rng = np.random.default_rng(0)
    captions, which = rng.standard_normal((61, 1024)), rng.integers(61, size=238)
    found = cosine_similarity(rng.standard_normal((238, 1024)), captions[which])
    for caption in range(61):
        assert (found[:, which == caption] == found[:, which == caption][:, :1]).all()
    one = identify(found, np.arange(238)).right_clip
    assert set(np.round(one[one > 0] * np.bincount(which)[which][one > 0], 9)) <= {1.0}, "a share for each that ties"


def test_cosine_similarity():
    assert cosine_similarity(np.array([[3.0, 4.0]]), np.array([[0.0, 2.0], [-1, 0]])) == pytest.approx(
        np.array([[0.8, -0.6]])
    )
    with pytest.raises(MindvizError, match="not zero"):
        cosine_similarity(np.zeros((1, 2)), np.ones((1, 2)))
    with pytest.raises(MindvizError, match="one width"):
        cosine_similarity(np.ones((1, 2)), np.ones((1, 3)))
    with pytest.raises(MindvizError, match="square"):
        identify(np.ones((2, 3)), np.zeros(2))
    with pytest.raises(MindvizError, match="finite"):
        identify(np.full((2, 2), np.nan), np.zeros(2))


def ssim_by_hand(a, b, weights, bessel):
    """SSIM of one grey frame: the formula of Wang et al. 2004 (eq. 13) at every pixel whose window fits."""
    a, b = a.astype(float), b.astype(float)
    side = len(weights)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(a.shape[0] - side + 1):
        for x in range(a.shape[1] - side + 1):
            p, q = a[y : y + side, x : x + side], b[y : y + side, x : x + side]
            mp, mq = (weights * p).sum(), (weights * q).sum()
            vp, vq = bessel * (weights * (p - mp) ** 2).sum(), bessel * (weights * (q - mq) ** 2).sum()
            cov = bessel * (weights * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return np.mean(values)


def clips(seed, shape=(2, 3, 16, 16, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
def test_ssim_equals_the_formula(window):
    a = clips(0)
    b = (0.6 * a + 0.4 * clips(1)).astype(np.uint8)
    if window == "uniform":
        weights, bessel = np.full((7, 7), 1 / 49), 49 / 48
    else:
        line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        weights, bessel = np.outer(line, line) / line.sum() ** 2, 1.0
    by_hand = [
        np.mean([ssim_by_hand(a[n, f, :, :, c], b[n, f, :, :, c], weights, bessel) for f in range(3) for c in range(3)])
        for n in range(2)
    ]
    assert ssim(a, b, window) == pytest.approx(by_hand, abs=1e-9)
    assert ssim(a, a, window) == pytest.approx([1, 1])


def test_psnr_and_baseline_clips():
    a = np.full((1, 2, 8, 8, 3), 100, np.uint8)
    assert psnr(a, a + 10) == pytest.approx([10 * np.log10(255**2 / 100)])
    assert psnr(a, a).tolist() == [np.inf]
    # Differences of uint8 must not wrap around.
    assert psnr(a * 0, a * 0 + 255) == pytest.approx([0])
    assert mean_clip(np.stack([a[0], a[0] + 3])).tolist() == (a[0] + 2).tolist()
    assert grey_clip(6, 4, 5).shape == (6, 4, 5, 3)


def test_pixel_metrics_refuse_bad_input():
    with pytest.raises(MindvizError, match="one shape"):
        psnr(clips(0), clips(0)[:1])
    with pytest.raises(MindvizError, match="uint8"):
        ssim(clips(0) / 255, clips(0))
    with pytest.raises(MindvizError, match="at least 11"):
        ssim(clips(0)[:, :, :8], clips(0)[:, :, :8], "gaussian")
    with pytest.raises(MindvizError, match="'uniform' or 'gaussian'"):
        ssim(clips(0), clips(0), "box")  # type: ignore[arg-type]
    with pytest.raises(MindvizError, match="uint8"):
        mean_clip(np.zeros((0, 1, 2, 2, 3), np.uint8))
