"""What a subject's encoder would have said of clips that no subject saw: the generator learns from these, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from mindviz.extensions.prior import AnswerPrior
from mindviz.extensions.questions import QuestionEncoder

CLEAREST = 0.3
"""The least noise that a teller tells with, in that of training windows: test scans are means of more repeats."""


@dataclass(frozen=True)
class Teller:
    """Tokens that one subject's encoder might say of clips that it never saw: answers, with errors drawn from its own.

    Attributes
    ----------
    prior : of the encoder.
    into : Tensor (R, R), from what the answers should be to what they are in the mean; rest : Tensor (N, R), the errors
    back : Tensor (S D, R), from centred tokens to what the answers should be
    clearest : the least share of the errors that is added
    """

    prior: AnswerPrior
    into: Tensor
    rest: Tensor
    back: Tensor
    clearest: float = CLEAREST

    @classmethod
    def of(cls, encoder: QuestionEncoder, answers: Tensor, targets: Tensor) -> Teller:
        """From the answers to training windows (N, R) by codes that do not know them, and the right ones."""
        into = torch.linalg.lstsq(targets, answers, driver="gelsd").solution
        recall = encoder.readout.prior.recall.weight.detach()
        return cls(encoder.readout.prior, into, answers - targets @ into, torch.linalg.pinv(recall).T)

    @torch.no_grad()
    def __call__(self, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Tokens (B, S, D) instead of those (B, S, D) that would be right."""
        targets = (wanted.flatten(1) - self.prior.recall.bias) @ self.back
        rows = torch.randint(len(self.rest), (len(wanted),), generator=generator)
        level = self.clearest + (1 - self.clearest) * torch.rand(len(wanted), 1, generator=generator)
        found: Tensor = self.prior(targets @ self.into + level * self.rest[rows])
        return found


@dataclass(frozen=True)
class Heard:
    """What a subject's encoder said of clips, before co-training.

    Attributes
    ----------
    tokens : Tensor (N, S, D), of its training windows by codes that do not know them
    negative : Tensor (S, D), of its mean scan
    first_frame : Tensor (N,), where each window's clip begins
    teller : what it would say of other clips
    """

    tokens: Tensor
    negative: Tensor
    first_frame: Tensor
    teller: Teller


def heard_digest(heard: Sequence[Heard]) -> str:
    """A hash of what subjects said."""
    digest = sha256()
    for one in heard:
        digest.update(repr(one.teller.clearest).encode())
        for tensor in (one.tokens, one.negative, one.first_frame, one.teller.into, one.teller.rest, one.teller.back):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
