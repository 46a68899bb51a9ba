"""What a loss does where several processes share a batch: it gathers what the others found.

Every process draws the randomness of the whole batch, from the same generator, and keeps its own share; so a sample
gets the same noise however many processes there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def gathered(own: Tensor) -> Tensor:
    """The tensors (b, …) of all processes in the order of their rows, (b * processes, …); gradients pass through.

    For losses that compare the samples of a batch with each other: each process computes the loss of them all, and the
    mean of the processes' gradients, which the loop steps with, is the gradient of that one loss.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return own
    return _Gathered.apply(own)


class _Gathered(torch.autograd.Function):
    """Concatenate over processes; a process's own rows get the gradients that all processes found for them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
