"""An encoder in training: what its read-out says of a window comes from codes that were fitted without that window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mindviz.encoder import FMRIEncoder
from mindviz.types import MindvizError
from training.ridge import RidgeFit, codes_of, freeze_read_out


class CrossFitted(nn.Module):
    """An encoder and, where it has a read-out, the codes of each fold.

    Raises
    ------
    MindvizError
        A fit is given for an encoder without a read-out, or none for one with it.
    """

    def __init__(self, encoder: FMRIEncoder, fit: RidgeFit | None) -> None:
        super().__init__()
        rank = encoder.config.readout_rank
        if (fit is None) != (rank == 0):
            found = "none" if fit is None else "one"
            raise MindvizError(f"expected a ridge fit where readout_rank is above 0; it is {rank}, found {found}")
        self.encoder = encoder
        if fit is not None:
            freeze_read_out(encoder)
            self.register_buffer("fold_codes", codes_of(encoder, fit.fold_into), persistent=False)

    def forward(self, windows: Tensor, fold: Tensor) -> Tensor:
        """Tokens (B, S, D) of windows (B, T, V) of the folds (B,)."""
        if not self.encoder.config.readout_rank:
            return self.encoder(windows)
        return self.encoder.encode(windows, said=self.said(windows, fold))[0]

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


@torch.inference_mode()
def unseen_tokens(encoder: FMRIEncoder, fit: RidgeFit, windows: Tensor, batch: int = 64) -> Tensor:
    """Tokens (N, S, D) of training windows (N, T, V), each by the codes of its fold: what a read-out may learn from."""
    trained = CrossFitted(encoder, fit).eval()
    parts = zip(windows.split(batch), fit.fold.split(batch), strict=True)
    return torch.cat([trained(part, fold) for part, fold in parts])


def folds(fit: RidgeFit | None, count: int) -> Tensor:
    """The fold of each of `count` training windows; 0 where nothing was fitted."""
    return torch.zeros(count, dtype=torch.int64) if fit is None else fit.fold
