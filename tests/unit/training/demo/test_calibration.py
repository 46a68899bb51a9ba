"""The ridge decoder that the demo world is calibrated with."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mindviz.data import cleaning
from training.demo import calibration


def test_a_clip_belongs_to_the_shot_of_most_of_its_frames():
    shots = [{"start": 0, "stop": 8}, {"start": 8, "stop": 22}, {"start": 22, "stop": 24}]
    assert calibration.shot_of_clips(shots).tolist() == [0, 1, 1, 1]


def test_right_shot_counts_any_clip_of_the_shot():
    truth = np.eye(4)
    predicted = truth[[1, 0, 3, 0]]  # another clip of the shot, twice; the right one's neighbour; a wrong shot
    assert calibration.right_shot(predicted, truth, np.array([0, 0, 1, 1])) == 0.75


def test_ridge_agrees_with_scikit_learn(monkeypatch):
    monkeypatch.setattr(calibration, "CALIBRATION_PENALTIES", (10.0,))
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(2, 60, 90)) * rng.uniform(0.5, 3, size=90)
    targets = rng.normal(size=(60, 3))
    ours = calibration.ridge_predictions(train, targets, [test], held=10)[0]
    mean, std = train.mean(0), train.std(0)
    oracle = Ridge(alpha=10.0, fit_intercept=False).fit((train - mean) / std, targets)
    assert np.allclose(ours, oracle.predict((test - mean) / std), atol=1e-4)


def test_the_penalty_is_chosen_on_the_held_windows():
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(20, 2))
    train, test = rng.normal(size=(2, 400, 20))
    clean = calibration.ridge_predictions(train, train @ weights, [test], held=100)[0]
    lost = calibration.ridge_predictions(train, rng.normal(size=(400, 2)), [test], held=100)[0]
    assert np.corrcoef(clean.ravel(), (test @ weights).ravel())[0, 1] > 0.9  # the smallest penalty
    assert np.abs(lost).mean() < 0.05  # the largest


def test_components_come_from_the_training_films_alone():
    rng = np.random.default_rng(2)
    films = [rng.normal(size=(30, 8)) * np.array([5, 4, 1, 0, 0, 0, 0, 0]) for _ in range(2)]
    test = np.eye(8)
    reduced = calibration.principal_components([*films, test], size=3)
    assert [r.shape for r in reduced] == [(30, 3), (30, 3), (8, 3)]
    assert np.allclose(np.linalg.norm(reduced[0], axis=1), np.linalg.norm(films[0], axis=1))
    assert np.allclose(reduced[2][3:], 0, atol=1e-9)


def test_repeats_weigh_the_noise_by_its_level():
    rng = np.random.default_rng(3)
    response, own, noise = rng.normal(size=(4, 50)), rng.normal(size=(2, 4, 50)), rng.normal(size=(2, 4, 50))
    parts = calibration.ResponseParts(response, own, noise)
    assert np.allclose(parts.repeats(2.0, 4.0)[1], cleaning.zscore(response + 2 * own[1] + 2 * noise[1]), atol=1e-6)
    first, second = parts.repeats(0.0, 0.0)
    assert np.allclose(first, second)


@pytest.mark.slow
def test_the_image_embedding_tells_pictures_apart():
    rng = np.random.default_rng(4)
    pictures = (
        rng.integers(0, 255, size=(2, 1, 64, 64, 3), dtype=np.uint8) // np.array([1, 8])[:, None, None, None, None]
    )
    frames = np.repeat(pictures.astype(np.uint8), 6, axis=1).reshape(12, 64, 64, 3)
    embeddings = calibration.clip_embeddings(np.concatenate([frames, frames]))
    assert embeddings.shape == (4, 1280)
    assert np.allclose(embeddings[:2], embeddings[2:], atol=1e-4)
    assert np.corrcoef(embeddings[0], embeddings[1])[0, 1] < 0.9
