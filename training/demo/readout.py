"""The read-out by questions: codes of areas in closed form, how much each area counts, what answers stand for.

What codes say of the scans that they were fitted on is far too good, so whatever trains on them (attention, generator)
sees what is said of each block of neighbouring windows by codes that were fitted on the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.brain.parcellations import Parcellation
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.encoder.patching import Patching
from mindviz.extensions.prior import AnswerPrior
from mindviz.extensions.questions import (
    QuestionConfig,
    QuestionEncoder,
    gathered_answers,
    question_weights,
    questions_of,
)
from mindviz.types import MindvizError
from training.engine.batch import Batch
from training.stages.encoders import PlainEncoder

CODE_PENALTY = 1000.0
"""Of ridge regression from the voxels of an area, which have a deviation of 1."""
FOLDS = 6
FEWEST_VOXELS = 4
"""An area with fewer kept voxels is left out."""
RECALL_PENALTY = 1e-3
OWN_GAINS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.2, 3.3)
FIRST_GAIN = 3.0
"""Of the answers when attention begins to learn."""


# ---------------------------------------------------------------------- areas
def with_areas(config: EncoderConfig, vertices: np.ndarray, parcels: Parcellation) -> Any:
    """The configuration with the areas of `parcels` as patches, for the voxels at `vertices` (V,).

    Raises
    ------
    MindvizError
        Fewer than two areas have `FEWEST_VOXELS` voxels.
    """
    labels = parcels.labels[vertices]
    kept = [int(i) for i in np.unique(labels) if i > 0 and (labels == i).sum() >= FEWEST_VOXELS]
    if len(kept) < 2:
        raise MindvizError(
            f"parcellation {parcels.name}: expected two areas with {FEWEST_VOXELS} of {len(vertices)} voxels, "
            f"found {len(kept)}"
        )
    area = np.full(len(vertices), -1)
    for index, label in enumerate(kept):
        area[labels == label] = index
    return replace(
        config,
        num_voxels=len(vertices),
        patch_size=int(np.bincount(area[area >= 0]).max()),
        padding="minimal",
        areas=tuple(area.tolist()),
        area_names=tuple(parcels.names[i] for i in kept),
    )


# ---------------------------------------------------------------------- questions
@dataclass(frozen=True)
class Questions:
    """What is asked: names, the names of the answers (none where they are numbers), and how many numbers each has."""

    names: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...]

    def put_into(self, config: Any) -> Any:
        """The configuration of an encoder that is asked these questions."""
        return replace(config, questions=self.names, answers=self.answers, sizes=self.sizes)


def principal_questions(tokens: Tensor, count: int = 4, size: int = 32) -> tuple[Questions, Tensor, Tensor]:
    """Questions for tokens (N, S, D) of any captions: groups of their principal directions, the largest first.

    Returns
    -------
    questions, targets (N, R) of unit variance, and the recall (S D, R) that leads back to centred tokens.
    """
    flat = tokens.flatten(1) - tokens.flatten(1).mean(0)
    values, directions = torch.linalg.eigh(flat.T @ flat / len(flat))
    rank = min(count * size, int((values > 1e-6 * values[-1]).sum()))
    directions = directions.flip(1)[:, :rank]
    spread = values.flip(0)[:rank].sqrt()
    sizes = tuple(len(part) for part in torch.arange(rank).split(size))
    names = tuple(f"components {a + 1} to {a + n}" for a, n in zip(np.cumsum((0, *sizes)), sizes, strict=False))
    return Questions(names, ((),) * len(sizes), sizes), flat @ directions / spread, directions * spread


# ---------------------------------------------------------------------- codes
@dataclass(frozen=True)
class AreaFit:
    """Codes of one person's areas, and what they say of windows that they were not fitted on.

    Attributes
    ----------
    codes : Tensor (T, V, R); fold_codes : Tensor (K, T, V, R), fitted without the windows of fold k.
    fold : Tensor (N,), of each training window.
    said : Tensor (N, T, P, R), by the codes of each window's fold; unit variance for each scan, area and question.
    targets : Tensor (N, R), what was to be said.
    """

    codes: Tensor
    fold_codes: Tensor
    fold: Tensor
    said: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.said)


def fit_areas(
    windows: Tensor, targets: Tensor, patching: Patching, sizes: Sequence[int], penalty: float = CODE_PENALTY
) -> AreaFit:
    """Ridge regression from the voxels of each area in each scan of windows (N, T, V), normalised, to targets (N, R).

    Folds are blocks of neighbouring windows, since the clips of one shot are alike.
    """
    if len(windows) != len(targets):
        raise MindvizError(f"codes need a target for each window, found {len(windows)} and {len(targets)}")
    if len(windows) < 2 * FOLDS:
        raise MindvizError(f"codes need {2 * FOLDS} windows for {FOLDS} folds, found {len(windows)}")
    count, scans, _ = windows.shape
    places, total = patching.places(), targets.shape[1]
    fold = torch.arange(count) * FOLDS // count
    codes = torch.zeros(FOLDS + 1, scans, windows.shape[2], total)
    said = torch.zeros(count, scans, len(places), total)
    for p, place in enumerate(places):
        voxels = torch.from_numpy(place[place >= 0])
        for t in range(scans):
            maps, unseen = _ridge(windows[:, t, voxels].float(), targets, fold, penalty)
            spread = torch.cat([part.std().clamp_min(1e-6).expand(part.shape[1]) for part in unseen.split(sizes, 1)])
            codes[:, t, voxels] = maps / spread
            said[:, t, p] = unseen / spread
    return AreaFit(codes[FOLDS], codes[:FOLDS], fold, said, targets)


def _ridge(x: Tensor, y: Tensor, fold: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Maps (K + 1, V, R) without each fold and of all, and what the former say of their folds (N, R)."""
    gram, moment, load = x.T @ x, x.T @ (y - y.mean(0)), penalty * torch.eye(x.shape[1])
    maps, unseen = [], torch.empty_like(y)
    for k in range(FOLDS):
        own = fold == k
        rest = y[~own] - y[~own].mean(0)
        maps.append(torch.linalg.solve(gram - x[own].T @ x[own] + load, x[~own].T @ rest))
        unseen[own] = x[own] @ maps[-1]
    return torch.stack([*maps, torch.linalg.solve(gram + load, moment)]), unseen


