"""What the demo's encoders are asked: the object, the setting and the motion of a clip, and its layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindviz.simulate import films
from mindviz.simulate.sprites import OBJECTS
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.readout import Questions, fit_recall

LAYOUT = "layout"
LAYOUT_DIRECTIONS = 64

_ANSWERS = {
    "object": {one.name: one.phrase for one in OBJECTS},
    "setting": {name: phrase for name, (phrase, _) in films.SETTINGS.items()},
    "motion": dict(films.MOTIONS),
}


def caption_answers(captions: Sequence[str]) -> Tensor:
    """For each caption the answer to each question as 0 or 1, (M, R): the longest phrase that stands in it.

    Raises
    ------
    MindvizError
        A caption that answers one of the questions with none of its phrases.
    """
    found = torch.zeros(len(captions), sum(map(len, _ANSWERS.values())))
    for row, caption in enumerate(captions):
        first = 0
        for question, answers in _ANSWERS.items():
            phrases = list(answers.values())
            held = [i for i, phrase in enumerate(phrases) if phrase in caption]
            if not held:
                raise MindvizError(f"caption {caption!r}: expected one of {len(phrases)} answers to the {question}")
            found[row, first + max(held, key=lambda i: len(phrases[i]))] = 1
            first += len(phrases)
    return found


@dataclass(frozen=True)
class DemoQuestions:
    """The questions, what captions and layouts answer, and what the answers stand for.

    Attributes
    ----------
    answers : Tensor (M, R'), of each caption of the training films.
    layouts : Tensor (N, R''), of the clip that begins at each frame, of unit variance in the mean.
    recall : weight (S D, R) and bias (S D,) of `mindviz.extensions.prior.AnswerPrior`, the layout token last.
    """

    questions: Questions
    answers: Tensor
    layouts: Tensor
    recall: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, captions: Sequence[str], tokens: Tensor, layouts: Tensor) -> DemoQuestions:
        """From the captions with their tokens (M, S, D), and the layouts (N, D) of clips."""
        answers, mean = caption_answers(captions), layouts.mean(0)
        _, _, directions = torch.linalg.svd(layouts - mean, full_matrices=False)
        codes = (layouts - mean) @ directions[:LAYOUT_DIRECTIONS].T
        scale = codes.std()
        weight, bias = fit_recall(answers, tokens)
        stands_for = torch.block_diag(weight, scale * directions[:LAYOUT_DIRECTIONS].T)
        names, sizes = tuple(_ANSWERS), tuple(map(len, _ANSWERS.values()))
        asked = Questions((*names, LAYOUT), (*(tuple(_ANSWERS[n]) for n in names), ()), (*sizes, codes.shape[1]))
        return cls(asked, answers, codes / scale, (stands_for, torch.cat([bias, mean])))

    def targets(self, scans: TrainingScans, latents: LatentCorpus) -> Tensor:
        """What areas should say of training windows, (N, R): the mean over a clip's frames, and its layout."""
        frames = scans.first_frame[:, None] + torch.arange(scans.clip_frames)
        return torch.cat([self.answers[latents.caption_index[frames]].mean(1), self.layouts[scans.first_frame]], 1)
