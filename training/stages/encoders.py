"""An encoder as the stages train it: called with windows and with which of the training windows they are."""

from __future__ import annotations

from torch import Tensor, nn

from mindviz.encoder import FMRIEncoder


class PlainEncoder(nn.Module):
    """The paper's: what it makes of a window does not depend on which one it is."""

    def __init__(self, encoder: FMRIEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, windows: Tensor, which: Tensor) -> Tensor:
        """Tokens (B, S, D) of windows (B, T, V), which are the training windows of the indices `which` (B,)."""
        return self.encoder(windows)
