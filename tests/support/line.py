"""A task for the training loop that takes no time."""

from __future__ import annotations

import signal
from typing import Any

import torch
from torch import Tensor, nn

from training.engine.batch import Batch
from training.engine.loop import LoopConfig

CONFIG = LoopConfig(steps=6, batch_size=8, lr=1e-2, warmup=2, ema_decay=0.9, save_every=3, log_every=2)


class Killed(BaseException):
    """As a kill does: nothing is done about it."""


class LineTask:
    """Fit a line with noisy inputs and dropout: three sources of randomness in one step."""

    name = "line"

    def __init__(self, stop_after: int | None = None, poison: int | None = None, dropout: float = 0.2) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(dropout), nn.Linear(8, 1))
        self.x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
        self.stop_after, self.poison, self.calls = stop_after, poison, 0
        self.stop: Any = Killed
        self.losses: list[float] = []

    def __len__(self) -> int:
        return len(self.x)

    def description(self) -> dict[str, Any]:
        return {"kind": "line"}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        x = self.x[indices]
        return Batch({"noisy": x + 0.1 * torch.randn(x.shape, generator=generator), "wanted": x.sum(1)})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        if self.calls == self.stop_after:
            if self.stop is Killed:
                raise Killed
            signal.raise_signal(self.stop)
        loss = (model(batch["noisy"])[:, 0] - batch["wanted"]).square().mean()
        if self.calls == self.poison:
            loss = loss * float("nan")
        self.calls += 1
        self.losses.append(loss.item())
        return loss, {}


def interrupted(at: int, how: Any = Killed) -> LineTask:
    task = LineTask(stop_after=at)
    task.stop = how
    return task


def same_weights(a: LineTask, b: LineTask) -> bool:
    state, other = a.module.state_dict(), b.module.state_dict()
    return all(torch.equal(state[name], other[name]) for name in state)
