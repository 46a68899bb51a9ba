"""What the clips that the video model learns from are conditioned on: in the paper, their captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from training.data.latents import LatentCorpus


class ClipConditions(Protocol):
    """What a video model is given of a clip besides its noisy latents."""

    def tokens(self, starts: Tensor, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Condition tokens (B, S, D) of the clips that begin at `starts`, and those (S, D) of nothing in particular.

        `clips` are their latents (B, C, F, h, w).
        """
        ...

    def inputs(self, clips: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Further inputs of the model by name, one row for each of the clips (B, C, F, h, w)."""
        ...

    def description(self) -> Mapping[str, Any]:
        """What a resumed run must agree with."""
        ...


class CaptionConditions:
    """The tokens of the clips' captions and of the empty caption, and nothing else (paper section 3.3)."""

    def __init__(self, corpus: LatentCorpus) -> None:
        self.corpus = corpus

    def tokens(self, starts: Tensor, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.corpus.tokens_of(starts), self.corpus.empty_tokens

    def inputs(self, clips: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def description(self) -> dict[str, Any]:
        return {}
