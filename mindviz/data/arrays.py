"""Unlabelled scans of many people, for masked brain modelling: a folder of arrays (time, V), read a few rows at a time.

An array holds the selected voxels of a person's scans (from the HCP, say): ``.npy``, ``.npz`` or ``.safetensors``, one
file per person or run, all with the same voxels in the same order. In a file with several arrays, the scans are
``bold``.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from mindviz.storage import atomic_file, load_arrays, require_folder, save_arrays
from mindviz.types import MindvizError

SUFFIXES = (".npy", ".npz", ".safetensors")
KEY = "bold"
CHUNK = 1 << 24
"""Values held in memory at a time while statistics are computed."""
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I16": "<i2", "I32": "<i4"}


class ScanArrays:
    """All scans below a folder, each voxel z-scored over its own file.

    `scans` memory-maps the files and reads only the requested rows, so that sets far larger than memory can be sampled
    at random. The mean and standard deviation of every file are computed once and kept in a cache folder.

    Parameters
    ----------
    every : draw only every n-th volume; successive volumes are very similar (the TR is 0.72 s in the HCP).
    """

    def __init__(self, folder: Path, files: tuple[Path, ...], shapes: np.ndarray, cache: Path, every: int) -> None:
        self.folder, self.files, self.every = folder, files, every
        self.num_voxels = int(shapes[0, 1])
        counts = -(-shapes[:, 0] // every)
        self._first = np.concatenate([[0], np.cumsum(counts)])
        self._array = lru_cache(maxsize=64)(lambda i: map_array(files[i], cache))
        statistics = [_statistics(path, map_array(path, cache), cache) for path in files]
        self.mean = np.stack([mean for mean, _ in statistics])
        self.std = np.stack([std for _, std in statistics])

    @classmethod
    def open(cls, folder: Path | str, cache: Path, every: int = 1) -> ScanArrays:
        """Open a folder of arrays; the folder `cache` receives their statistics and decompressed copies.

        Raises
        ------
        MindvizError
            Naming the file: no array, a wrong shape or number of voxels, NaN, or no voxel that varies.
        """
        folder = require_folder(folder, "a folder of scans (.npy, .npz, .safetensors)")
        if every < 1:
            raise MindvizError(f"{folder}: expected to draw every n-th volume with n at least 1, found {every}")
        files = tuple(sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file()))
        if not files:
            raise MindvizError(f"{folder}: expected arrays (.npy, .npz, .safetensors), found none")
        shapes = [map_array(path, cache).shape for path in files]
        for path, shape in zip(files, shapes, strict=True):
            if len(shape) != 2 or 0 in shape:
                raise MindvizError(f"{path}: expected scans of shape (time, voxels), found {shape}")
            if shape[1] != shapes[0][1]:
                raise MindvizError(f"{path}: expected {shapes[0][1]} voxels as in {files[0].name}, found {shape[1]}")
        return cls(folder, files, np.array(shapes), cache, every)

    def __len__(self) -> int:
        return int(self._first[-1])

    def scans(self, indices: np.ndarray) -> np.ndarray:
        """The volumes `indices` (n,), numbered across all files: z-scores (n, V), float32; constant voxels are 0."""
        file = np.searchsorted(self._first, indices, side="right") - 1
        row = (indices - self._first[file]) * self.every
        out = np.empty((len(indices), self.num_voxels), np.float32)
        for i in np.unique(file):
            chosen = file == i
            raw = self._array(int(i))[row[chosen]].astype(np.float32)
            scale = np.where(self.std[i] > 0, self.std[i], np.inf)
            out[chosen] = (raw - self.mean[i]) / scale
        return out

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files' names, lengths and statistics, and of how they are sampled."""
        digest = sha256(json.dumps([[p.name for p in self.files], self._first.tolist(), self.every]).encode())
        digest.update(self.mean.tobytes() + self.std.tobytes())
        return digest.hexdigest()


# ---------------------------------------------------------------------- one file
def map_array(path: Path, cache: Path) -> np.ndarray:
    """The scans of a file as a memory map; an ``.npz``, which may be compressed, is unpacked into `cache` once."""
    try:
        if path.suffix == ".safetensors":
            return _map_safetensors(path)
        return np.load(_unpacked(path, cache) if path.suffix == ".npz" else path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        if isinstance(error, MindvizError):
            raise
        raise MindvizError(f"{path}: expected a whole array of numbers, found {error}") from error


def _only(path: Path, names: list[str]) -> str:
    if KEY in names or len(names) == 1:
        return KEY if KEY in names else names[0]
    raise MindvizError(f"{path}: expected an array {KEY!r}, or one array alone, found {', '.join(names) or 'none'}")


def _map_safetensors(path: Path) -> np.ndarray:
    with safe_open(path, framework="numpy") as content:  # checks the header against the file length
        name = _only(path, list(content.keys()))
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
    if entry["dtype"] not in _DTYPES:
        raise MindvizError(f"{path}: expected numbers of {', '.join(_DTYPES)}, found {entry['dtype']}")
    start = 8 + size + entry["data_offsets"][0]
    return np.memmap(path, _DTYPES[entry["dtype"]], mode="r", offset=start, shape=tuple(entry["shape"]))


def _unpacked(path: Path, cache: Path) -> Path:
    target = cache / f"scans-{_key(path)}.npy"
    if not target.exists():
        with zipfile.ZipFile(path) as archive:
            name = _only(path, [n.removesuffix(".npy") for n in archive.namelist()])
            with archive.open(f"{name}.npy") as packed, atomic_file(target) as aside, aside.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
    return target


def _key(path: Path) -> str:
    """A key that changes with a file's path, length and modification time."""
    status = path.stat()
    return sha256(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, CHUNK // array.shape[1])
    for first in range(0, len(array), rows):
        yield array[first : first + rows].astype(np.float64)


def _statistics(path: Path, array: np.ndarray, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (V,) over the volumes of a file, float32, from the cache if present."""
    kept = cache / f"statistics-{_key(path)}.safetensors"
    if not kept.exists():
        mean = np.add.reduce([chunk.sum(0) for chunk in _chunks(array)]) / len(array)
        bad = int((~np.isfinite(mean)).sum())
        if bad:
            raise MindvizError(f"{path}: expected finite values, found NaN or infinity in {bad} of {len(mean)} voxels")
        std = np.sqrt(np.add.reduce([np.square(chunk - mean).sum(0) for chunk in _chunks(array)]) / len(array))
        if not (std > 0).any():
            raise MindvizError(f"{path}: expected voxels that vary over time, found none of {len(std)}")
        save_arrays(kept, {"mean": mean.astype(np.float32), "std": std.astype(np.float32)})
    arrays = load_arrays(kept)
    return arrays["mean"], arrays["std"]
