"""Runs as NIfTI images in MNI152 space: check headers, and read the voxels that the cortex runs through."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np

from mindviz.brain import meshes
from mindviz.brain.volume import MNI_CODE, Volume, cortex_in
from mindviz.types import MindvizError

ENDINGS = (".nii.gz", ".nii")
_ROUNDING = 1e-3  # voxels by which rounding may move a corner of an image: qforms are written as float32 quaternions
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_UNREADABLE = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    zlib.error,
)


@dataclass(frozen=True)
class Images:
    """Where the images of a run lie in its file; `value = slope * stored + intercept`.

    `step` is the time in seconds from one to the next, according to the file.
    """

    path: Path
    volumes: int
    step: float
    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float

    @property
    def geometry(self) -> tuple[np.ndarray, Volume]:
        """`mindviz.brain.volume.cortex_in` of these images."""
        return _geometry(self.shape, self.affine.tobytes())

    def shares_grid(self, other: Images) -> bool:
        """Whether both have the same voxels, up to rounding of the affines."""
        corners = np.array(list(product(*((0, size - 1) for size in self.shape))))
        back = np.linalg.inv(other.affine) @ self.affine
        moved = corners @ back[:3, :3].T + back[:3, 3] - corners
        return self.shape == other.shape and bool(np.abs(moved).max() <= _ROUNDING)

    def check_grid(self, other: Images) -> None:
        """Raise `MindvizError` for images on another grid."""
        if not self.shares_grid(other):
            mine, theirs = (f"{one.shape} with {np.round(one.affine[:3], 4).tolist()}" for one in (self, other))
            raise MindvizError(
                f"{self.path}: expected the voxels of {other.path.name} (shape and affine), found {mine}, not {theirs}"
            )


@lru_cache(maxsize=4)
def _geometry(shape: tuple[int, int, int], affine: bytes) -> tuple[np.ndarray, Volume]:
    return cortex_in(shape, np.frombuffer(affine).reshape(4, 4))


def open_images(path: Path) -> Images:
    """Read and check the header of a run; no image is read.

    Raises
    ------
    MindvizError
        If the file is missing, unreadable, not four-dimensional, without real values, not declared to be in MNI152
        space (code 4 of the sform, or of the qform if there is no sform), not measured in mm, or uncompressed and
        truncated.
    """
    path = Path(path)
    if not path.is_file():
        raise MindvizError(f"{path}: expected a NIfTI image (.nii.gz, .nii), found no such file")
    try:
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Pair) or isinstance(image, nib.Cifti2Image):
            raise MindvizError(f"expected a NIfTI image, found {type(image).__name__}")
        found = _checked(path, image)
        _ = found.geometry
    except MindvizError as error:
        raise MindvizError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MindvizError(f"{path}: expected a NIfTI image, found one that cannot be read ({reason})") from error
    size = int(np.prod(found.shape)) * found.volumes * found.dtype.itemsize + found.offset
    if path.suffix != ".gz" and path.stat().st_size < size:
        raise MindvizError(f"{path}: expected {size} bytes, found {path.stat().st_size}: the file is truncated")
    return found


def _checked(path: Path, image: nib.Nifti1Pair) -> Images:
    """`Images` from the checked header; `MindvizError` without the file name."""
    header, stored = image.header, image.dataobj
    if len(image.shape) != 4 or 0 in image.shape:
        raise MindvizError(f"expected images over time, of four dimensions, found shape {image.shape}")
    assert isinstance(stored, nib.arrayproxy.ArrayProxy)  # what nibabel loads from a file
    if stored.dtype.kind not in "iuf":
        raise MindvizError(f"expected real numbers, found {stored.dtype}")
    code = int(header["sform_code"]) or int(header["qform_code"])
    if code != MNI_CODE:
        raise MindvizError(
            f"expected images in MNI152 space (sform_code 4), found code {code}; if they are in that space, set the "
            "code in the header (fslorient -setsformcode 4)"
        )
    x, y, z, volumes = (int(n) for n in image.shape)
    affine, scale = np.asarray(image.affine, dtype=np.float64), (float(stored.slope), float(stored.inter))
    space, time = header.get_xyzt_units()
    if space not in ("mm", "unknown"):
        raise MindvizError(f"expected images measured in mm, found {space} (xyzt_units)")
    step = float(header["pixdim"][4]) * _SECONDS.get(time, 1.0)
    return Images(path, volumes, step, (x, y, z), affine, stored.dtype, int(stored.offset), *scale)


def read_image_cortex(path: Path, like: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Time courses by cortical index, float32 [59412, time], and which of them have a voxel, bool [59412].

    The others are 0. One image is held at a time; errors as for `open_images`. `like`, a run with the same voxels,
    determines the voxel of each index, because affines that differ only by rounding may disagree about it.
    """
    images = open_images(path)
    geometry = images if like is None else open_images(like)
    images.check_grid(geometry)
    vertices, volume = geometry.geometry
    places = np.ravel_multi_index(tuple(volume.voxels.T), images.shape, order="F")
    cortex = meshes.num_vertices(meshes.MESH)
    bold, held = np.zeros((cortex, images.volumes), np.float32), np.zeros(cortex, bool)
    held[vertices] = True
    size = int(np.prod(images.shape)) * images.dtype.itemsize
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            file.seek(images.offset)
            for time in range(images.volumes):
                content = file.read(size)
                if len(content) < size:
                    raise MindvizError(f"{path}: expected {images.volumes} images, found {time}: the file is truncated")
                bold[vertices, time] = np.frombuffer(content, images.dtype)[places]
    except (OSError, EOFError, zlib.error) as error:
        raise MindvizError(
            f"{path}: expected {images.volumes} images, found data that cannot be decompressed ({error})"
        ) from error
    if (images.slope, images.intercept) != (1.0, 0.0):
        bold[vertices] = bold[vertices] * np.float32(images.slope) + np.float32(images.intercept)
    return bold, held
