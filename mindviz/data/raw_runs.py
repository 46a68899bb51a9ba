"""Raw runs of either kind: CIFTI dense time series, or NIfTI images in MNI152 space.

Both follow the layout of Wen 2018: ``fmri/seg1/cifti/seg1_1_Atlas.dtseries.nii``, ``fmri/seg1/mni/seg1_1_mni.nii.gz``.
If both exist, the CIFTI files are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mindviz.data import cifti, volumes
from mindviz.types import MindvizError

FOLDERS = ("cifti", "mni")
_CIFTI = "_Atlas.dtseries.nii"


def is_volume(path: Path) -> bool:
    """Whether a raw run consists of NIfTI images."""
    return not path.name.endswith(".dtseries.nii")


def present(path: Path) -> Path:
    """The raw run for the path of a CIFTI file: that file, or its NIfTI counterpart if only that exists.

    If neither exists, the path of the kind that the run's other repeats have.
    """
    stem = path.name.removesuffix(_CIFTI)
    beside = [path.parents[1] / "mni" / f"{stem}_mni{ending}" for ending in volumes.ENDINGS]
    there = [one for one in (path, *beside) if one.exists()]
    images = beside[0].parent.is_dir() and not any(path.parent.glob(f"*{_CIFTI}"))
    return there[0] if there else beside[0] if images else path


def count_volumes(paths: Sequence[Path], tr: float) -> dict[Path, int]:
    """The number of volumes in the header of each file: repeats of one run, or runs of one subject, with this TR.

    Raises
    ------
    MindvizError
        Naming the first file that cannot be read, or whose kind, voxels or TR differ.
    """
    counts: dict[Path, int] = {}
    first = volumes.open_images(paths[0]) if paths and is_volume(paths[0]) else None
    for path in paths:
        if is_volume(path) != (first is not None):
            raise MindvizError(f"{path}: expected a run of the same kind as {paths[0].name}, found another kind")
        run = cifti.open_series(path) if first is None else volumes.open_images(path)
        if isinstance(run, volumes.Images) and first is not None:
            run.check_grid(first)
        _check_step(path, run.step, tr)
        counts[path] = run.volumes
    return counts


def _check_step(path: Path, step: float, tr: float) -> None:
    """Refuse a run whose header states a TR other than `tr` seconds.

    Programs write 0 or 1 for an unknown TR; without a unit, milliseconds may be meant. All of these pass.
    """
    if not any(abs(step - allowed) <= 1e-3 * max(allowed, 1) for allowed in (0, 1, tr, 1000 * tr)):
        raise MindvizError(f"{path}: expected a volume every {tr:g} s, found {step:g} s in its header")


def read_cortex(path: Path, like: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Time courses by cortical index, float32 [59412, time], and which of them were read, bool [59412].

    `like` as in `volumes.read_image_cortex`; ignored for CIFTI files.
    """
    if is_volume(path):
        return volumes.read_image_cortex(path, like)
    bold = cifti.read_series_cortex(path)
    return bold, np.ones(len(bold), bool)


def volume_arrays(path: Path) -> dict[str, np.ndarray]:
    """For images, the voxel of each cortical index (-1 for none), shape and affine, as arrays; empty for CIFTI."""
    if not is_volume(path):
        return {}
    images = volumes.open_images(path)
    vertices, volume = images.geometry
    voxels = np.full((cifti.NUM_CORTEX, 3), -1, np.int32)
    voxels[vertices] = volume.voxels
    return {"voxels": voxels, "shape": np.array(images.shape, np.int32), "affine": images.affine}


def chosen_volume(runs: Sequence[Mapping[str, np.ndarray]], vertices: np.ndarray) -> dict[str, np.ndarray]:
    """The `volume_arrays` common to all runs of a subject, restricted to its vertices; empty for CIFTI.

    Raises
    ------
    MindvizError
        For runs with different voxels.
    """
    names = ("voxels", "shape", "affine")
    held = [{name: run[name] for name in names} if "voxels" in run else {} for run in runs]
    same = all(bool(one) == bool(held[0]) for one in held)
    if not same or any(not np.allclose(one[name], held[0][name], rtol=0, atol=0.01) for one in held for name in one):
        raise MindvizError(
            "the runs of a subject need the same voxels (shape and affine of the images), found different ones"
        )
    if not held or not held[0]:
        return {}
    return {**held[0], "voxels": held[0]["voxels"][vertices]}
