"""A task's loss on samples, without the loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.engine.loop import Task


def loss_of(
    task: Task, indices: Tensor, generator: torch.Generator, model: nn.Module | None = None
) -> tuple[Tensor, dict[str, float]]:
    """What the loop computes of these samples: the batch is drawn, then the loss is taken on it."""
    return task.loss(task.module if model is None else model, task.draw(indices, generator))
