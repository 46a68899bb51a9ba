"""Naming: which of many captions fits both a sketch's drawings and the tokens of the scan?

A diffusion model that learnt well draws each meaning as often as it is likely, so what a brain left half open is drawn
right half of the time. Somebody asked for one answer names the likeliest instead. That is done here: the drawings are
put into words, these words and the brain's own are compared with every caption that may have been meant, and the sketch
is drawn once more to the brain's words and to that caption alike. What drawings show best (setting, movement) and what
words say best (which object) thus meet in one caption. The paper has nothing like it; `SamplingSettings.name_sketch`
False leaves it out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindviz.storage import read_json, write_json
from mindviz.types import MindvizError

CAPTIONS_FILE = "captions.json"
MOST_CAPTIONS = 100_000


@dataclass(frozen=True)
class NamerConfig:
    """Sizes of a `Namer`: `codes` and `rank` are its sketch's, `hidden` the width of its layers."""

    codes: int = 256
    rank: int = 128
    hidden: int = 224

    def __post_init__(self) -> None:
        if min(self.codes, self.rank, self.hidden) < 1:
            raise MindvizError("all sizes of a namer must be at least 1")


class Namer(nn.Module):
    """Codes of clips (..., codes) to the codes of what captions would say of them (..., rank), as `Sketch.words`."""

    def __init__(self, config: NamerConfig) -> None:
        super().__init__()
        self.config = config
        self.see, self.think = nn.Linear(config.codes, config.hidden), nn.Linear(config.hidden, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(2))
        self.tell = nn.Linear(config.hidden, config.rank)

    def forward(self, codes: Tensor) -> Tensor:
        seen = F.gelu(self.norms[0](self.see(codes)))
        return self.tell(seen + F.gelu(self.norms[1](self.think(seen))))

    @torch.no_grad()
    def name(self, said: Tensor, drawn: Tensor, candidates: Tensor) -> Tensor:
        """Which (B,) of the captions `candidates` (M, rank) agrees best with words and drawings.

        Parameters
        ----------
        said : Tensor (B, rank), codes of the brain's own words
        drawn : Tensor (B, N, codes), codes of N drawings for each
        candidates : Tensor (M, rank), codes of captions
        """
        shown = self(drawn).mean(1)  # several drawings agree on what is likely
        directions = F.normalize(candidates, dim=1)
        agreement = (F.normalize(said, dim=1) + F.normalize(shown, dim=1)) @ directions.T
        return agreement.argmax(1)


def combined(phrases: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All captions that take one phrase of each group, in order."""
    return tuple(" ".join(parts) for parts in itertools.product(*phrases))


def write_captions(folder: Path, phrases: Sequence[Sequence[str]]) -> None:
    """Write the captions that may be meant, by the phrases that they combine."""
    write_json(folder / CAPTIONS_FILE, {"phrases": [list(group) for group in phrases]})


def read_captions(folder: Path) -> tuple[str, ...]:
    """The captions that may be meant: every combination of one phrase of each group in ``captions.json``.

    Raises
    ------
    MindvizError
        Where the file does not hold groups of phrases, or more combinations than can be compared.
    """
    path = folder / CAPTIONS_FILE
    groups = read_json(path).get("phrases")
    if not isinstance(groups, list) or not groups or not all(_is_group(group) for group in groups):
        raise MindvizError(f'{path}: expected {{"phrases": [[a phrase, ...], ...]}}, found {str(groups)[:60]}')
    count = 1
    for group in groups:
        count *= len(group)
    if count > MOST_CAPTIONS:
        raise MindvizError(f"{path}: expected at most {MOST_CAPTIONS} combinations of phrases, found {count}")
    return combined(groups)


def _is_group(group: object) -> bool:
    return isinstance(group, list) and bool(group) and all(isinstance(phrase, str) and phrase for phrase in group)
