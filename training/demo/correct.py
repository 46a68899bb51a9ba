"""Teach the read-out's correction: from the noisy code of a window to the code of its caption, subject by subject.

The codes are those of maps that were fitted without the window's fold (`training.demo.ridge`), so that the network sees
errors as large as those it will meet. A memory also hears captions in equal number, as the brain would have told them:
their clean code, shrunk and blurred as the windows' codes are. Minutes on one core, where the same lesson through the
whole encoder takes hours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.extensions.readout import Correction, ReadOutConfig
from training.demo.ridge import RidgeFit
from training.demo.telling import Telling, direction_lengths, wanted_codes
from training.engine.batch import Batch

SIZES = (
    "readout_rank",
    "readout_hidden",
    "readout_dropout",
    "memory_heads",
    "memory_slots",
    "layout_rank",
)


@dataclass(frozen=True)
class CorrectConfig:
    """`noise`: standard deviation of white noise on the codes, which have a deviation of 1.

    `whitening`: each principal direction of the tokens counts by its deviation to the power of minus this. 0 is the
    plain squared error of tokens, in which what moves counts a fortieth of what is seen; 1 makes all alike.
    """

    noise: float = 0.5
    whitening: float = 0.0


class CorrectTask:
    """Squared error of the corrected codes, over all windows of one subject and, for a memory, over captions."""

    name = "correct"

    def __init__(
        self,
        config: ReadOutConfig,
        fit: RidgeFit,
        tokens: Tensor,
        correct: CorrectConfig,
        captions: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """`tokens` (N, S, D): what each training window's caption (and layout) says; `captions` (M, S', D): all known
        captions, for an encoder with a memory; `rows`: the windows to learn from, all if None."""
        if rows is not None:
            fit, tokens = replace(fit, unseen=fit.unseen[rows], fold=fit.fold[rows]), tokens[rows]
        if (captions is None) == bool(config.memory_heads):
            raise ValueError("captions go with a memory")
        self.module: nn.Module = Correction(config)
        self.module.start()
        self.config, self.fit, self.correct, self.captions = config, fit, correct, captions
        self.given = (fit.unseen, fit.out, tokens, *([] if captions is None else [captions]))
        self.words = config.readout_rank - config.layout_rank
        lengths = direction_lengths(fit)
        self.wanted = wanted_codes(fit, lengths, tokens.flatten(1) - fit.bias)
        self.weights = torch.cat(
            [
                _weights(self.wanted[:, : self.words], lengths[: self.words], correct.whitening),
                _weights(self.wanted[:, self.words :], lengths[self.words :], 0.0),
            ]
        )
        if captions is not None:
            self.named = wanted_codes(fit, lengths, captions.flatten(1) - fit.bias[: captions[0].numel()])[
                :, : self.words
            ]
            self.telling = Telling.of(fit.unseen[:, : self.words], self.wanted[:, : self.words])
            self.module.memory.scale.copy_(self.named.std(0))

    def __len__(self) -> int:
        return len(self.fit.unseen)

    def description(self) -> dict[str, Any]:
        digest = sha256()
        for tensor in self.given:
            digest.update(tensor.contiguous().numpy().tobytes())
        sizes = {name: getattr(self.config, name) for name in SIZES}
        return {"correction": sizes, "correct": asdict(self.correct), "codes": digest.hexdigest()}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        code = self.fit.unseen[indices]
        code = code + self.correct.noise * torch.randn(code.shape, generator=generator)
        samples = {"code": code, "wanted": self.wanted[indices]}
        if self.captions is not None:
            chosen = self.named[torch.randint(len(self.named), indices.shape, generator=generator)]
            samples |= {"told": self.telling(chosen, generator), "chosen": chosen}
        return Batch(samples, {"weights": self.weights})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        weights = batch["weights"]
        error = ((model(batch["code"], 1.0) - batch["wanted"]).square() * weights).sum(1).mean()
        if self.captions is None:
            return error, {}
        told, chosen = batch["told"], batch["chosen"]
        rest = told.new_zeros(len(told), self.config.layout_rank)
        said = model(torch.cat([told, rest], 1), 1.0)[:, : self.words]
        captions = ((said - chosen).square() * weights[: self.words]).sum(1).mean()
        return error + captions, {"windows": error.item(), "captions": captions.item()}


def _weights(wanted: Tensor, lengths: Tensor, whitening: float) -> Tensor:
    """The weight (R,) of each code's squared error; that of always saying the mean is then 1."""
    if not len(lengths):
        return lengths
    spread = wanted.std(0) * lengths
    known = spread > 1e-3 * spread.max()  # directions that there are; the others stand for nothing
    weights = torch.where(known, lengths * spread.clamp_min(1e-9) ** -whitening, 0.0) ** 2
    return weights / (weights * wanted.square().mean(0)).sum()
