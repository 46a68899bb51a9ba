"""Tensors and modules as safetensors: written atomically, loaded strictly; nothing of our own format is unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as _load_numpy
from safetensors.numpy import save_file as _save_numpy
from safetensors.torch import load_file as _load_torch
from safetensors.torch import save_file as _save_torch
from torch import Tensor, nn

from mindviz.storage.atomic import atomic_file
from mindviz.storage.configurations import CONFIG_FILE
from mindviz.storage.files import require_file, write_json
from mindviz.types import MindvizError

_Module = TypeVar("_Module", bound=nn.Module)
WEIGHTS_FILE = "model.safetensors"


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], half: bool = False) -> None:
    """Write tensors as safetensors; `half` stores floating-point ones as fp16."""

    def stored(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu()
        if half and tensor.is_floating_point():
            tensor = tensor.half()
        return tensor.contiguous().clone()

    with atomic_file(path) as temporary:
        _save_torch({name: stored(tensor) for name, tensor in tensors.items()}, temporary)


def load_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read a safetensors file; half-precision tensors come back as float32.

    Raises
    ------
    MindvizError
        If the file is missing, truncated or not safetensors.
    """
    loaded: dict[str, Tensor] = _read_safetensors(Path(path), _load_torch)
    return {
        name: tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        for name, tensor in loaded.items()
    }


def save_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write numpy arrays as safetensors, in their own dtypes."""
    with atomic_file(path) as temporary:
        _save_numpy({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def load_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Read a safetensors file as numpy arrays, in the dtypes they were stored in."""
    return _read_safetensors(Path(path), _load_numpy)


def _read_safetensors(path: Path, load: Any) -> Any:
    require_file(path, "a safetensors file")
    try:
        return load(path)
    except (SafetensorError, OSError, ValueError) as error:
        size = path.stat().st_size
        raise MindvizError(f"{path}: expected a whole safetensors file, found {size} bytes that do not read") from error


def save_module(folder: Path | str, module: nn.Module, config: Any, half: bool = False) -> None:
    """Write ``config.json`` (a dataclass or a dict) and ``model.safetensors`` into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS_FILE, module.state_dict(), half=half)
    write_json(folder / CONFIG_FILE, dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config)  # type: ignore[arg-type]


def load_module(folder: Path | str, module: nn.Module) -> None:
    """Load ``folder/model.safetensors`` into `module`, strictly."""
    path = Path(folder) / WEIGHTS_FILE
    load_state(module, load_tensors(path), path)


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: Path | str) -> None:
    """Load a state dict strictly: the same names, the same shapes, finite values.

    Raises
    ------
    MindvizError
        Naming `source`, what was expected and what was found.
    """
    expected = module.state_dict()
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    if missing or unknown:
        raise MindvizError(
            f"{source}: expected the {len(expected)} tensors of {type(module).__name__}, "
            f"found {len(missing)} missing {missing[:3]} and {len(unknown)} unknown {unknown[:3]}"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise MindvizError(
                f"{source}: expected {name} of shape {tuple(expected[name].shape)}, found {tuple(tensor.shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise MindvizError(f"{source}: expected finite values in {name}, found NaN or infinity")
    on_meta = any(tensor.is_meta for tensor in expected.values())
    module.load_state_dict(dict(state), strict=True, assign=on_meta)


def empty(make: Callable[[], _Module]) -> _Module:
    """Build a module without storage or random numbers, for `load_state` to fill: much faster than building it."""
    with torch.device("meta"):
        return make()


def fingerprint(*paths: Path | str) -> str:
    """sha256 of files, or of every file below folders: names (relative) and contents, in sorted order."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [require_file(path)]
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
