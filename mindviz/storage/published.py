"""Weights as their authors published them, read without running anything that was pickled beside them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindviz.storage.files import require_file
from mindviz.types import MindvizError


class _Inert:
    """Stands in for every class that a published pickle names beside its weights; it keeps and runs nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_published_weights(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a published ``.bin``/``.pth``, as float32, without running anything pickled beside them.

    A file whose tensors lie under ``model`` or ``state_dict`` (with, say, a pickled configuration beside them) gives
    those tensors.
    """
    path = require_file(path, "the published weights")
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            with torch.serialization.safe_globals([(_Inert, name) for name in names]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise MindvizError(
            f"{path}: expected tensors saved by torch, found {path.stat().st_size} bytes that do not read as such"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MindvizError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return {str(name): value.float() if value.is_floating_point() else value for name, value in content.items()}
