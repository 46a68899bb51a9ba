"""Stage 1, masked brain modelling: hide three quarters of a scan's patches and predict them (paper section 3.2)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mindviz.encoder import MaskedAutoencoder, MaskedConfig, random_order
from training.data.scans import TrainingScans
from training.engine.batch import Batch


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

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        scans = self.scans.windows[indices]
        position = torch.randint(scans.shape[1], (len(scans),), generator=generator)
        order = random_order(len(scans), self.config.encoder.patching.num_patches, generator)
        return Batch({"scans": scans[torch.arange(len(scans)), position], "order": order})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return model(batch["scans"], batch["order"]).loss, {}
