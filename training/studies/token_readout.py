"""A linear read-out of condition tokens: how much of what a clip shows is in them, whatever is generated from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mindviz.evaluate.catalogue import ReportMethod
from mindviz.evaluate.measure import flat
from mindviz.evaluate.setup import Setup, clip_shots
from mindviz.types import MindvizError
from training.demo.judge import ASPECTS, Judge

READOUT = ReportMethod(
    "readout",
    "linear read-out of the tokens",
    "ceiling",
    True,
    "no clips: what a linear classifier finds in the tokens, trained on tokens of training windows",
)
READOUT_PENALTIES = (1e-3, 1e-2, 1e-1)
"""Candidates for the weight decay, for components of unit variance."""
READOUT_COMPONENTS, READOUT_FOLDS, STEPS = 128, 3, 60


@dataclass(frozen=True)
class Whitened:
    """Leading principal components of tokens, at unit variance over the training set.

    Attributes
    ----------
    mean : ndarray, shape (K,)
    directions : ndarray, shape (K, R), R at most `READOUT_COMPONENTS`
    """

    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray) -> Whitened:
        """From training tokens (N, K)."""
        mean = tokens.mean(axis=0)
        centred = tokens - mean
        variance, vectors = np.linalg.eigh(centred.T @ centred / len(tokens))
        keep = np.flatnonzero(variance > 1e-9 * variance[-1])[::-1][:READOUT_COMPONENTS]
        return cls(mean, vectors[:, keep] / np.sqrt(variance[keep]))

    def __call__(self, tokens: np.ndarray) -> Tensor:
        """Tokens (N, K) to float32 (N, R)."""
        return torch.from_numpy((tokens - self.mean) @ self.directions).float()


def fit_classifier(x: Tensor, labels: Tensor, classes: int, penalty: float) -> Tensor:
    """Weights (R + 1, classes) of multinomial logistic regression of labels (N,) on components (N, R)."""
    x = functional.pad(x, (0, 1), value=1.0)
    weights = torch.zeros(x.shape[1], classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(x @ weights, labels) + penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weights.detach()


def classify(weights: Tensor, x: Tensor) -> np.ndarray:
    """The likeliest class (N,) of components (N, R)."""
    return (x @ weights[:-1] + weights[-1]).argmax(dim=1).numpy()


def best_penalty(x: Tensor, labels: Tensor, classes: int, candidates: Sequence[float] = READOUT_PENALTIES) -> float:
    """The weight decay that is right most often on blocks of neighbouring windows left out in turn."""
    block = torch.arange(len(x)) * READOUT_FOLDS // len(x)
    right = dict.fromkeys(candidates, 0)
    for penalty in candidates:
        for k in block.unique():
            weights = fit_classifier(x[block != k], labels[block != k], classes, penalty)
            right[penalty] += int((classify(weights, x[block == k]) == labels[block == k].numpy()).sum())
    return max(candidates, key=lambda penalty: right[penalty])


def training_labels(setup: Setup, judge: Judge, clips: np.ndarray) -> dict[str, np.ndarray]:
    """Class indices by aspect of the shot that fills most of each training clip; `clips` are places among all."""
    assert setup.training is not None
    found: dict[str, list[int]] = {aspect: [] for aspect in ASPECTS}
    for run in setup.training.runs(setup.subject, "train"):
        shots = setup.training.shots(run)
        source = setup.training.folder / "stimuli" / f"{run}.json"
        unknown = [a for a in ASPECTS if any(s.get(a) not in judge.config.classes(a) for s in shots)]
        if not shots or unknown:
            raise MindvizError(f"{source}: expected shots whose {ASPECTS} the judge knows, found others or none")
        length = setup.training.clip_frames
        index, _ = clip_shots(shots, len(setup.training.film(run).frames) // length, length)
        for aspect in ASPECTS:
            names = judge.config.classes(aspect)
            found[aspect] += [names.index(shots[i][aspect]) for i in index]
    return {aspect: np.array(labels)[clips] for aspect, labels in found.items()}


@dataclass(frozen=True)
class Source:
    """Tokens that are read out.

    Attributes
    ----------
    training : (N, S, D), of the training windows, made without having seen these windows' captions.
    test : (M, S, D), of the test windows.
    """

    training: np.ndarray
    test: np.ndarray


def read_out(
    setup: Setup, judge: Judge, sources: Mapping[str, Source], clips: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """What a linear classifier finds in the test tokens of each of `sources`, trained on its training tokens.

    Parameters
    ----------
    clips : (N,), each training window's place among the training clips.

    Returns
    -------
    dict: for each source, class indices (M,) by aspect.
    """
    fitted: dict[int, tuple[Whitened, dict[str, Tensor]]] = {}  # sources may share their training tokens
    said = {}
    for name, source in sources.items():
        if len(source.training) != len(clips):
            raise MindvizError(f"expected tokens of {len(clips)} training windows, found {len(source.training)}")
        if id(source.training) not in fitted:
            fitted[id(source.training)] = _fit(source.training, training_labels(setup, judge, clips), judge)
        white, weights = fitted[id(source.training)]
        shown = white(flat(source.test))
        said[name] = {aspect: classify(w, shown) for aspect, w in weights.items()}
    return said


def _fit(tokens: np.ndarray, known: Mapping[str, np.ndarray], judge: Judge) -> tuple[Whitened, dict[str, Tensor]]:
    """Components of training tokens (N, S, D), and a classifier of them for each aspect of `known` labels (N,)."""
    white = Whitened.of(flat(tokens))
    x, weights = white(flat(tokens)), {}
    for aspect, found in known.items():
        labels, classes = torch.from_numpy(found), len(judge.config.classes(aspect))
        weights[aspect] = fit_classifier(x, labels, classes, best_penalty(x, labels, classes))
    return white, weights
