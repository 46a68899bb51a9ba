"""JSON files, and paths that must be files or folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindviz.storage.atomic import atomic_file
from mindviz.types import MindvizError


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