# ---------------------------------------------------------------------- attention
@dataclass(frozen=True)
class SharedConfig:
    """Sizes of `SharedQuestions`; as in `QuestionConfig`, but for the areas of all people, by name."""

    area_names: tuple[str, ...]
    questions: tuple[str, ...]
    sizes: tuple[int, ...]
    answers: tuple[tuple[str, ...], ...]
    key_dim: int
    window_size: int
    num_tokens: int
    token_dim: int

    @classmethod
    def of(cls, configs: Iterable[QuestionConfig]) -> SharedConfig:
        """What the encoders of people with the same questions share."""
        every = list(configs)
        names = tuple(sorted({name for c in every for name in c.area_names}))
        return cls(names, **{f.name: getattr(every[0], f.name) for f in fields(cls) if f.name != "area_names"})


class SharedQuestions(nn.Module):
    """Queries, keys, gains and prior of a `QuestionReadOut` for the areas of many people."""

    def __init__(self, config: SharedConfig, recall: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.config, total = config, sum(config.sizes)
        self.queries = nn.Parameter(torch.randn(len(config.questions), config.key_dim))
        self.areas = nn.Parameter(torch.zeros(len(config.area_names), config.key_dim))
        self.scans = nn.Parameter(torch.zeros(config.window_size, config.key_dim))
        self.gain, self.bias = nn.Parameter(torch.full((total,), FIRST_GAIN)), nn.Parameter(torch.zeros(total))
        named = [bool(a) for a in config.answers]
        self.prior = AnswerPrior(config.sizes, named, config.num_tokens, config.token_dim).requires_grad_(False)
        if recall is not None:
            self.prior.recall.weight.copy_(recall[0])
            self.prior.recall.bias.copy_(recall[1])

    def rows(self, config: EncoderConfig) -> Tensor:
        """Where the areas of a person stand among all, (P,); -1 for one that nobody had."""
        place = {name: i for i, name in enumerate(self.config.area_names)}
        return torch.tensor([place.get(name, -1) for name in config.area_names])

    def forward(self, said: Tensor, rows: Tensor) -> Tensor:
        """Answers (B, R) of what a person's areas say (B, T, P, R); `rows` (P,) of these areas."""
        weights = question_weights(self.queries, self.areas[rows], self.scans)
        gathered = gathered_answers(said, weights.expand(len(said), -1, -1, -1), self.config.sizes)
        return self.gain * gathered + self.bias

    @torch.no_grad()
    def encoder(self, config: QuestionConfig, fit: AreaFit) -> QuestionEncoder:
        """The encoder of a person, in closed form; an area that nobody had is asked like the mean of all areas."""
        found = QuestionEncoder(config)
        readout, rows = found.readout, self.rows(config)
        readout.areas.copy_(torch.cat([self.areas, self.areas.mean(0, keepdim=True)])[rows])
        for name in ("queries", "scans", "gain", "bias"):
            getattr(readout, name).copy_(getattr(self, name))
        readout.prior.load_state_dict(self.prior.state_dict())
        readout.codes.copy_(fit.codes)
        freeze_fitted(found)
        readout.own_gain.copy_(own_gains(found, fit))
        return found


class AttendTask:
    """Which areas to ask: cross-entropy of named answers, squared error of the others, on what folds unseen say."""

    name = "attend"

    def __init__(self, people: Sequence[tuple[QuestionConfig, AreaFit]], recall: tuple[Tensor, Tensor]) -> None:
        """`people`: the encoder's configuration and the codes of each; `recall`: of the prior, which is kept."""
        self.config = config = SharedConfig.of(c for c, _ in people)
        self.module = SharedQuestions(config, recall)
        self.people = [(self.module.rows(c), fit) for c, fit in people]
        every = torch.cat([fit.targets for _, fit in self.people])
        with torch.no_grad():
            start = zip(every.mean(0).split(config.sizes), config.answers, strict=True)
            self.module.bias.copy_(torch.cat([m.clamp_min(1e-4).log() if named else m for m, named in start]))

    def __len__(self) -> int:
        return sum(len(fit) for _, fit in self.people)

    def description(self) -> dict[str, Any]:
        digest = sha256()
        for rows, fit in self.people:
            for tensor in (rows, fit.said, fit.targets):
                digest.update(tensor.contiguous().numpy().tobytes())
        return {"questions": asdict(self.config), "people": digest.hexdigest()}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        rows, fit = self.people[int(torch.randint(len(self.people), (), generator=generator))]
        which = indices % len(fit)
        return Batch({"said": fit.said[which].float(), "targets": fit.targets[which]}, {"rows": rows})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        answers = model(batch["said"], batch["rows"]).split(self.config.sizes, 1)
        asked = zip(self.config.questions, answers, batch["targets"].split(self.config.sizes, 1), strict=True)
        errors = {
            name: functional.cross_entropy(answer, wanted) if named else functional.mse_loss(answer, wanted)
            for (name, answer, wanted), named in zip(asked, self.config.answers, strict=True)
        }
        return torch.stack(list(errors.values())).sum(), {name: e.item() for name, e in errors.items()}


# ---------------------------------------------------------------------- what answers stand for
def fit_recall(targets: Tensor, tokens: Tensor, penalty: float = RECALL_PENALTY) -> tuple[Tensor, Tensor]:
    """Least squares from targets (M, R), answers that are certain, to tokens (M, S, D): weight (S D, R), bias."""
    given = functional.pad(targets, (0, 1), value=1.0).double()
    load = penalty * torch.eye(given.shape[1], dtype=given.dtype)
    found = torch.linalg.solve(given.T @ given + load, given.T @ tokens.flatten(1).double()).float()
    return found[:-1].T.contiguous(), found[-1]


# ---------------------------------------------------------------------- encoders in training
@torch.no_grad()
def own_gains(encoder: QuestionEncoder, fit: AreaFit) -> Tensor:
    """How far each area is to be trusted by itself, (Q, P): the gain of `OWN_GAINS` with the least cross-entropy.

    Of what it says of unseen folds. A question whose answer is numbers has 1.
    """
    readout, config = encoder.readout, encoder.config
    readout.own_gain.fill_(1.0)
    alone = torch.cat([readout.alone(said) for said in fit.said.split(512)]) - readout.bias
    found = torch.ones_like(readout.own_gain)
    parts = zip(alone.split(config.sizes, 2), fit.targets.split(config.sizes, 1), config.answers, strict=True)
    biases = readout.bias.split(config.sizes)
    for q, (said, wanted, named) in enumerate(parts):
        if named:
            losses = [-((g * said + biases[q]).log_softmax(2) * wanted[:, None]).sum(2).mean(0) for g in OWN_GAINS]
            found[q] = torch.tensor(OWN_GAINS)[torch.stack(losses).argmin(0)]
    return found


def freeze_fitted(encoder: QuestionEncoder) -> None:
    """Keep codes and prior, which are fitted in closed form, from learning."""
    encoder.readout.codes.requires_grad_(False)
    encoder.readout.prior.requires_grad_(False)


class CrossFitted(PlainEncoder):
    """An encoder with questions and the codes of each fold: a training window is read by those fitted without it."""

    encoder: QuestionEncoder

    def __init__(self, encoder: QuestionEncoder, fit: AreaFit) -> None:
        super().__init__(encoder)
        self.fold = fit.fold  # no buffer: averaged weights would average it, too
        freeze_fitted(encoder)
        self.fold_codes: Tensor
        self.register_buffer("fold_codes", fit.fold_codes, persistent=False)

    def forward(self, windows: Tensor, which: Tensor) -> Tensor:
        return self.encoder.encode(windows, said=self.said(windows, which))[0]

    def said(self, windows: Tensor, which: Tensor) -> Tensor:
        """What the patches of windows (B, T, V) say by the codes of each one's fold, (B, T, P, R)."""
        fold, read = self.fold.to(which.device)[which], self.encoder.readout.read
        rows = [torch.nonzero(fold == k)[:, 0] for k in range(len(self.fold_codes))]
        said = torch.cat([read(windows[r], codes) for r, codes in zip(rows, self.fold_codes, strict=True)])
        return said[torch.cat(rows).argsort()]


def in_training(encoder: FMRIEncoder, fit: AreaFit | None) -> PlainEncoder:
    """An encoder as the stages train it: cross-fitted where it is asked questions.

    Raises
    ------
    MindvizError
        A fit is given for an encoder without questions, or none for one with them.
    """
    asked = questions_of(encoder.config)
    if (fit is None) == bool(asked):
        raise MindvizError(f"expected codes where there are questions; found {'none' if fit is None else 'some'}")
    if fit is None:
        return PlainEncoder(encoder)
    assert isinstance(encoder, QuestionEncoder)
    return CrossFitted(encoder, fit)


@torch.inference_mode()
def unseen_answers(encoder: QuestionEncoder, fit: AreaFit, batch: int = 256) -> Tensor:
    """Answers (N, R) to training windows, each by the codes of its fold: what others may learn from."""
    return torch.cat([encoder.readout.answer(said) for said in fit.said.split(batch)])
