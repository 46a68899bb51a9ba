"""What is checked before the first step of any training: data that fit each other, and no test frame in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mindviz.data import Dataset
from mindviz.types import MindvizError, ScanRun, VideoClip

FPS_TOLERANCE = 1e-3
NAMED = 5
"""How many shared frames a refusal names."""


def frame_hashes(frames: np.ndarray) -> list[bytes]:
    """A hash of the pixels of each frame (N, H, W, 3); frames of other sizes never agree."""
    size = str(frames.shape[1:]).encode()
    return [blake2b(np.ascontiguousarray(frame).data, digest_size=16, key=size).digest() for frame in frames]


def check_no_shared_frames(train_frames: Mapping[str, np.ndarray], test_frames: Mapping[str, np.ndarray]) -> None:
    """Refuse films of which a training frame is a test frame, pixel by pixel.

    Parameters
    ----------
    train_frames, test_frames : decoded frames (N, H, W, 3), uint8, by the name of their run.

    Raises
    ------
    MindvizError
        Naming both runs and the numbers of the first shared frames, and how many there are.
    """
    trained = {h: (run, i) for run, frames in train_frames.items() for i, h in enumerate(frame_hashes(frames))}
    shared = [
        f"frame {i} of test run {run} is frame {trained[h][1]} of training run {trained[h][0]}"
        for run, frames in test_frames.items()
        for i, h in enumerate(frame_hashes(frames))
        if h in trained
    ]
    if shared:
        more = f", and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise MindvizError(
            f"expected no test frame among the training frames, found {len(shared)}: {'; '.join(shared[:NAMED])}{more}"
        )


def check_dataset_for_training(dataset: Dataset, subject: str) -> None:
    """Refuse a subject whose films, captions, scans and voxels do not fit each other.

    Raises
    ------
    MindvizError
        Naming the run and the two values that differ: the film's frame rate and the dataset's, captions and frames,
        volumes and clips of the film, or the voxels of two runs or repeats.
    """
    first: ScanRun | None = None
    for split in ("train", "test"):
        for name in dataset.runs(subject, split):
            run, film = dataset.run(subject, name), dataset.film(name)
            _check_film(dataset, name, film)
            _check_volumes(dataset, film, run, f"run {name} of subject {subject}")
            first = first or run
            check_same_voxels(first.vertices, _named(first), run.vertices, _named(run))
            for number in dataset.repeats(subject, name):
                repeat = dataset.run(subject, name, number)
                what = f"repeat {number} of {_named(repeat)}"
                _check_volumes(dataset, film, repeat, what)
                check_same_voxels(run.vertices, _named(run), repeat.vertices, what)


def check_same_voxels(expected: np.ndarray, whose: str, found: np.ndarray, where: str) -> None:
    """Refuse vertices (V,) that are not those of another run or of a checkpoint, in the same order.

    Raises
    ------
    MindvizError
        Naming both counts, or the first place where the vertices differ and both vertices there.
    """
    if len(found) != len(expected):
        raise MindvizError(f"{where}: expected the {len(expected)} voxels of {whose}, found {len(found)} voxels")
    differing = np.flatnonzero(np.asarray(found) != np.asarray(expected))
    if len(differing):
        i = int(differing[0])
        raise MindvizError(
            f"{where}: expected the voxels of {whose}, found {len(differing)} others of {len(found)}; the first is "
            f"voxel {i}, vertex {int(expected[i])} there and {int(found[i])} here"
        )


def check_checkpoint_voxels(dataset: Dataset, subject: str, vertices: np.ndarray, source: Path | str) -> None:
    """Refuse to train a subject's encoder on from a checkpoint that was made for other voxels.

    Parameters
    ----------
    vertices : of the checkpoint (`mindviz.encoder.SubjectData`), (V,).
    source : where the checkpoint is.
    """
    run = dataset.run(subject, (*dataset.runs(subject, "train"), *dataset.runs(subject, "test"))[0])
    check_same_voxels(vertices, f"the checkpoint {source}", run.vertices, _named(run))


def check_before_training(dataset: Dataset, subjects: Sequence[str] | None = None) -> None:
    """All of the above that need no checkpoint, for these subjects, or for all: some seconds for 18 films."""
    subjects = dataset.subjects if subjects is None else subjects
    for subject in subjects:
        check_dataset_for_training(dataset, subject)
    names = {split: {r for s in subjects for r in dataset.runs(s, split)} for split in ("train", "test")}
    both = sorted(names["train"] & names["test"])
    if both:
        raise MindvizError(
            f"{dataset.folder}: expected other runs for training than for testing, found {both[0]} in both"
        )
    films = {split: {r: dataset.film(r).frames for r in sorted(runs)} for split, runs in names.items()}
    check_no_shared_frames(films["train"], films["test"])


def _named(run: ScanRun) -> str:
    return f"run {run.name} of subject {run.subject}"


def _check_film(dataset: Dataset, name: str, film: VideoClip) -> None:
    """Frame rate and captions; a dataset need not have captions."""
    fps = dataset.info.fps
    if abs(film.fps - fps) > FPS_TOLERANCE * fps:
        raise MindvizError(f"film {name}: expected the dataset's {fps:g} frames a second, found {film.fps:g}")
    count, clip = 0, 0
    while found := len(dataset.captions(name, clip)):
        count, clip = count + found, clip + 1
    if count and count != len(film.frames):
        raise MindvizError(f"film {name}: expected one caption for each of {len(film.frames)} frames, found {count}")


def _check_volumes(dataset: Dataset, film: VideoClip, run: ScanRun, what: str) -> None:
    clips = len(film.frames) // dataset.clip_frames
    if len(run.bold) != clips:
        raise MindvizError(f"{what}: expected a volume for each of the film's {clips} clips, found {len(run.bold)}")
