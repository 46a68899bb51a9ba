"""The prior behind the read-out: from uncertain answers to the tokens that are to be expected of them.

MindEye2 (Scotti et al. 2024) and DALL-E 2 (Ramesh et al. 2022) train a diffusion prior for this. Where the answers to a
question are few and known, what to expect has a closed form: the mean of what each answer stands for, weighed by its
probability. Linear regression shrinks an uncertain answer towards the mean of all captions; this decides, as far as the
scan does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn


class AnswerPrior(nn.Module):
    """Answers (B, R) to tokens (B, S, D).

    A question whose answers have names (`named`) gives their probabilities, the softmax of its part of the answers; any
    other gives its numbers as they are. `recall` maps both to tokens, linearly; it is fitted in closed form.
    """

    def __init__(self, sizes: Sequence[int], named: Sequence[bool], num_tokens: int, token_dim: int) -> None:
        super().__init__()
        self.sizes, self.named, self.num_tokens = tuple(sizes), tuple(named), num_tokens
        self.recall = nn.Linear(sum(self.sizes), num_tokens * token_dim)

    def scramble(self) -> None:
        """Random tokens for all answers."""
        nn.init.xavier_uniform_(self.recall.weight)

    def expected(self, answers: Tensor) -> Tensor:
        """Probabilities of named answers, and the numbers of the others, (B, R)."""
        parts = zip(answers.split(self.sizes, dim=1), self.named, strict=True)
        return torch.cat([part.softmax(1) if named else part for part, named in parts], 1)

    def forward(self, answers: Tensor) -> Tensor:
        return rearrange(self.recall(self.expected(answers)), "b (s d) -> b s d", s=self.num_tokens)
