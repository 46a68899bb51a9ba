"""An encoder in training: what its read-out says of a window comes from codes that were fitted without that window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mindviz.encoder import FMRIEncoder
from mindviz.extensions.readout import Correction, ReadOutEncoder, rank_of
from mindviz.types import MindvizError
from training.demo.ridge import RidgeFit, codes_of, freeze_read_out
from training.stages.encoders import PlainEncoder

HALVES = 2


class CrossFitted(PlainEncoder):
    """An encoder with a read-out and the codes of each fold: a training window is read by those fitted without it.

    `corrections` are two, trained without the windows of the first and of the last half of the folds; each window is
    corrected by the one that does not know it. With none, the encoder's own corrects all.
    """

    encoder: ReadOutEncoder

    def __init__(
        self, encoder: ReadOutEncoder, fit: RidgeFit, corrections: Sequence[Mapping[str, Tensor]] = ()
    ) -> None:
        super().__init__(encoder)
        if len(corrections) not in (0, HALVES):
            raise MindvizError(f"expected {HALVES} corrections or none, found {len(corrections)}")
        self.corrections = nn.ModuleList(_frozen(encoder, state) for state in corrections)
        self.fold = fit.fold  # no buffer: averaged weights would average it, too
        freeze_read_out(encoder)
        self.register_buffer("fold_codes", codes_of(encoder, fit.fold_into), persistent=False)

    def forward(self, windows: Tensor, which: Tensor) -> Tensor:
        fold = self.fold.to(which.device)[which]
        said = self.said(windows, fold)
        if not self.corrections:
            return self.encoder.encode(windows, said=said)[0]
        readout = self.encoder.readout
        code, _ = readout.gather(self.encoder.features(windows)[0], said)
        late = half_of(fold, len(self.get_buffer("fold_codes")))
        first, last = (correction(code) for correction in self.corrections)
        return readout.tokens(torch.where(late[:, None] == 1, last, first))

    def said(self, windows: Tensor, fold: Tensor) -> Tensor:
        """What the patches of windows (B, T, V) say by the codes of each one's fold, (B, T, P, R)."""
        patches, codes = self.encoder.patches(windows), self.get_buffer("fold_codes")
        parts = [
            (rows, self.encoder.readout.read(patches[rows], codes[int(k)]))
            for k in fold.unique()
            for rows in [torch.nonzero(fold == k)[:, 0]]
        ]
        every = torch.cat([said for _, said in parts])
        return every[torch.cat([rows for rows, _ in parts]).argsort()]


def half_of(fold: Tensor, count: int) -> Tensor:
    """0 or 1: in which half of `count` folds each of `fold` (N,) lies."""
    return fold * HALVES // count


def _frozen(encoder: ReadOutEncoder, state: Mapping[str, Tensor]) -> Correction:
    correction = Correction(encoder.config)
    correction.load_state_dict(state)
    return correction.requires_grad_(False).eval()


@torch.inference_mode()
def unseen_tokens(
    encoder: ReadOutEncoder,
    fit: RidgeFit,
    windows: Tensor,
    corrections: Sequence[Mapping[str, Tensor]] = (),
    batch: int = 64,
) -> Tensor:
    """Tokens (N, S, D) of training windows (N, T, V), each by the codes of its fold and the correction of the other
    half: what a read-out may learn from."""
    trained = CrossFitted(encoder, fit, corrections).eval()
    parts = zip(windows.split(batch), torch.arange(len(windows)).split(batch), strict=True)
    return torch.cat([trained(part, which) for part, which in parts])


def in_training(
    encoder: FMRIEncoder, fit: RidgeFit | None, corrections: Sequence[Mapping[str, Tensor]] = ()
) -> PlainEncoder:
    """An encoder as the stages train it: cross-fitted where it has a read-out.

    Raises
    ------
    MindvizError
        A fit is given for an encoder without a read-out, or none for one with it.
    """
    rank = rank_of(encoder.config)
    if (fit is None) != (rank == 0):
        found = "none" if fit is None else "one"
        raise MindvizError(f"expected a ridge fit where readout_rank is above 0; it is {rank}, found {found}")
    if fit is None:
        return PlainEncoder(encoder)
    assert isinstance(encoder, ReadOutEncoder)
    return CrossFitted(encoder, fit, corrections)
