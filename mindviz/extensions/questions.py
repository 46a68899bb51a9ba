"""The read-out by questions: attention over areas answers what is seen, where it happens and how it moves.

The published encoder maps a transformer's features to tokens. Here each question asks every area of the cortex, in
every scan of the window. What an area says is a linear code of its voxels, fitted beforehand in closed form and scaled
to unit variance, so that how much an area counts comes from attention alone: made uniform, it decodes badly. What the
areas say, weighed, is the answer; a prior (`mindviz.extensions.prior`) turns the answers to all questions into tokens.

The transformer takes no part. Letting its features move the attention from scan to scan was tried and gained nothing
(docs/beyond-the-paper.md), so the attention of a question is the same for all scans of a person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn

from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.extensions.prior import AnswerPrior
from mindviz.types import LayerAttention, MindvizError

READ_OUT = "read-out"
"""What the last layer of attention is called where there are questions."""


@dataclass(frozen=True)
class QuestionConfig(EncoderConfig):
    """An encoder that may be asked questions in place of the published transformer and head.

    Parameters
    ----------
    questions : their names, such as ``("object", "setting", "motion", "layout")``; none for the published head.
    sizes : for each question, the R_q numbers that an area says of it; R in all.
    answers : for each question, the names of its answers, which the numbers stand for one by one; empty for a question
        whose answer is the numbers themselves.
    key_dim : width of queries and area embeddings.
    """

    questions: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    answers: tuple[tuple[str, ...], ...] = ()
    key_dim: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.questions) == len(self.sizes) == len(self.answers) == len({*self.questions}):
            raise MindvizError(
                f"questions: expected a size and the answers of each, found {len(self.sizes)} sizes and "
                f"{len(self.answers)} lists of answers for {self.questions}"
            )
        wrong = [
            f"{name}: {size} numbers for {len(answers)} answers"
            for name, size, answers in zip(self.questions, self.sizes, self.answers, strict=True)
            if size < 1 or (answers and len(answers) != size)
        ]
        if wrong:
            raise MindvizError(f"questions: expected a number for each answer, found {wrong[0]}")
        if self.key_dim < 1:
            raise MindvizError(f"key_dim must be at least 1, found {self.key_dim}")

    def without_questions(self) -> QuestionConfig:
        """The published transformer and head on the same patches."""
        return dataclasses.replace(self, questions=(), sizes=(), answers=())


def questions_of(config: EncoderConfig) -> tuple[str, ...]:
    """The questions of an encoder, the heads of its last layer of attention; none with the published head."""
    return config.questions if isinstance(config, QuestionConfig) else ()


def attention_layers(config: EncoderConfig) -> list[str]:
    """What the layers of attention that an encoder tells of are called, in their order."""
    return [READ_OUT] if questions_of(config) else [f"layer {i + 1}" for i in range(config.depth)]


def attention_heads(config: EncoderConfig) -> list[str]:
    """What the heads of an encoder's layers are called: those of the read-out are its questions."""
    return list(questions_of(config)) or [f"head {i + 1}" for i in range(config.num_heads)]


