"""The layout of Wen et al. 2018: the runs and repeats of a download, and how to read one.

The download (https://purr.purdue.edu/publications/2808) holds, for each of three subjects, 18 training segments shown
twice and 5 test segments shown ten times::

    subject1/fmri/seg1/cifti/seg1_1_Atlas.dtseries.nii    …_2_Atlas…
    subject1/fmri/test1/cifti/test1_1_Atlas.dtseries.nii  … test1_10_Atlas…
    stimuli/seg1.mp4 …  stimuli/test1.mp4                  (and, optionally, stimuli/seg1.json with captions)

Runs may be NIfTI images in MNI152 space instead, ``fmri/seg1/mni/seg1_1_mni.nii.gz`` (`mindviz.data.raw_runs`).
`mindviz.data.preparation` turns them into a dataset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindviz.data import cleaning, raw_runs
from mindviz.data.stimuli import TR
from mindviz.storage import read_json
from mindviz.types import MindvizError

LABEL = "simulated.json"
"""A file beside simulated raw runs with their name, marking them as simulated."""


def run_path(raw: Path, subject: str, run: str, repeat: int) -> Path:
    """The path of one repeat (from 1) of one run in the raw layout."""
    return Path(raw) / f"subject{subject}" / "fmri" / run / "cifti" / f"{run}_{repeat}_Atlas.dtseries.nii"


def expected_repeats(run: str) -> int:
    """2 for training segments, 10 for test runs."""
    return 10 if run.startswith("test") else 2


def natural_order(name: str) -> tuple[str, int]:
    """A sort key that puts seg2 before seg10."""
    match = re.fullmatch(r"(\D*)(\d*)", name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def find_subjects(raw: Path) -> tuple[str, ...]:
    """Subjects of a raw folder, in natural order."""
    folders = [p.name.removeprefix("subject") for p in raw.glob("subject*") if (p / "fmri").is_dir()]
    if not folders:
        raise MindvizError(f"{raw}: expected folders like subject1/fmri, found {'a file' if raw.is_file() else 'none'}")
    return tuple(sorted(folders, key=natural_order))


def find_runs(raw: Path, subject: str) -> tuple[str, ...]:
    """Runs of a subject (``seg*``, ``test*``), in natural order."""
    folder = Path(raw) / f"subject{subject}" / "fmri"
    if not folder.is_dir():
        raise MindvizError(f"{folder}: expected the runs of subject {subject}, found no such folder")
    named = [p for p in folder.iterdir() if re.fullmatch(r"(seg|test)\d+", p.name)]
    runs = [p.name for p in named if any((p / kind).is_dir() for kind in raw_runs.FOLDERS)]
    if not runs:
        raise MindvizError(f"{folder}: expected runs like seg1/cifti, test1/cifti or seg1/mni, found none")
    return tuple(sorted(runs, key=natural_order))


def check_repeats(paths: Sequence[Path]) -> None:
    """Check the headers of all repeats of a run: files complete, 91,282 grayordinates or the same voxels in MNI152
    space, the same number of volumes, a TR of 2 s.

    Raises
    ------
    MindvizError
        Naming the first offending file.
    """
    counts = raw_runs.count_volumes(paths, TR)
    for path, count in counts.items():
        if count not in cleaning.FIRST_VOLUMES:
            raise MindvizError(f"{path}: expected 245 or 246 volumes, found {count}")
        if count != counts[paths[0]]:
            raise MindvizError(f"{path}: expected {counts[paths[0]]} volumes as in {paths[0].name}, found {count}")


def read_repeat(path: Path, allow_constant: bool = False, like: Path | None = None) -> np.ndarray:
    """One raw run -> detrended and z-scored cortex, float32 [59412, 240]; 0 at vertices without a voxel.

    `like` as in `mindviz.data.volumes.read_image_cortex`.

    Raises
    ------
    MindvizError
        For NaN or infinite values, or vertices that are constant or all NaN (these become 0 if allowed).
    """
    bold, read = raw_runs.read_cortex(path, like)
    bold = np.ascontiguousarray(bold[:, cleaning.kept_volumes(bold.shape[1])])
    empty = np.isnan(bold).all(axis=1)  # some programs write NaN outside the brain
    if not allow_constant and empty.any():
        raise MindvizError(
            f"{path}: expected finite values, found nothing but NaN in {empty.sum()} of {len(bold)} vertices "
            "(--allow-constant leaves them out)"
        )
    bold[empty] = 0
    bad = ~np.isfinite(bold.sum(axis=1, dtype=np.float64))
    if bad.any():
        raise MindvizError(
            f"{path}: expected finite values, found NaN or infinity in {bad.sum()} of {len(bold)} vertices"
        )
    constant = cleaning.constant_rows(bold) & read
    if constant.any() and not allow_constant:
        raise MindvizError(
            f"{path}: expected every cortical vertex to vary, found {constant.sum()} constant ones, the first at "
            f"{int(np.argmax(constant))} (--allow-constant leaves them out)"
        )
    cleaned = cleaning.clean(bold)
    cleaned[constant] = 0
    return cleaned


def read_label(raw: Path) -> dict[str, Any]:
    """`name` and `simulated` for `PrepareOptions`, read from ``simulated.json``; empty without that file."""
    path = Path(raw) / LABEL
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content.get("simulated"), bool) or not isinstance(content.get("name"), str):
        raise MindvizError(f'{path}: expected "simulated", true or false, and a "name", found {content}')
    return {"name": content["name"], "simulated": content["simulated"]}
