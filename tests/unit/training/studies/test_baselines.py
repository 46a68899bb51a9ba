"""The trained baselines against independent solvers: ridge by himalaya, the read-out's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from training.studies import baselines
from training.studies.token_readout import Whitened, best_penalty, classify, fit_classifier


def planted(seed=0, samples=120, features=200, targets=4):
    """Targets of which the first follows the features and the last is noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features)).astype(np.float32)
    noise = np.array([0.1, 1, 10, 100])[:targets]
    y = x @ rng.normal(size=(features, targets)) + noise * rng.normal(size=(samples, targets)) * features**0.5
    return x - x.mean(0), (y - y.mean(0)).astype(np.float32)


def test_each_target_has_its_own_penalty_and_the_solution_is_ridge():
    x, y = planted()
    predicted, unseen, penalties = baselines.fit_token_ridge(x, y, x[:7] + 0.1, folds=4)
    assert penalties[0] < penalties[-1]
    block = np.arange(len(x)) * 4 // len(x)
    for target, penalty in enumerate(penalties):
        whole = Ridge(alpha=float(penalty), fit_intercept=False).fit(x, y[:, target])
        assert predicted[:, target] == pytest.approx(whole.predict(x[:7] + 0.1), rel=1e-3, abs=1e-2)
        part = Ridge(alpha=float(penalty), fit_intercept=False).fit(x[block != 2], y[block != 2, target])
        assert unseen[block == 2, target] == pytest.approx(part.predict(x[block == 2]), rel=1e-3, abs=1e-2)


def test_components_rebuild_what_has_few_directions():
    rng = np.random.default_rng(1)
    targets = (rng.normal(size=(60, 5)) @ rng.normal(size=(5, 40)) + 3).astype(np.float32)
    mean, directions = baselines.components(targets, size=16)
    assert len(directions) == 5
    assert ((targets - mean) @ directions.T) @ directions + mean == pytest.approx(targets, abs=1e-4)
    assert directions @ directions.T == pytest.approx(np.eye(5), abs=1e-5)


def test_the_read_out_is_logistic_regression():
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.normal(size=(300, 6))).float()
    labels = torch.from_numpy((x.numpy() @ rng.normal(size=(6, 4)) + rng.normal(size=(300, 4))).argmax(1))
    ours = fit_classifier(x, labels, 4, penalty=0.01)
    theirs = LogisticRegression(C=1 / (0.01 * 300), max_iter=2000).fit(x.numpy(), labels.numpy())
    assert ours[:-1].T.numpy() == pytest.approx(theirs.coef_, abs=0.02)
    assert (classify(ours, x) == theirs.predict(x.numpy())).mean() > 0.98


def test_labels_that_tokens_do_not_hold_ask_for_a_strong_penalty():
    rng = np.random.default_rng(3)
    x, labels = torch.from_numpy(rng.normal(size=(120, 40))).float(), torch.zeros(120, dtype=torch.int64)
    labels[::3] = 1
    assert best_penalty(x, labels, 2, (1e-4, 10.0)) == 10.0


def test_whitened_components_have_unit_variance():
    rng = np.random.default_rng(4)
    tokens = rng.normal(size=(200, 5)) @ np.diag([9, 3, 1, 0.3, 0.1]) @ rng.normal(size=(5, 30)) + 2
    white = Whitened.of(tokens)(tokens)
    assert white.shape == (200, 5)
    assert np.cov(white.numpy().T, bias=True) == pytest.approx(np.eye(5), abs=1e-3)
