"""Many people, the same questions: learnt once from all of them, put into the encoder of a new one in closed form.

What is a person's own is what the voxels of an area say, which ridge regression finds in seconds. Which areas to ask,
how far to trust them and what the answers stand for is the same for all people, as areas are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindviz.brain import parcellations
from mindviz.data import Dataset
from mindviz.extensions.questions import QuestionConfig, QuestionEncoder
from mindviz.storage import load_module, read_config, save_module
from mindviz.types import MindvizError
from training.data.pretrained import GeneratorParts, film_notes, tokens_of_captions
from training.data.scans import TrainingScans, load_scans
from training.demo.readout import (
    AreaFit,
    AttendTask,
    SharedConfig,
    SharedQuestions,
    fit_areas,
    principal_questions,
    with_areas,
)
from training.engine.loop import LoopConfig, train

PEOPLES_PARCELLATION = "hcp-mmp"


def window_tokens(parts: GeneratorParts, dataset: Dataset, scans: TrainingScans, runs: tuple[str, ...]) -> Tensor:
    """The mean tokens (N, S, D) of the captions of each training window's clip; `runs` are those of `scans`."""
    notes = film_notes(dataset, runs)
    frames = scans.first_frame[:, None] + torch.arange(scans.clip_frames)
    return tokens_of_captions(parts, notes.vocabulary)[torch.from_numpy(notes.caption_index)[frames]].mean(1)


def runs_of(dataset: Dataset, subject: str, count: int | None) -> tuple[str, ...]:
    """The first `count` training runs of a subject; all of them if None.

    Raises
    ------
    MindvizError
        It has fewer.
    """
    runs = dataset.runs(subject, "train")
    if count is not None and not 1 <= count <= len(runs):
        raise MindvizError(f"--runs: expected 1 to {len(runs)}, the training runs of subject {subject}, found {count}")
    return runs[:count]


def person_config(config: QuestionConfig, dataset: Dataset, scans: TrainingScans) -> QuestionConfig:
    """The configuration of a person's encoder, with areas as patches; questions are as in `config`."""
    found: QuestionConfig = with_areas(
        config, scans.data.vertices, parcellations.load(PEOPLES_PARCELLATION, dataset.mesh)
    )
    return found


def population(
    config: QuestionConfig,
    dataset: Dataset,
    subjects: Sequence[str],
    parts: GeneratorParts,
    loop: LoopConfig,
    folder: Path,
) -> SharedQuestions:
    """Learn which areas to ask from several subjects; their captions' principal directions are the questions."""
    scans = {s: load_scans(dataset, s) for s in subjects}
    tokens = {s: window_tokens(parts, dataset, scan, dataset.runs(s, "train")) for s, scan in scans.items()}
    every = torch.cat(list(tokens.values()))
    questions, targets, recall = principal_questions(every)
    asked = questions.put_into(config)
    fitted = []
    for scan, wanted in zip(scans.values(), targets.split([len(t) for t in tokens.values()]), strict=True):
        own = person_config(asked, dataset, scan)
        fitted.append((own, fit_areas(scan.windows, wanted, own.patching, own.sizes)))
    task = AttendTask(fitted, (recall, every.flatten(1).mean(0)))
    train(task, loop, folder)
    return task.module


def save_population(folder: Path, shared: SharedQuestions) -> None:
    save_module(folder, shared, shared.config)


def load_population(folder: Path) -> SharedQuestions:
    """What `save_population` wrote."""
    shared = SharedQuestions(read_config(folder, SharedConfig))
    load_module(folder, shared)
    return shared


def asked_of(shared: SharedQuestions) -> dict[str, Any]:
    """The questions of a population, as fields of a `QuestionConfig`."""
    return {name: getattr(shared.config, name) for name in ("questions", "sizes", "answers", "key_dim")}


def wanted_answers(encoder: QuestionEncoder | SharedQuestions, tokens: Tensor) -> Tensor:
    """What areas should say (N, R) of windows whose captions have these tokens (N, S, D).

    Raises
    ------
    MindvizError
        Questions whose answers have names: what a caption answers cannot be told from its tokens.
    """
    if any(encoder.config.answers):
        named = [q for q, a in zip(encoder.config.questions, encoder.config.answers, strict=True) if a]
        raise MindvizError(f"expected questions of principal directions, found named answers to {', '.join(named)}")
    recall = (encoder.prior if isinstance(encoder, SharedQuestions) else encoder.readout.prior).recall
    return (tokens.flatten(1) - recall.bias) @ torch.linalg.pinv(recall.weight).T


def adapt(
    config: QuestionConfig, dataset: Dataset, scans: TrainingScans, tokens: Tensor, shared: SharedQuestions
) -> tuple[QuestionEncoder, AreaFit]:
    """The encoder of a new person from a few of their runs, in closed form.

    Raises
    ------
    MindvizError
        No area of the person is one of the population's, or the windows or tokens are others than theirs.
    """
    c = shared.config
    tokens_now = (scans.windows.shape[1], *tokens.shape[1:])
    if tokens_now != (c.window_size, c.num_tokens, c.token_dim):
        raise MindvizError(
            f"population: expected windows of {c.window_size} scans and {c.num_tokens} tokens of {c.token_dim}, found "
            f"{tokens_now[0]} scans and {tokens_now[1]} tokens of {tokens_now[2]}"
        )
    own = person_config(config, dataset, scans)
    new = sorted(set(own.area_names) - set(c.area_names))
    if len(new) == len(own.area_names):
        raise MindvizError(f"population: expected areas of {c.area_names[:3]}…, found only others: {tuple(new[:3])}…")
    if new:
        print(f"adapt: {len(new)} areas that nobody of the population had: {', '.join(new)}", flush=True)
    fit = fit_areas(scans.windows, wanted_answers(shared, tokens), own.patching, own.sizes)
    return shared.encoder(own, fit), fit
