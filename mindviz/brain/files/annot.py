"""FreeSurfer annotation files (`*.annot`): a label for each vertex of one hemisphere, and a table of names.

Parsed here, never past the end of the file, because nibabel's reader trusts the counts stated in the file and gives a
vertex whose label is not in the table the label of another.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from mindviz.types import MindvizError

MAX_ANNOT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Annotation:
    """`keys` (n,) int64 by vertex; `table` maps each key to its name and colour (three floats, 0..1)."""

    keys: np.ndarray
    table: dict[int, tuple[str, tuple[float, float, float]]]


def load_annot(path: Path | str) -> Annotation:
    """Read an annotation with either version of the table; a key is red + 256 green + 65,536 blue, as in the file.

    Raises
    ------
    MindvizError
        If the file is missing, too large, truncated, without a table, or not an annotation of vertices 0, 1, 2, ….
    """
    path = Path(path)
    if not path.is_file():
        raise MindvizError(f"{path}: expected a FreeSurfer annotation, found nothing")
    if path.stat().st_size > MAX_ANNOT_BYTES:
        raise MindvizError(f"{path}: expected at most {MAX_ANNOT_BYTES >> 20} MB, found more")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MindvizError(f"{path}: expected a FreeSurfer annotation, found one that cannot be read") from error
    return _Reader(path, content).annotation()


class _Reader:
    """Parses the bytes once; refuses to read past the end."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content, self.place = path, content, 0

    def annotation(self) -> Annotation:
        count = self.number()
        pairs = np.frombuffer(self.take(8 * count), ">i4").reshape(count, 2).astype(np.int64)
        if not count or not np.array_equal(np.sort(pairs[:, 0]), np.arange(count)):
            self.refuse("vertices that are not 0, 1, 2, …")
        keys = np.empty(count, np.int64)
        keys[pairs[:, 0]] = pairs[:, 1]
        if self.place == len(self.content) or not self.number():
            self.refuse("no table of names")
        return Annotation(keys, self.table())

    def table(self) -> dict[int, tuple[str, tuple[float, float, float]]]:
        version = self.number(signed=True)
        if version > 0:  # the old version: this is the number of entries, stored in order
            self.text()
            entries = version
        elif version == -2:
            self.number()  # the largest index
            self.text()
            entries = self.number()
        else:
            self.refuse(f"a table of version {-version}")
        found: dict[int, tuple[str, tuple[float, float, float]]] = {}
        for _ in range(entries):
            if version < 0:
                self.number()  # its index
            name = self.text()
            red, green, blue, _alpha = (self.number() for _ in range(4))
            key = red + (green << 8) + (blue << 16)
            found.setdefault(key, (name, (red / 255, green / 255, blue / 255)))
        return found

    def number(self, signed: bool = False) -> int:
        value: int = struct.unpack(">i", self.take(4))[0]
        if value < 0 and not signed:
            self.refuse(f"a count of {value}")
        return value

    def text(self) -> str:
        return self.take(self.number()).split(b"\0")[0].decode("utf-8", "replace")

    def take(self, length: int) -> bytes:
        if length > len(self.content) - self.place:
            self.refuse("a truncated one")
        self.place += length
        return self.content[self.place - length : self.place]

    def refuse(self, found: str) -> NoReturn:
        raise MindvizError(f"{self.path}: expected a FreeSurfer annotation, found {found}")
