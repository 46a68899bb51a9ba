"""Are the maps right? Each method's mean map against the planted truth of a simulated subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from mindviz.attribution.explainer import Explainer
from mindviz.attribution.methods import METHODS
from mindviz.data import Truth
from mindviz.data.whole_runs import run_scans
from mindviz.evaluate.setup import Setup
from mindviz.extensions.questions import READ_OUT, attention_layers
from mindviz.metrics.cortex import truth_intervals, truth_score
from mindviz.types import MindvizError

AIM = 0.9
"""The AUROC that at least one lesion or gradient method should reach."""
DEPENDENCE = ("gradient_pattern", "integrated_gradients", "lesion_patch", "lesion_area")
"""Lesion and gradient methods: maps of a single scan, through the whole encoder."""
NO_TRUTH = "no truth is planted in this dataset, so whether the maps of the cortex tell it cannot be checked"
WITHOUT_INTERVAL = frozenset({"pattern", *(name for name, method in METHODS.items() if method.of_run)})
"""Methods whose maps of all clips use the same scans, those of the run or of training, so that a bootstrap over the
shots of some clips would make the intervals too narrow."""
_BOTH = ("untrained", "full")


@dataclass(frozen=True)
class Agreement:
    """Agreement of a mean map with the truth (`mindviz.metrics.cortex.TruthScore`); None where undefined.

    `auroc`: voxels that respond to what is seen against those that do not. `rho`: Spearman correlation with the noise
    ceiling among those that respond. Intervals are low and high, 95 %, from a bootstrap over the shots of the clips;
    methods in `WITHOUT_INTERVAL` have none.
    """

    auroc: float | None
    auroc_interval: tuple[float, float] | None
    rho: float | None
    rho_interval: tuple[float, float] | None


@dataclass(frozen=True)
class MapScore:
    """The agreement of one method, and of the same method on an untrained encoder (None if not applicable)."""

    method: str
    name: str
    trained: Agreement
    untrained: Agreement | None


@dataclass(frozen=True)
class Planted:
    """The section of a report. `missing` is a clause that says why there is none; `scores` is then empty."""

    scores: tuple[MapScore, ...] = ()
    clips: int = 0
    answering: int = 0
    others: int = 0
    missing: str = ""

    @property
    def about(self) -> str:
        """A description of the table."""
        reached = [
            s.name
            for s in self.scores
            if s.method in DEPENDENCE and s.trained.auroc is not None and s.trained.auroc >= AIM
        ]
        return (
            f"The mean map of {self.clips} clips, evenly spread. AUROC: how often one of the {self.answering} voxels "
            f"that answer to what is seen lies above one of the {self.others} that do not (0.5 is chance). Spearman: "
            "with the noise ceiling, within those that answer. Intervals: 95 %, bootstrap over the shots of these "
            f"clips{self._without}. Untrained: the same of an encoder of random weights, which knows the covariance of "
            f"the scans but nothing of the film. {AIM:.2f} is to be reached by a lesion or gradient method: "
            f"{'it is by ' + ', '.join(reached) if reached else 'none does'}."
        )

    @property
    def _without(self) -> str:
        """Which methods have no intervals, and why."""
        names = " and ".join(s.name for s in self.scores if s.method in WITHOUT_INTERVAL)
        why = "the maps of all clips are made of the same scans and hardly differ, which tells nothing of other films"
        return f"; none for {names}, where {why}" if names else ""

    def record(self) -> dict[str, Any]:
        """The section as JSON."""
        return {"missing": self.missing} if self.missing else {"about": self.about, **asdict(self)}


def planted_truth(setup: Setup, seed: int = 0) -> Planted:
    """Score every method that the checkpoint supports, without decoding; `seed` is for the bootstrap.

    This comes last in a long report, so an error does not abort it but is reported in its place (`Planted.missing`).
    """
    try:
        return _scored(setup, seed)
    except MindvizError as error:
        return Planted(missing=str(error).rstrip("."))


def _scored(setup: Setup, seed: int) -> Planted:
    truth = setup.dataset.truth(setup.subject)
    if truth is None:
        return Planted(missing=NO_TRUTH)
    if setup.options.map_clips < 1:
        return Planted(missing="maps were not held against the planted truth (--map-clips 0)")
    if setup.decoder.data(setup.subject) is None:
        return Planted(missing="the checkpoint stores no mean scan, so none of its maps can be made")
    chosen = np.unique(np.linspace(0, setup.count - 1, min(setup.options.map_clips, setup.count)).round().astype(int))
    vertices = setup.decoder.vertices(setup.subject)
    answers = truth.answers[vertices]
    scans = run_scans(setup.dataset, setup.subject)
    untrained, full = (Explainer(setup.decoder, setup.subject, stage, scans) for stage in _BOTH)
    scores = [
        MapScore(
            method,
            name,
            _agreement(setup, full, truth, chosen, method, layer, seed),
            None if method == "pattern" else _agreement(setup, untrained, truth, chosen, method, layer, seed),
        )
        for method, name, layer in tqdm(list(_asked(full)), desc="maps", mininterval=5)
    ]
    return Planted(tuple(scores), len(chosen), int(answers.sum()), int((~answers).sum()))


def _asked(explainer: Explainer) -> Iterator[tuple[str, str, int]]:
    """Method, name and layer of each map: attention of all layers, and of the read-out if there is one."""
    for method, known in METHODS.items():
        if method == "pattern" and explainer.data.explained is None:
            continue
        if not known.by_layer:
            yield method, known.name, -1
            continue
        layers = attention_layers(explainer.config)
        yield method, f"{known.name} (all layers)" if len(layers) > 1 else f"{known.name} ({layers[0]})", -1
        if READ_OUT in layers[1:]:
            yield method, f"{known.name} ({READ_OUT})", len(layers) - 1


def _agreement(
    setup: Setup, explainer: Explainer, truth: Truth, chosen: np.ndarray, method: str, layer: int, seed: int
) -> Agreement:
    vertices = explainer.data.vertices
    answers, ceiling = truth.answers[vertices], truth.noise_ceiling[vertices]
    windows = [setup.dataset.window(setup.subject, setup.run, int(i)) for i in chosen]
    maps = explainer.maps(windows, method, layer)
    shots = setup.test_set.shots[chosen]
    score = truth_score(maps.mean(axis=0), answers, ceiling)
    if method in WITHOUT_INTERVAL or len(np.unique(shots)) < 2:
        return Agreement(_known(score.auroc), None, _known(score.rho_within), None)
    spread = truth_intervals(maps, answers, ceiling, shots, seed=seed)
    return Agreement(_known(score.auroc), _both(spread.auroc), _known(score.rho_within), _both(spread.rho_within))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _both(interval: tuple[float, float]) -> tuple[float, float] | None:
    return None if np.isnan(interval).any() else interval
