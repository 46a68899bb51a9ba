"""Frozen dataclasses from JSON, ours and published ones, with every key accounted for."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mindviz.storage.files import read_json
from mindviz.types import MindvizError

Config = TypeVar("Config")
CONFIG_FILE = "config.json"


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
