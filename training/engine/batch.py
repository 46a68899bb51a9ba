"""What a task draws for one step: the samples that processes share, and what goes to all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mindviz.types import MindvizError


@dataclass(frozen=True)
class Batch:
    """Tensors with one row for each sample, and what does not depend on the sample.

    Attributes
    ----------
    samples : by name, tensors (B, ...) with one row for each sample
    shared : by name, tensors or plain values that every part of the batch needs whole
    """

    samples: Mapping[str, Tensor]
    shared: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(tensor) for name, tensor in self.samples.items()}
        if len(set(lengths.values())) != 1 or set(self.samples) & set(self.shared):
            raise MindvizError(f"a batch: expected tensors of one length under names of their own, found {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.samples.values())))

    def __getitem__(self, name: str) -> Any:
        return self.samples[name] if name in self.samples else self.shared[name]

    def part(self, index: int, count: int, device: torch.device | str) -> Batch:
        """Part `index` of `count` equal ones, on `device`.

        Raises
        ------
        MindvizError
            If the samples cannot be shared out equally.
        """
        if len(self) % count:
            raise MindvizError(f"a batch: expected a multiple of {count} samples to share out, found {len(self)}")
        rows = share(len(self), index, count)
        samples = {name: tensor[rows].to(device) for name, tensor in self.samples.items()}
        return Batch(samples, {n: v.to(device) if isinstance(v, Tensor) else v for n, v in self.shared.items()})


def share(size: int, index: int, count: int) -> slice:
    """The rows of part `index` of `count` equal parts of `size` rows."""
    return slice(index * (size // count), (index + 1) * (size // count))
