"""CIFTI-2 dense time series: the cortex of a file of 91,282 grayordinates, located by its brain models and checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.cifti2 import cifti2, parse_cifti2

from mindviz.brain import meshes
from mindviz.types import MindvizError

NUM_GRAYORDINATES = 91282
NUM_CORTEX = 59412
HEMISPHERES = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")
_CIFTI_EXTENSION = 32
_UNREADABLE = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
    cifti2.Cifti2HeaderError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
)


@dataclass(frozen=True)
class Series:
    """Where the data of a dense time series lie in its file, and which grayordinates are cortex.

    Attributes
    ----------
    volumes : int
    step : float
        Seconds from one volume to the next, according to the file.
    columns : ndarray, shape (59412,), int64
        Grayordinate of each cortical vertex, left then right, in the canonical order.
    dtype, offset, slope, intercept
        Of the values on disk; `value = slope * stored + intercept`.
    """

    path: Path
    volumes: int
    step: float
    columns: np.ndarray
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float


def open_series(path: Path) -> Series:
    """Read and check the header of a dense time series and the length of its file; no data are read.

    Raises
    ------
    MindvizError
        If the file is missing, not CIFTI-2, truncated, without exactly 91,282 grayordinates, or its brain models are
        not those of fsLR-32k.
    """
    path = Path(path)
    if not path.is_file():
        raise MindvizError(f"{path}: expected a CIFTI dense time series (.dtseries.nii), found no such file")
    try:
        with path.open("rb") as file:
            header = nib.Nifti2Header.from_fileobj(file)
        xml = [extension.content for extension in header.extensions if extension.get_code() == _CIFTI_EXTENSION]
        if len(xml) != 1:
            raise MindvizError("expected a CIFTI dense time series, found a NIfTI file without a CIFTI header")
        volumes, step, columns = _axes(xml[0])
    except MindvizError as error:
        raise MindvizError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MindvizError(
            f"{path}: expected a CIFTI dense time series, found one that cannot be read ({reason})"
        ) from error
    return _located(path, header, volumes, step, columns)


def _located(path: Path, header: nib.Nifti2Header, volumes: int, step: float, columns: np.ndarray) -> Series:
    shape = header.get_data_shape()
    if shape[-2:] != (volumes, NUM_GRAYORDINATES):
        raise MindvizError(
            f"{path}: expected {NUM_GRAYORDINATES} grayordinates and {volumes} volumes, found data {shape}"
        )
    offset, dtype = int(header["vox_offset"]), header.get_data_dtype()
    expected, found = offset + int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
    if found < expected:
        raise MindvizError(f"{path}: expected {expected} bytes, found {found}: the file is truncated")
    slope, intercept = header.get_slope_inter()
    return Series(path, volumes, step, columns, dtype, offset, slope or 1.0, intercept or 0.0)


@lru_cache(maxsize=16)
def _axes(xml: bytes) -> tuple[int, float, np.ndarray]:
    """Number of volumes, seconds between them and cortical columns, from the CIFTI XML; cached, as parsing takes a
    second and most runs share it.
    """
    header = parse_cifti2.Cifti2Extension.from_bytes(xml).get_object()
    rows, models = header.get_axis(0), header.get_axis(1)
    if not isinstance(rows, nib.cifti2.SeriesAxis) or rows.unit != "SECOND":
        found = f"a series in {rows.unit}" if isinstance(rows, nib.cifti2.SeriesAxis) else type(rows).__name__
        raise MindvizError(f"expected a series in seconds along the first axis, found {found}")
    if not isinstance(models, nib.cifti2.BrainModelAxis):
        raise MindvizError(f"expected brain models along the second axis, found {type(models).__name__}")
    if len(models) != NUM_GRAYORDINATES:
        raise MindvizError(f"expected {NUM_GRAYORDINATES} grayordinates, found {len(models)}")
    columns = _cortex_columns(models)
    columns.flags.writeable = False
    return len(rows), float(rows.step), columns


def _cortex_columns(axis: nib.cifti2.BrainModelAxis) -> np.ndarray:
    """Grayordinate of each of the 59,412 cortical vertices, left then right, int64."""
    parts = []
    for name, wanted in zip(HEMISPHERES, meshes.cortex_index("fsLR-32k"), strict=True):
        columns = np.flatnonzero(axis.name == name)
        vertices = axis.vertex[columns]
        if not np.array_equal(np.sort(vertices), wanted):
            raise MindvizError(
                f"expected {name} to hold the {len(wanted)} cortical vertices of fsLR-32k, "
                f"found {len(vertices)}{'' if len(vertices) != len(wanted) else ' other'} vertices"
            )
        parts.append(columns[np.argsort(vertices, kind="stable")])
    return np.concatenate(parts)


def read_series_cortex(path: Path) -> np.ndarray:
    """Time courses of the cortical vertices, float32 [59412, time], in canonical order; errors as for `open_series`.

    A CIFTI file stores the volumes of each grayordinate contiguously, so the layout on disk is [grayordinate, time].
    """
    series = open_series(path)
    stored = np.memmap(path, series.dtype, "r", series.offset, (NUM_GRAYORDINATES, series.volumes))
    in_order = np.array_equal(series.columns, np.arange(NUM_CORTEX))
    bold = np.array(stored[:NUM_CORTEX] if in_order else stored[series.columns], dtype=np.float32)
    if (series.slope, series.intercept) != (1.0, 0.0):
        bold = bold * np.float32(series.slope) + np.float32(series.intercept)
    return bold
