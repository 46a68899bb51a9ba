"""What is refused before training: shared frames, and films, captions, scans and voxels that do not fit each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindviz.data import Dataset
from mindviz.storage import save_arrays, write_json
from mindviz.types import MindvizError, VideoClip
from mindviz.video import write_mp4
from training.data.checks import (
    check_before_training,
    check_checkpoint_voxels,
    check_dataset_for_training,
    check_no_shared_frames,
    frame_hashes,
)

RUNS = {"seg1": "train", "seg2": "train", "test1": "test"}
VERTICES = np.arange(100, 110, dtype=np.int32)
CLIPS, CLIP_FRAMES = 4, 6


def _film(name: str) -> np.ndarray:
    seed = list(RUNS).index(name)
    return np.random.default_rng(seed).integers(0, 256, (CLIPS * CLIP_FRAMES, 16, 16, 3), dtype=np.uint8)


def _write_film(folder: Path, name: str, frames: np.ndarray, fps: float = 3.0) -> None:
    write_mp4(folder / "stimuli" / f"{name}.mp4", VideoClip(frames, fps), lossless=True)


def _write_run(folder: Path, name: str, volumes: int = CLIPS, vertices: np.ndarray = VERTICES) -> None:
    bold = np.random.default_rng(9).standard_normal((volumes, len(vertices))).astype(np.float16)
    save_arrays(folder / "subject1" / f"{name}.safetensors", {"bold": bold, "vertices": vertices})


def _edit_info(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two training runs and a test run of one subject, whose test run keeps a repeat."""
    for name in RUNS:
        _write_film(tmp_path, name, _film(name))
        write_json(tmp_path / "stimuli" / f"{name}.json", {"captions": ["a fox"] * CLIPS * CLIP_FRAMES})
        _write_run(tmp_path, name)
    _write_run(tmp_path, "repeats/test1_02")
    splits = {split: [r for r, s in RUNS.items() if s == split] for split in ("train", "test")}
    content = {
        "format": 1,
        "name": "tiny",
        "simulated": True,
        "mesh": "fsLR-32k",
        "tr": 2.0,
        "fps": 3.0,
        "window": {"size": 2, "lag": 2},
        "subjects": {"1": splits},
        "stimuli": {name: {} for name in RUNS},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_data_that_fit_pass_with_captions_and_without(folder: Path) -> None:
    kept = {p: p.read_bytes() for p in folder.rglob("*.*")}
    check_before_training(Dataset.open(folder))
    assert {p: p.read_bytes() for p in folder.rglob("*.*")} == kept  # a check changes nothing
    for name in RUNS:
        (folder / "stimuli" / f"{name}.json").unlink()
    dataset = Dataset.open(folder)
    check_before_training(dataset, ("1",))
    assert not dataset.captions("seg1", 0)  # so the second passed without any


def _one_caption_too_few(folder: Path) -> None:
    write_json(folder / "stimuli" / "seg2.json", {"captions": ["a fox"] * 23})


def _one_caption_too_many(folder: Path) -> None:
    write_json(folder / "stimuli" / "seg2.json", {"captions": ["a fox"] * 25})


MISFITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a film of another rate": (
        lambda f: _write_film(f, "seg2", _film("seg2"), fps=4.0),
        r"film seg2: expected the dataset's 3 frames a second, found 4",
    ),
    "a scan of no whole number of frames": (
        lambda f: _edit_info(f, tr=2.1),
        r"expected a whole number of frames in a scan, found 6\.3 \(tr 2\.1 s x fps 3\)",
    ),
    "a caption too few": (_one_caption_too_few, r"film seg2: expected one caption for each of 24 frames, found 23"),
    "a caption too many": (_one_caption_too_many, r"film seg2: expected one caption for each of 24 frames, found 25"),
    "a volume too few": (
        lambda f: _write_run(f, "seg2", volumes=3),
        r"run seg2 of subject 1: expected a volume for each of the film's 4 clips, found 3",
    ),
    "a film too short": (
        lambda f: (_write_film(f, "test1", _film("test1")[:18]), (f / "stimuli" / "test1.json").unlink())[0],
        r"run test1 of subject 1: expected a volume for each of the film's 3 clips, found 4",
    ),
    "fewer voxels in the test run": (
        lambda f: _write_run(f, "test1", vertices=VERTICES[:-1]),
        r"run test1 of subject 1: expected the 10 voxels of run seg1 of subject 1, found 9 voxels",
    ),
    "other voxels in a run": (
        lambda f: _write_run(f, "seg2", vertices=np.where(VERTICES > 107, VERTICES + 5, VERTICES)),
        r"run seg2 of subject 1: expected the voxels of run seg1 of subject 1, found 2 others of 10; the first is "
        r"voxel 8, vertex 108 there and 113 here",
    ),
    "other voxels in a repeat": (
        lambda f: _write_run(f, "repeats/test1_02", vertices=VERTICES[::-1].copy()),
        r"repeat 2 of run test1 of subject 1: expected the voxels of run test1 of subject 1, found 10 others of 10",
    ),
    "a repeat of another length": (
        lambda f: _write_run(f, "repeats/test1_02", volumes=5),
        r"repeat 2 of run test1 of subject 1: expected a volume for each of the film's 4 clips, found 5",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_data_that_do_not_fit_are_refused_with_both_values(misfit: str, folder: Path) -> None:
    spoil, message = MISFITS[misfit]
    spoil(folder)
    with pytest.raises(MindvizError, match=message):
        check_dataset_for_training(Dataset.open(folder), "1")


def test_a_checkpoint_of_other_voxels_is_refused(folder: Path) -> None:
    dataset = Dataset.open(folder)
    check_checkpoint_voxels(dataset, "1", VERTICES.astype(np.int64), "runs/mask1")
    with pytest.raises(MindvizError, match=r"run seg1 .*the 4 voxels of the checkpoint runs/mask1, found 10 voxels"):
        check_checkpoint_voxels(dataset, "1", VERTICES[:4], "runs/mask1")
    with pytest.raises(MindvizError, match=r"checkpoint runs/mask1, found 10 others .* vertex 101 there and 100 here"):
        check_checkpoint_voxels(dataset, "1", VERTICES + 1, "runs/mask1")


def test_a_shared_frame_is_refused_and_named(folder: Path) -> None:
    frames = _film("seg2")
    frames[5] = _film("test1")[20]
    _write_film(folder, "seg2", frames)
    with pytest.raises(MindvizError, match=r"found 1: frame 20 of test run test1 is frame 5 of training run seg2$"):
        check_before_training(Dataset.open(folder))


def test_a_run_for_both_is_refused(folder: Path) -> None:
    _edit_info(folder, subjects={"1": {"train": ["seg1", "seg2"], "test": ["seg2"]}})
    with pytest.raises(MindvizError, match="expected other runs for training than for testing, found seg2 in both"):
        check_before_training(Dataset.open(folder))


def test_many_shared_frames_are_counted() -> None:
    film = _film("seg1")
    with pytest.raises(MindvizError, match=r"found 24: frame 0 of test run b is frame 0 .*, and 19 more$"):
        check_no_shared_frames({"a": film}, {"b": film.copy()})
    check_no_shared_frames({"a": film}, {"b": film ^ 1, "c": film[:, :8], "d": film[:0]})


def test_frames_are_hashed_by_content_alone() -> None:
    film = _film("seg1")
    assert frame_hashes(film[::2]) == frame_hashes(film)[::2]
    assert frame_hashes(film[:, :, ::-1]) == frame_hashes(film[:, :, ::-1].copy()) != frame_hashes(film)
