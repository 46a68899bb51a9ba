"""Teach the read-out's correction: from the noisy code of a window to the code of its caption, subject by subject.

The codes are those of maps that were fitted without the window's fold (`training.ridge`), so that the network sees
errors as large as those it will meet. Minutes on one core, where the same lesson through the whole encoder takes hours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.encoder import EncoderConfig
from mindviz.encoder.readout import Correction
from training.processes import WHOLE_BATCH, local
from training.ridge import RidgeFit


@dataclass(frozen=True)
class CorrectConfig:
    """`noise`: standard deviation of white noise on the codes, which have a deviation of 1."""

    noise: float = 0.5


class CorrectTask:
    """Mean squared error of the corrected tokens, over all windows of one subject."""

    name = "correct"

    def __init__(self, config: EncoderConfig, fit: RidgeFit, tokens: Tensor, correct: CorrectConfig) -> None:
        """`tokens` (N, S, D): what each training window's caption says."""
        self.module: nn.Module = Correction(config.readout_rank, config.readout_hidden, config.readout_dropout)
        self.module.start()
        self.config, self.fit, self.correct = config, fit, correct
        self.wanted = tokens.flatten(1) - fit.bias

    def __len__(self) -> int:
        return len(self.fit.unseen)

    def description(self) -> dict[str, Any]:
        digest = sha256()
        for tensor in (self.fit.unseen, self.fit.out, self.wanted):
            digest.update(tensor.contiguous().numpy().tobytes())
        sizes = {name: getattr(self.config, name) for name in ("readout_rank", "readout_hidden", "readout_dropout")}
        return {"correction": sizes, "correct": asdict(self.correct), "codes": digest.hexdigest()}

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        code = self.fit.unseen[indices]
        code = code + self.correct.noise * torch.randn(code.shape, generator=generator)
        code, wanted = local(model, rows, code, self.wanted[indices])
        (out,) = local(model, WHOLE_BATCH, self.fit.out)
        return functional.mse_loss(model(code) @ out.T, wanted), {}
