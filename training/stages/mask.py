"""Stage 1, masked brain modelling: hide three quarters of a scan's patches and predict them (paper section 3.2)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.encoder import MaskedAutoencoder, MaskedConfig
from training.data.scans import TrainingScans
from training.engine.processes import WHOLE_BATCH, local


class MaskTask:
    """Reconstruct the hidden patches of single scans; no film and no caption is used."""

    name = "mask"

    def __init__(self, config: MaskedConfig, scans: TrainingScans) -> None:
        self.config, self.scans = config, scans
        self.module = MaskedAutoencoder(config)

    def __len__(self) -> int:
        return len(self.scans)

    def description(self) -> dict[str, Any]:
        return {"masked": asdict(self.config), "scans": self.scans.fingerprint}

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        scans = self.scans.windows[indices]
        position = torch.randint(scans.shape[1], (len(scans),), generator=generator)
        # The model draws its masks itself, a row of numbers per scan: those of the scans before the first of `rows`
        # are drawn here.
        torch.rand(rows.start or 0, self.config.encoder.patching.num_patches, generator=generator)
        (seen,) = local(model, rows, scans[torch.arange(len(scans)), position])
        result = model(seen, generator)
        return result.loss, {}
