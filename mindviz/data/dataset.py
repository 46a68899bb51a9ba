"""A prepared dataset on disk: scans, films, captions; read lazily and checked.

::

    DATASET/dataset.json                    the contents; see `DatasetInfo`
    DATASET/stimuli/test1.mp4, test1.json   the film at 3 frames a second; captions (one per frame) and shots
    DATASET/subject1/test1.safetensors      bold fp16 [time, V] (mean of the repeats), vertices int32 [V]
    DATASET/subject1/repeats/test1_03.safetensors   single repeats, if kept
    DATASET/subject1/volume.safetensors     only if the scans came as images: voxels int32 [V, 3], shape [3], affine
    DATASET/subject1/truth.safetensors, truth.json  simulated subjects only; see `Truth`
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mindviz.brain import meshes
from mindviz.brain.volume import Volume, read_volume
from mindviz.data.dataset_info import SPLITS, DatasetInfo, Truth
from mindviz.data.windows import WindowSpec
from mindviz.storage import fingerprint, load_arrays, read_json, require_file, require_folder
from mindviz.types import MindvizError, ScanRun, Segment, VideoClip, Window
from mindviz.video import read_video


class Dataset:
    """A prepared dataset. `Dataset.open(folder)` checks that it is complete; scans and films are read on demand."""

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        self.folder = folder
        self.info = info
        self._run = lru_cache(maxsize=64)(self._read_run)
        self._film = lru_cache(maxsize=32)(self._read_film)
        self._notes = lru_cache(maxsize=32)(self._read_notes)

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Open a dataset folder; every file listed in ``dataset.json`` must exist.

        Raises
        ------
        MindvizError
            Naming the file, what was expected and what was found.
        """
        folder = require_folder(folder, "a dataset folder")
        dataset = cls(folder, DatasetInfo.read(folder / "dataset.json"))
        for subject, splits in dataset.info.subjects.items():
            for run in (*splits["train"], *splits["test"]):
                require_file(dataset._run_file(subject, run), f"run {run} of subject {subject}")
        for film in dataset.info.stimuli:
            require_file(folder / "stimuli" / f"{film}.mp4", f"the film of {film}")
        return dataset

    # ------------------------------------------------------------------ contents
    @property
    def name(self) -> str:
        return self.info.name

    @property
    def simulated(self) -> bool:
        return self.info.simulated

    @property
    def mesh(self) -> str:
        return self.info.mesh

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(self.info.subjects)

    @property
    def window_spec(self) -> WindowSpec:
        return self.info.window

    @property
    def clip_frames(self) -> int:
        """Frames of the film in one TR."""
        return round(self.info.tr * self.info.fps)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ``dataset.json`` and all scans; checkpoints record it to identify their training data."""
        scans = [self._run_file(s, r) for s in self.subjects for split in SPLITS for r in self.runs(s, split)]
        return fingerprint(self.folder / "dataset.json", *scans)

    def runs(self, subject: str, split: str) -> tuple[str, ...]:
        """Names of a subject's runs of ``"train"`` or ``"test"``."""
        if subject not in self.info.subjects:
            raise MindvizError(f"{self.folder}: expected a subject of {', '.join(self.subjects)}, found {subject!r}")
        if split not in SPLITS:
            raise MindvizError(f"a split is one of {', '.join(SPLITS)}, found {split!r}")
        return self.info.subjects[subject][split]

    def repeats(self, subject: str, run: str) -> tuple[int, ...]:
        """Numbers of the single repeats kept for a run; usually none."""
        self._split_of(subject, run)
        files = (self.folder / f"subject{subject}" / "repeats").glob(f"{run}_*.safetensors")
        return tuple(sorted(int(p.stem.rpartition("_")[2]) for p in files))

    # ------------------------------------------------------------------ scans
    def run(self, subject: str, name: str, repeat: int | None = None) -> ScanRun:
        """One cleaned run: the mean of its repeats, or a single repeat if these were kept."""
        return self._run(subject, name, repeat)

    def window(self, subject: str, run: str, index: int) -> Window:
        """The scans for clip `index` of a run."""
        scans = self.run(subject, run)
        bold = scans.bold
        if not 0 <= index < len(bold):
            raise MindvizError(
                f"run {run} of subject {subject}: expected a scan from 0 to {len(bold) - 1}, found {index}"
            )
        spec = self.info.window
        clamped = spec.clamped(index, len(bold))
        return Window(bold[spec.indices(len(bold))[index]], subject, run, index, clamped, scans.run_std)

    def windows(self, subject: str, run: str, repeat: int | None = None) -> np.ndarray:
        """All windows of a run, float32 [N, T, V]."""
        return self.info.window.cut(self.run(subject, run, repeat).bold)

    def test_run(self, subject: str, run: str | None = None) -> str:
        """The test run of that name, or the subject's first; `MindvizError` for any other, such as a training run."""
        runs = self.runs(subject, "test")
        if run is None and runs:
            return runs[0]
        if run is None or run not in runs:
            trained = ", a training run" * (run in self.runs(subject, "train"))
            found = "none" if run is None else f"{run!r}{trained}"
            expected = f" ({', '.join(runs)})" if runs else ""
            raise MindvizError(f"{self.folder}: expected a test run of subject {subject}{expected}, found {found}")
        return run

    def volume(self, subject: str) -> Volume | None:
        """The positions of a subject's voxels, for scans that came as images; None if they came as vertices."""
        runs = (*self.runs(subject, "test"), *self.runs(subject, "train"))
        path = self.folder / f"subject{subject}" / "volume.safetensors"
        if not path.is_file() or not runs:
            return None
        return read_volume(path, load_arrays(path), len(self.run(subject, runs[0]).vertices))

    def segment(self, subject: str, run: str, index: int) -> Segment:
        """A window, the clip that was seen and its captions."""
        return Segment(self.window(subject, run, index), self.clip(run, index), self.captions(run, index))

    # ------------------------------------------------------------------ films
    def film(self, name: str) -> VideoClip:
        """The whole film of a run."""
        return self._film(name)

    def clip(self, run: str, index: int) -> VideoClip:
        """The frames on screen during one TR."""
        film, count = self.film(run), self.clip_frames
        if not 0 <= index < len(film.frames) // count:
            last = len(film.frames) // count - 1
            raise MindvizError(f"film {run}: expected a clip from 0 to {last}, found {index}")
        return VideoClip(film.frames[index * count : (index + 1) * count], film.fps)

    def captions(self, run: str, index: int) -> tuple[str, ...]:
        """One caption per frame of a clip; empty if the dataset has none."""
        captions = self._notes(run).get("captions", ())
        return tuple(captions[index * self.clip_frames : (index + 1) * self.clip_frames])

    def shots(self, run: str) -> tuple[Mapping[str, Any], ...]:
        """The contents of each shot of a film (`start`, `stop` in frames, object, category, …); empty if unknown.

        `held_out` is true for a shot whose combination (in the demo: of object and setting) no training film shows.
        """
        return tuple(self._notes(run).get("shots", ()))

    def truth(self, subject: str) -> Truth | None:
        """The planted truth of a simulated subject; None for a real one."""
        self.runs(subject, "test")
        path = self.folder / f"subject{subject}" / "truth.safetensors"
        if not path.is_file():
            return None
        arrays, names = load_arrays(path), read_json(path.with_suffix(".json"))["drivers"]
        cortex = meshes.num_vertices(self.mesh)
        for key in ("driver", "noise_ceiling"):
            if key not in arrays or arrays[key].shape != (cortex,):
                found = arrays[key].shape if key in arrays else "nothing"
                raise MindvizError(f"{path}: expected {key} of shape ({cortex},), found {found}")
        return Truth(arrays["driver"], arrays["noise_ceiling"].astype(np.float32), tuple(names))

    # ------------------------------------------------------------------ reading
    def _run_file(self, subject: str, run: str, repeat: int | None = None) -> Path:
        folder = self.folder / f"subject{subject}"
        return folder / (f"{run}.safetensors" if repeat is None else f"repeats/{run}_{repeat:02d}.safetensors")

    def _split_of(self, subject: str, run: str) -> str:
        for split in SPLITS:
            if run in self.runs(subject, split):
                return split
        known = ", ".join(r for split in SPLITS for r in self.runs(subject, split))
        raise MindvizError(f"{self.folder}: expected a run of subject {subject} ({known}), found {run!r}")

    def _read_run(self, subject: str, name: str, repeat: int | None) -> ScanRun:
        split = self._split_of(subject, name)
        path = self._run_file(subject, name, repeat)
        arrays = load_arrays(path)
        bold, vertices = check_run(path, arrays, meshes.num_vertices(self.mesh))
        return ScanRun(bold, vertices, self.mesh, self.info.tr, subject, split, name)

    def _read_film(self, name: str) -> VideoClip:
        if name not in self.info.stimuli:
            raise MindvizError(f"{self.folder}: expected a film of {', '.join(self.info.stimuli)}, found {name!r}")
        path = self.folder / "stimuli" / f"{name}.mp4"
        clip, expected = read_video(path), self.info.stimuli[name].get("frames")
        if expected is not None and len(clip.frames) != expected:
            raise MindvizError(f"{path}: expected {expected} frames, found {len(clip.frames)}")
        clip.frames.flags.writeable = False
        return clip

    def _read_notes(self, name: str) -> dict[str, Any]:
        path = self.folder / "stimuli" / f"{name}.json"
        return read_json(path) if path.is_file() else {}


