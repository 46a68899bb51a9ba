"""Files and folders that appear whole or not at all: written aside, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mindviz.types import MindvizError


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
