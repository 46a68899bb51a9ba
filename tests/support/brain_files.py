"""Maps and parcellations on disk, as other programs write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import gifti as nib_gifti

from mindviz.brain import cortex_index, parcellations


def write_func(path: Path, *maps: np.ndarray, side: str = "", dtype: str = "NIFTI_TYPE_FLOAT32") -> Path:
    arrays = [nib_gifti.GiftiDataArray(values, datatype=dtype) for values in maps]
    meta = nib_gifti.GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{side}"} if side else {})
    nib.save(nib.GiftiImage(darrays=arrays, meta=meta), path)
    return path


def write_dlabel(path: Path, labels: np.ndarray, names: Sequence[str]) -> Path:
    """A parcellation of the cortex of fsLR-32k (59412,), written by nibabel."""
    sides = zip(cortex_index("fsLR-32k"), ("LEFT", "RIGHT"), strict=True)
    models = [nib.cifti2.BrainModelAxis.from_surface(v, 32492, f"CIFTI_STRUCTURE_CORTEX_{s}") for v, s in sides]
    table = {i: (name or "???", (0.5, 0.5, 0.5, 1)) for i, name in enumerate(names)}
    axes = nib.cifti2.LabelAxis(["parcels"], [table]), models[0] + models[1]
    nib.save(nib.Cifti2Image(labels[None].astype(np.float32), axes), path)
    return path


def dlabel(path: Path, parcels: parcellations.Parcellation) -> Path:
    """A `Parcellation` as `write_dlabel` writes it."""
    return write_dlabel(path, parcels.labels, parcels.names)