def check_run(path: Path, arrays: Mapping[str, np.ndarray], cortex: int) -> tuple[np.ndarray, np.ndarray]:
    """`bold` as float32 [time, V] and `vertices` as int64 [V] from a run's file, checked.

    Raises
    ------
    MindvizError
        For missing arrays, shapes that do not match, vertices off the mesh or repeated, NaN, or constant columns.
    """
    missing = {"bold", "vertices"} - set(arrays)
    if missing:
        raise MindvizError(f"{path}: expected bold and vertices, found {', '.join(arrays) or 'nothing'}")
    bold, vertices = arrays["bold"].astype(np.float32), arrays["vertices"].astype(np.int64)
    if bold.ndim != 2 or vertices.shape != bold.shape[1:] or 0 in bold.shape:
        raise MindvizError(f"{path}: expected bold [time, V] and vertices [V], found {bold.shape} and {vertices.shape}")
    if vertices.min() < 0 or vertices.max() >= cortex or len(np.unique(vertices)) != len(vertices):
        raise MindvizError(
            f"{path}: expected distinct vertices from 0 to {cortex - 1}, found {len(np.unique(vertices))} distinct "
            f"ones of {len(vertices)} from {vertices.min()} to {vertices.max()}"
        )
    bad = ~np.isfinite(bold).all(axis=0)
    if bad.any():
        raise MindvizError(
            f"{path}: expected finite values, found NaN or infinity in {bad.sum()} of {bad.size} columns"
        )
    constant = (bold == bold[:1]).all(axis=0)
    if len(bold) > 1 and constant.any():
        raise MindvizError(f"{path}: expected every column to vary, found {constant.sum()} constant of {len(vertices)}")
    bold.flags.writeable = False
    return bold, vertices
