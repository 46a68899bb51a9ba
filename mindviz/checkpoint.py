"""Weights on disk: a folder of safetensors and JSON, written atomically and loaded strictly.

Nothing of our own format is unpickled. A published ``.bin``/``.pth`` is read with weights-only loading; whatever else
was pickled beside the weights (a training configuration) is skipped without being run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

from mindviz.types import MindvizError

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


# ---------------------------------------------------------------------- writing aside, then renaming
@contextmanager
def atomic_file(target: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling path; on success it becomes `target`, on failure it is removed."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling folder; on success it replaces `target`, on failure it is removed."""
    target = replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    old = aside / "it"
    try:
        target.replace(old)
        new.replace(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.replace(target)
        raise
    finally:
        if not (old.exists() and new.exists()):
            shutil.rmtree(aside, ignore_errors=True)


def replaceable(target: Path | str) -> Path:
    """The resolved path of a folder that `atomic_folder` can make or replace.

    Raises
    ------
    MindvizError
        For a file, a mount point, the current working directory or a folder that holds it, and for a place where
        nothing can be written.
    """
    target = Path(target).resolve()
    found = ""
    home = next((parent for parent in target.parents if parent.exists()), target)
    if target.exists() and not target.is_dir():
        found = "a file"
    elif os.path.ismount(target):
        found = "a mount point"
    elif target in (Path.cwd(), *Path.cwd().parents):
        found = "the current working directory, or a folder that holds it"
    elif not home.is_dir():
        found = f"{home}, which is a file"
    elif not os.access(home, os.W_OK | os.X_OK):
        found = f"{home}, where this user cannot write"
    if found:
        raise MindvizError(f"{target}: expected a folder that can be made or replaced, found {found}")
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------------- tensors and arrays
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


# ---------------------------------------------------------------------- JSON and configurations
def require_file(path: Path | str, what: str = "a file") -> Path:
    """The path itself if it is a file, a MindvizError if not."""
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise MindvizError(f"{path}: expected {what}, found {found}")
    return path


def require_folder(path: Path | str, what: str = "a folder") -> Path:
    """The path itself if it is a folder, a MindvizError if not."""
    path = Path(path)
    if not path.is_dir():
        found = "a file" if path.is_file() else "nothing"
        raise MindvizError(f"{path}: expected {what}, found {found}")
    return path


def read_json(path: Path | str) -> dict[str, Any]:
    """A JSON object from a file."""
    path = require_file(path, "a JSON file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MindvizError(f"{path}: expected JSON, found text that does not read: {error}") from error
    if not isinstance(content, dict):
        raise MindvizError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def config_from_dict(cls: type[Config], values: Mapping[str, Any], source: Path | str) -> Config:
    """Make the frozen dataclass `cls` from JSON values: every field there, no other key, types as declared."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown, missing = sorted(set(values) - set(fields)), sorted(set(fields) - set(values))
    if unknown or missing:
        found = [f"unknown {unknown}"] * bool(unknown) + [f"missing {missing}"] * bool(missing)
        raise MindvizError(f"{source}: expected exactly the keys of {cls.__name__}, found {' and '.join(found)}")
    hints = typing.get_type_hints(cls)
    frozen = {name: _nested(_frozen(value), hints[name], f"{source}: {name}") for name, value in values.items()}
    for name, value in frozen.items():
        if not _fits(value, hints[name]):
            raise MindvizError(f"{source}: expected {name} to be {fields[name].type}, found {value!r}")
    try:
        return cls(**frozen)
    except MindvizError as error:
        raise MindvizError(f"{source}: {error}") from error
    except (ValueError, ArithmeticError) as error:
        raise MindvizError(f"{source}: expected values that make a {cls.__name__}, found {frozen}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _nested(value: Any, hint: Any, source: str) -> Any:
    """A JSON object as the dataclass that `hint` is or offers; any other value as it is."""
    kinds = [k for k in (hint, *typing.get_args(hint)) if isinstance(k, type) and dataclasses.is_dataclass(k)]
    return config_from_dict(kinds[0], value, source) if kinds and isinstance(value, dict) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value fits a type hint made of plain types, tuples, unions and literals."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin or hint)


def read_config(folder: Path | str, cls: type[Config]) -> Config:
    """Read ``folder/config.json`` as the frozen dataclass `cls`; unknown or missing keys are refused."""
    path = Path(folder) / CONFIG_FILE
    return config_from_dict(cls, read_json(path), path)


# ---------------------------------------------------------------------- modules
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


def empty(make: Callable[[], Module]) -> Module:
    """Build a module without storage or random numbers, for `load_state` to fill: much faster than building it."""
    with torch.device("meta"):
        return make()


# ---------------------------------------------------------------------- published files
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


def adopt_config(
    cls: type[Config],
    published: Mapping[str, Any],
    source: Path | str,
    renamed: Mapping[str, str],
    fixed: Mapping[str, Any],
    defaults: Config,
) -> tuple[Config, dict[str, Any]]:
    """Make our configuration from a published one.

    Parameters
    ----------
    renamed : published key -> field of `cls`.
    fixed : published keys that we know, with the only value under which they leave the model as we build it.
    defaults : what the published class assumes for keys left out.

    Returns
    -------
    The configuration, and the keys that do not touch the model (those beginning with ``_``, those that are null).

    Raises
    ------
    MindvizError
        For a key that we do not know and that could change the model, or for a known one with another value.
    """
    values, harmless = {}, {}
    for key, value in published.items():
        if key.startswith("_"):
            harmless[key] = value
        elif key in renamed:
            values[renamed[key]] = _frozen(value)
        elif key in fixed:
            if value != fixed[key]:
                raise MindvizError(f"{source}: expected {key} to be {fixed[key]!r}, found {value!r}")
        elif value is None:
            harmless[key] = value
        else:
            raise MindvizError(f"{source}: expected only options known of {cls.__name__}, found {key} = {value!r}")
    complete = dataclasses.asdict(defaults) | values  # type: ignore[call-overload]
    return config_from_dict(cls, complete, source), harmless


def fingerprint(*paths: Path | str) -> str:
    """sha256 of files, or of every file below folders: names (relative) and contents, in sorted order."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [require_file(path)]
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
