"""What a scan answers to the questions of its decoder, and what single areas say of them. Knows nothing of gradio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mindviz.extensions.questions import QuestionEncoder
from mindviz.session.workspace import Workspace
from mindviz.types import Window

MOST_AREAS, MOST_ANSWERS = 6, 2
LEAST = 0.01
"""Second answers less likely than this are not told."""


@dataclass(frozen=True)
class AreaSays:
    """An area that a question asks: its share of the attention (0..1), and its own likeliest answers alone."""

    area: str
    share: float
    answers: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Answered:
    """A question, the likeliest answers with their probabilities (none where they are numbers), whom it asks most."""

    question: str
    answers: tuple[tuple[str, float], ...]
    areas: tuple[AreaSays, ...]


@torch.inference_mode()
def answers_of(workspace: Workspace, window: Window, areas: int = MOST_AREAS) -> list[Answered]:
    """What a window answers to each question, the `areas` that count most with what each alone would have said.

    Empty for an encoder that is asked no questions.
    """
    decoder = workspace.decoder
    encoder = decoder.encoder(window.subject)
    if not isinstance(encoder, QuestionEncoder):
        return []
    bold = torch.from_numpy(decoder.normalise(window.bold, window.subject, window.run_std))[None]
    readout, config = encoder.readout, encoder.config
    said = readout.read(bold.to(decoder.device).float())
    whole, alone = readout.answer(said)[0].cpu(), readout.alone(said)[0].cpu()
    shares = readout.weights().sum(1).cpu()  # of areas, over the scans of the window
    found = []
    parts = zip(config.questions, config.answers, whole.split(config.sizes), alone.split(config.sizes, 1), strict=True)
    for (question, names, answer, each), share in zip(parts, shares, strict=True):
        asked = share.argsort(descending=True)[:areas].tolist()
        said_by = tuple(AreaSays(config.area_names[p], float(share[p]), _likeliest(names, each[p])) for p in asked)
        found.append(Answered(question, _likeliest(names, answer), said_by))
    return found


def _likeliest(names: tuple[str, ...], logits: torch.Tensor) -> tuple[tuple[str, float], ...]:
    if not names:
        return ()
    likely = logits.softmax(0)
    best = likely.argsort(descending=True)[:MOST_ANSWERS].tolist()
    return tuple((names[i], float(likely[i])) for n, i in enumerate(best) if n == 0 or likely[i] >= LEAST)


def answers_record(found: list[Answered]) -> list[dict[str, Any]]:
    """The same as JSON: shares and probabilities from 0 to 1."""
    return [
        {
            "question": one.question,
            "answers": [{"answer": name, "probability": p} for name, p in one.answers],
            "areas": [
                {
                    "area": a.area,
                    "attention": a.share,
                    "alone": [{"answer": name, "probability": p} for name, p in a.answers],
                }
                for a in one.areas
            ],
        }
        for one in found
    ]
