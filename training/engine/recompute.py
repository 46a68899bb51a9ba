"""Gradient checkpointing of whole models: each block is computed again in the backward pass instead of kept."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mindviz.diffusion import VideoUNet
from mindviz.encoder import FMRIEncoder, MaskedAutoencoder
from training.engine.batch import Batch
from training.engine.loop import Task


def set_checkpointing(module: nn.Module, enable: bool = True) -> None:
    """Recompute the blocks of every encoder, masked autoencoder and video model of `module`, or keep them again."""
    for part in module.modules():
        if isinstance(part, VideoUNet):
            part.set_gradient_checkpointing(enable)
        elif isinstance(part, FMRIEncoder | MaskedAutoencoder):
            for name in ("blocks", "decoder_blocks"):
                for block in getattr(part, name, ()):
                    vars(block).pop("forward", None)
                    if enable:
                        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


class Recomputable:
    """A task whose module the loop may ask to recompute its blocks (`LoopConfig.gradient_checkpointing`)."""

    def __init__(self, task: Task) -> None:
        self.task, self.name = task, task.name

    @property
    def module(self) -> nn.Module:
        return self.task.module

    def set_gradient_checkpointing(self, enable: bool) -> None:
        set_checkpointing(self.module, enable)

    def __len__(self) -> int:
        return len(self.task)

    def description(self) -> dict[str, Any]:
        return self.task.description()

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        return self.task.draw(indices, generator)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return self.task.loss(model, batch)