class QuestionReadOut(nn.Module):
    """What areas say of the questions, weighed by attention: codes and prior are fitted in closed form and stay.

    A question q weighs area p in scan t by ``softmax_tp(query_q . (area_p + scan_t))``. Its answer is
    ``gain * sum_tp weight said[t, p] + bias``, where ``said = voxels @ codes``: logits of the answers where they have
    names.
    """

    def __init__(self, config: QuestionConfig) -> None:
        super().__init__()
        patches, count = config.patching.num_patches, len(config.questions)
        self.sizes, total = config.sizes, sum(config.sizes)
        self.voxels = [torch.from_numpy(place[place >= 0]) for place in config.patching.places()]
        self.codes = nn.Parameter(torch.zeros(config.window_size, config.num_voxels, total))
        self.queries = nn.Parameter(torch.zeros(count, config.key_dim))
        self.areas = nn.Parameter(torch.zeros(patches, config.key_dim))
        self.scans = nn.Parameter(torch.zeros(config.window_size, config.key_dim))
        self.gain, self.bias = nn.Parameter(torch.ones(total)), nn.Parameter(torch.zeros(total))
        self.own_gain = nn.Parameter(torch.ones(count, patches), requires_grad=False)
        self.prior = AnswerPrior(config.sizes, [bool(a) for a in config.answers], config.num_tokens, config.token_dim)

    def start(self) -> None:
        """Uniform attention."""
        nn.init.normal_(self.queries)
        for parameter in (self.areas, self.scans):
            nn.init.zeros_(parameter)

    def scramble(self) -> None:
        """Random codes, keys and prior, for an encoder that knows nothing: without codes it would say nothing."""
        nn.init.normal_(self.codes, std=len(self.voxels) ** 0.5 * self.codes.shape[1] ** -0.5)
        nn.init.normal_(self.areas)
        self.prior.scramble()

    def read(self, bold: Tensor, codes: Tensor | None = None) -> Tensor:
        """What each patch says, (B, T, P, R), of windows (B, T, V), by `codes` (T, V, R) or its own."""
        codes = (self.codes if codes is None else codes).to(bold)
        each = [einsum(bold[..., v], codes[:, v], "b t k, t k r -> b t r") for v in self.voxels]
        return torch.stack(each, dim=2)

    def weights(self) -> Tensor:
        """The softmax of each question over scans and patches, (Q, T, P)."""
        return question_weights(self.queries, self.areas, self.scans)

    def answer(self, said: Tensor, weights: Tensor | None = None) -> Tensor:
        """Answers (B, R) to all questions, of what patches say (B, T, P, R), by `weights` (B, Q, T, P) or its own."""
        weights = self.weights().expand(len(said), -1, -1, -1) if weights is None else weights
        return self.gain * gathered_answers(said, weights, self.sizes) + self.bias

    def alone(self, said: Tensor) -> Tensor:
        """The answers (B, P, R) that each area would give if it alone were asked, in the scans as it is now.

        Of named answers the logits: `own_gain` (Q, P) says how far an area is to be trusted by itself.
        """
        weights = self.weights()
        within = weights / weights.sum(1, keepdim=True)
        parts = enumerate(said.split(self.sizes, dim=-1))
        each = [self.own_gain[q, :, None] * einsum(within[q], part, "t p, b t p r -> b p r") for q, part in parts]
        return torch.cat(each, -1) + self.bias


def question_weights(queries: Tensor, areas: Tensor, scans: Tensor) -> Tensor:
    """The attention (Q, T, P) of queries (Q, E) to keys of areas (P, E) and scans of the window (T, E)."""
    keys = areas + scans[:, None]
    logits = einsum(queries, keys, "q e, t p e -> q t p") * queries.shape[1] ** -0.5
    return logits.flatten(1).softmax(1).view(logits.shape)


def gathered_answers(said: Tensor, weights: Tensor, sizes: Sequence[int]) -> Tensor:
    """What patches say (B, T, P, R), each question's part of R weighed by its attention (B, Q, T, P): (B, R)."""
    parts = enumerate(said.split(tuple(sizes), dim=-1))
    return torch.cat([einsum(weights[:, q], part, "b t p, b t p r -> b r") for q, part in parts], 1)


class QuestionEncoder(FMRIEncoder):
    """An encoder that is a `QuestionReadOut`, in the place of the published transformer and head."""

    config: QuestionConfig

    def __init__(self, config: QuestionConfig) -> None:
        super().__init__(config)
        self.readout.start()

    def add_transformer(self) -> None:
        """None is needed: areas are read directly."""

    def add_head(self) -> None:
        self.readout = QuestionReadOut(self.config)

    def encode(
        self, bold: Tensor, attention: bool = False, said: Tensor | None = None
    ) -> tuple[Tensor, list[LayerAttention[Tensor]]]:
        """As `FMRIEncoder.encode`; the one layer of attention has the questions as its heads: spatial (B T, Q, 1, P).

        A row of it sums to 1 in the mean over the scans of the window, which share the softmax. `said` (B, T, P, R)
        stands in for what the read-out's own codes say of the patches: in training, those of codes that were fitted
        without these windows.
        """
        self._check(bold)
        said = self.readout.read(bold) if said is None else said
        scans = bold.shape[1]
        shares = repeat(self.readout.weights() * scans, "q t p -> (b t) q 1 p", b=len(bold))
        # from the shares that are handed out, so that gradients lead to them
        weights = rearrange(shares, "(b t) q 1 p -> b q t p", t=scans) / scans
        tokens = self.readout.prior(self.readout.answer(said, weights))
        return tokens, [LayerAttention(shares, None)] if attention else []

    def answers(self, bold: Tensor) -> Tensor:
        """Answers (B, R) to all questions, in their order, of windows (B, T, V)."""
        self._check(bold)
        return self.readout.answer(self.readout.read(bold))


def make_encoder(config: EncoderConfig) -> FMRIEncoder:
    """The encoder that a configuration describes: the paper's, or with questions."""
    if isinstance(config, QuestionConfig) and config.questions:
        return QuestionEncoder(config)
    return FMRIEncoder(config)
