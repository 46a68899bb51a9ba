"""Simulated runs written in the layout of Wen et al. 2018, so that the reader of the real download reads them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np

from mindviz.brain import meshes
from mindviz.data import cifti
from mindviz.data.stimuli import TR
from mindviz.data.wen2018 import run_path
from mindviz.simulate import forward
from mindviz.simulate.subjects import Subject
from mindviz.storage import atomic_file

SUBCORTEX: dict[str, int] = {
    "ACCUMBENS_LEFT": 135,
    "ACCUMBENS_RIGHT": 140,
    "AMYGDALA_LEFT": 315,
    "AMYGDALA_RIGHT": 332,
    "BRAIN_STEM": 3472,
    "CAUDATE_LEFT": 728,
    "CAUDATE_RIGHT": 755,
    "CEREBELLUM_LEFT": 8709,
    "CEREBELLUM_RIGHT": 9144,
    "DIENCEPHALON_VENTRAL_LEFT": 706,
    "DIENCEPHALON_VENTRAL_RIGHT": 712,
    "HIPPOCAMPUS_LEFT": 764,
    "HIPPOCAMPUS_RIGHT": 795,
    "PALLIDUM_LEFT": 297,
    "PALLIDUM_RIGHT": 260,
    "PUTAMEN_LEFT": 1060,
    "PUTAMEN_RIGHT": 1010,
    "THALAMUS_LEFT": 1288,
    "THALAMUS_RIGHT": 1248,
}
"""Number of voxels of each structure in the HCP's 91,282 grayordinates, in file order."""
BASELINE = 10_000.0
PERCENT = 100.0
"""Raw units per standard deviation of a response: 1 % of the baseline."""


@lru_cache(maxsize=1)
def brain_models() -> nib.cifti2.BrainModelAxis:
    """An axis of 91,282 grayordinates: both hemispheres of fsLR-32k and 19 subcortical structures.

    Counts and order are the HCP's. The voxels are blocks in its 2 mm grid without anatomical meaning: nothing reads
    them here.
    """
    cortices = meshes.cortex_index(meshes.MESH)
    count, voxels = sum(SUBCORTEX.values()), (91, 109, 91)
    names = [f"CIFTI_STRUCTURE_{name}" for name in SUBCORTEX]
    places = np.stack(np.unravel_index(200_000 + np.arange(count), voxels), axis=1)
    on_surface = sum(map(len, cortices))
    # A single call: adding axes to each other would check all names repeatedly, which takes seconds.
    return nib.cifti2.BrainModelAxis(
        np.repeat([*cifti.HEMISPHERES, *names], [*map(len, cortices), *SUBCORTEX.values()]),
        voxel=np.concatenate([np.full((on_surface, 3), -1), places]),
        vertex=np.concatenate([*cortices, np.full(count, -1)]),
        affine=np.array([[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]], float),
        volume_shape=voxels,
        nvertices=dict.fromkeys(cifti.HEMISPHERES, meshes.hemisphere_vertices(meshes.MESH)),
    )


@lru_cache(maxsize=2)
def series_header(volumes: int) -> bytes:
    """Everything before the data in a dense time series of `volumes`; the same for every run."""
    series = nib.cifti2.SeriesAxis(0.0, TR, volumes, unit="second")
    header = nib.cifti2.Cifti2Header.from_axes((series, brain_models()))
    image = nib.Cifti2Image(np.broadcast_to(np.float32(0), (volumes, cifti.NUM_GRAYORDINATES)), header)
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    image.nifti_header.set_data_dtype(np.float32)
    image.update_headers()
    whole = image.to_bytes()
    return whole[: len(whole) - volumes * cifti.NUM_GRAYORDINATES * 4]


def write_series(path: Path, data: np.ndarray) -> None:
    """Write float32 [91282, volumes] as ``.dtseries.nii``, atomically.

    A CIFTI file stores the volumes of each grayordinate contiguously, as `data` does in memory.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(series_header(data.shape[1]))
        np.ascontiguousarray(data, "<f4").tofile(file)


def simulate_run(subject: Subject, response: np.ndarray, run: str, repeat: int) -> np.ndarray:
    """Raw grayordinates of one repeat of one run, float32 [91282, volumes].

    Parameters
    ----------
    response : noiseless response to the film, float32 [59412, volumes] (`forward.responses`)
    repeat : from 1; part of the seed of the noise
    """
    volumes = response.shape[1]
    rng = subject.spec.rng("noise", run, str(repeat))
    data = np.empty((cifti.NUM_GRAYORDINATES, volumes), np.float32)
    top = data[: cifti.NUM_CORTEX]
    np.multiply(forward.noise(rng, volumes), np.float32(subject.spec.noise * PERCENT), out=top)
    top += np.float32(PERCENT) * (response + forward.spontaneous(rng, subject, response))
    top += np.float32(BASELINE) * subject.baseline[:, None]
    below = data[cifti.NUM_CORTEX :]
    rng.standard_normal(dtype=np.float32, out=below)
    below *= np.float32(subject.spec.noise * PERCENT)
    below += np.float32(BASELINE)
    return data


def write_run(folder: Path, subject: Subject, response: np.ndarray, run: str, repeats: int) -> list[Path]:
    """Simulate and write all repeats of a run; existing files are kept."""
    paths = [run_path(folder, subject.spec.name, run, repeat) for repeat in range(1, repeats + 1)]
    for repeat, path in enumerate(paths, start=1):
        if not path.is_file():
            write_series(path, simulate_run(subject, response, run, repeat))
    return paths
