"""From a raw download to a prepared dataset: clean each run, select vertices, write the films, publish all at once.

Runs are read one file at a time; only the mean of each run's cleaned repeats is kept (28 MB) until the vertices are
selected by reliability over all training segments.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mindviz.brain import meshes
from mindviz.data import cifti, raw_runs, selection
from mindviz.data.stimuli import FPS, TR, check_captions, num_frames, read_film
from mindviz.data.wen2018 import (
    check_repeats,
    expected_repeats,
    find_runs,
    find_subjects,
    natural_order,
    read_repeat,
    run_path,
)
from mindviz.data.windows import WindowSpec
from mindviz.storage import atomic_file, atomic_folder, load_arrays, read_json, replaceable, save_arrays
from mindviz.types import MindvizError
from mindviz.video import write_mp4

FileProgress = Callable[[int, int, str], None]
"""Called with (files done, total files, the last file)."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a raw download becomes a dataset.

    Attributes
    ----------
    frame_size : side in pixels of the square to which the films are cropped.
    lossless : re-encode the films without loss.
    keep_repeats : also store the single repeats of test runs.
    alpha, fraction : for the vertex selection (`selection.select_reliable`).
    allow_constant : exclude vertices that are constant in any run from the selection, instead of refusing the run.
    """

    name: str = "Wen 2018"
    simulated: bool = False
    frame_size: int = 256
    lossless: bool = False
    keep_repeats: bool = False
    alpha: float = 0.01
    fraction: float = 0.5
    allow_constant: bool = False
    window: WindowSpec = field(default_factory=WindowSpec)


class Preparation:
    """A dataset in preparation: runs are added one by one, then each subject is finished, then all is published.

    Everything stays in a hidden folder beside the target until `publish`. Existing parts are not made again, so an
    interrupted preparation resumes where it stopped (`discard` starts afresh).
    """

    def __init__(self, target: Path, options: PrepareOptions) -> None:
        self.target = Path(target)
        self.options = options
        self.work = self.target.parent / f".{self.target.name}-preparing"
        self.folder = self.work / "dataset"
        self._subjects: dict[str, dict[str, list[str]]] = {}

    def discard(self) -> None:
        """Delete everything prepared so far; the target itself stays."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _kept(self, subject: str, run: str) -> Path:
        return self.work / "cortex" / f"subject{subject}" / f"{run}.safetensors"

    def has_run(self, subject: str, run: str) -> bool:
        return self._kept(subject, run).is_file()

    def add_run(
        self,
        subject: str,
        run: str,
        paths: Sequence[Path],
        done: Callable[[Path], None] | None = None,
        like: Path | None = None,
    ) -> None:
        """Clean and average the repeats of a run; the first two give the reliability of every vertex.

        `done` is called with each file once it has been read. `like` is the subject's first file (default: the run's);
        for images it determines the voxels at which all of them are read.
        """
        check_repeats(paths)
        total: np.ndarray | None = None
        like = like or (paths[0] if paths else None)
        arrays = raw_runs.volume_arrays(like) if like else {}
        never = np.zeros(cifti.NUM_CORTEX, bool)
        for number, path in enumerate(paths, start=1):
            cleaned = read_repeat(path, self.options.allow_constant, like)
            never |= ~cleaned.any(axis=1)
            if number == 2 and total is not None:
                arrays["fisher_z"] = selection.fisher_z(total, cleaned)
            if self.options.keep_repeats and run.startswith("test"):
                arrays[f"repeat_{number:02d}"] = cleaned.astype(np.float16)
            total = cleaned if total is None else np.add(total, cleaned, out=total)
            if done is not None:
                done(path)
        if total is None:
            raise MindvizError(f"{run} of subject {subject}: expected at least one repeat, found none")
        total /= len(paths)
        save_arrays(self._kept(subject, run), {"average": total.astype(np.float16), "constant": never, **arrays})

    def _selected(self, subject: str, run: str, reliability: np.ndarray) -> selection.Selection:
        """Select among the vertices that were read (for images, not all), so that only these count as tests."""
        voxels = load_arrays(self._kept(subject, run)).get("voxels")
        read = np.arange(reliability.shape[1]) if voxels is None else np.flatnonzero(voxels[:, 0] >= 0)
        found = selection.select_reliable(reliability[:, read], self.options.alpha, self.options.fraction)
        return found.among(read, reliability.shape[1])

    def finish_subject(self, subject: str, train: Sequence[str], test: Sequence[str]) -> selection.Selection:
        """Select the subject's vertices on its training runs, none constant in any run, and write all its runs."""
        if not train:
            raise MindvizError(f"subject {subject}: expected training runs (seg1, …) to select vertices on, found none")
        reliability = np.stack([load_arrays(self._kept(subject, run))["fisher_z"] for run in train])
        constant = [load_arrays(self._kept(subject, run))["constant"] for run in (*train, *test)]
        reliability[:, np.any(constant, axis=0)] = 0
        chosen = self._selected(subject, train[0], reliability)
        folder = self.folder / f"subject{subject}"
        volume = raw_runs.chosen_volume([load_arrays(self._kept(subject, r)) for r in (*train, *test)], chosen.vertices)
        if volume:
            save_arrays(folder / "volume.safetensors", volume)
        for run in (*train, *test):
            arrays = load_arrays(self._kept(subject, run))
            self._write_run(folder / f"{run}.safetensors", arrays["average"], chosen.vertices)
            for name in sorted(n for n in arrays if n.startswith("repeat_")):
                path = folder / "repeats" / f"{run}_{name.removeprefix('repeat_')}.safetensors"
                self._write_run(path, arrays[name], chosen.vertices)
        self._subjects[subject] = {"train": list(train), "test": list(test)}
        return chosen

    def adopt_subject(self, subject: str) -> None:
        """Copy a subject unchanged from the published target, so that only others are prepared again."""
        splits = read_json(self.target / "dataset.json")["subjects"].get(subject)
        if splits is None:
            raise MindvizError(f"{self.target / 'dataset.json'}: expected subject {subject}, found no such subject")
        shutil.copytree(self.target / f"subject{subject}", self.folder / f"subject{subject}", dirs_exist_ok=True)
        self._subjects[subject] = splits

    @staticmethod
    def _write_run(path: Path, cortex: np.ndarray, vertices: np.ndarray) -> None:
        save_arrays(path, {"bold": np.ascontiguousarray(cortex[vertices].T), "vertices": vertices.astype(np.int32)})

    def add_stimulus(self, name: str, video: Path) -> None:
        """Read a film at 3 frames a second and write it, with its captions if ``NAME.json`` is beside it."""
        target = self.folder / "stimuli" / f"{name}.mp4"
        if target.is_file():
            return
        clip = read_film(video, self.options.frame_size)
        captions = video.with_suffix(".json")
        if captions.is_file():
            content = check_captions(captions, len(clip.frames))
            with atomic_file(target.with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        write_mp4(target, clip, lossless=self.options.lossless)

    def publish(self) -> Path:
        """Write ``dataset.json`` and move everything to the target at once; returns the target."""
        films = sorted((self.folder / "stimuli").glob("*.mp4"), key=lambda p: natural_order(p.stem))
        content = {
            "format": 1,
            "name": self.options.name,
            "simulated": self.options.simulated,
            "mesh": meshes.MESH,
            "tr": TR,
            "window": {"size": self.options.window.size, "lag": self.options.window.lag},
            "fps": FPS,
            "subjects": self._subjects,
            "stimuli": {p.stem: {"frames": num_frames(), "sha256": _sha256(p)} for p in films},
        }
        (self.folder / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        with atomic_folder(self.target) as temporary:
            for item in self.folder.iterdir():
                item.rename(temporary / item.name)
        self.discard()
        return self.target


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_prepared_target(raw: Path, target: Path) -> Path:
    """The resolved target: outside the raw download, and absent, empty or a dataset that may be replaced."""
    raw, target = Path(raw).resolve(), replaceable(target)
    if target == raw or target in raw.parents or raw in target.parents:
        raise MindvizError(f"{target}: expected a target outside the raw download and not around it, found raw {raw}")
    found = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if found and "dataset.json" not in found:
        names = ", ".join(found[:3])
        raise MindvizError(f"{target}: expected a new or empty folder or a dataset, found other files in it ({names})")
    return target


def _work_list(
    raw: Path, subjects: Sequence[str], runs: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], list[Path]]:
    def repeats(subject: str, run: str) -> list[Path]:
        every = range(1, expected_repeats(run) + 1)
        return [raw_runs.present(run_path(raw, subject, run, number)) for number in every]

    return {(s, r): repeats(s, r) for s in subjects for r in runs[s]}


def prepare(
    raw: Path,
    target: Path,
    subjects: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    options: PrepareOptions | None = None,
    progress: FileProgress | None = None,
) -> Path:
    """Prepare a raw download.

    Parameters
    ----------
    raw : folder with ``subject1/fmri/…`` and ``stimuli/…``
    target : dataset folder to write; it appears once everything has succeeded, and replaces an existing dataset.
    subjects : names without the prefix (``"1"``); by default, all in `raw`.
    runs : ``"seg1"``, …, ``"test1"``, …; by default, all in `raw`.
    progress : called after every file.

    Returns
    -------
    The target.

    Raises
    ------
    MindvizError
        In one sentence, for anything missing or wrong. All headers are checked before the first run is read.
    """
    aside, raw, options = check_prepared_target(raw, target), Path(raw), options or PrepareOptions()
    subjects = tuple(subjects or find_subjects(raw))
    runs_of = {subject: tuple(runs or find_runs(raw, subject)) for subject in subjects}
    files = _work_list(raw, subjects, runs_of)
    films = sorted({run for names in runs_of.values() for run in names}, key=natural_order)
    for paths in files.values():
        check_repeats(paths)
    for subject in subjects:
        selection.check_segments(sum(r.startswith("seg") for r in runs_of[subject]), f"subject {subject}: ")
        raw_runs.count_volumes([path for (whose, _), paths in files.items() if whose == subject for path in paths], TR)
    for film in films:
        if not (raw / "stimuli" / f"{film}.mp4").is_file():
            raise MindvizError(f"{raw / 'stimuli' / f'{film}.mp4'}: expected the film of {film}, found no such file")
    preparation = Preparation(aside, options)
    preparation.discard()
    try:
        _prepare_all(preparation, raw, files, films, progress or (lambda done, total, what: None))
        preparation.publish()
    finally:
        preparation.discard()
    return Path(target)


def _prepare_all(
    preparation: Preparation,
    raw: Path,
    files: Mapping[tuple[str, str], Sequence[Path]],
    films: Sequence[str],
    progress: FileProgress,
) -> None:
    total, count = sum(map(len, files.values())) + len(films), 0

    def step(what: str) -> None:
        nonlocal count
        count += 1
        progress(count, total, what)

    for film in films:
        preparation.add_stimulus(film, raw / "stimuli" / f"{film}.mp4")
        step(f"stimuli/{film}.mp4")
    first = {subject: paths[0] for (subject, _), paths in reversed(list(files.items()))}
    for (subject, run), paths in files.items():
        preparation.add_run(subject, run, paths, lambda path: step(str(path.relative_to(raw))), first[subject])
    for subject in dict.fromkeys(s for s, _ in files):
        names = [r for s, r in files if s == subject]
        preparation.finish_subject(
            subject, [r for r in names if r.startswith("seg")], [r for r in names if r.startswith("test")]
        )
