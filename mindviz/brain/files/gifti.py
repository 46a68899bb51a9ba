"""GIFTI functional maps, one file per hemisphere: written atomically, read defensively.

nibabel opens whatever local file a GIFTI names as external data, so an uploaded file could read the disk. Each file is
therefore checked first, with expat, in its declared text encoding, and exactly the bytes that were checked are loaded.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

import numpy as np

from mindviz.brain.projection import one_mesh
from mindviz.types import MindvizError, SurfaceMap

if TYPE_CHECKING:
    from nibabel.gifti import GiftiImage

MAX_GIFTI_BYTES = 256 * 2**20
_ENCODINGS = ("ASCII", "Base64Binary", "GZipBase64Binary")
# Declared by nibabel and Connectome Workbench in every file; not fetched by expat. No other document type is allowed.
_GIFTI_DTD = "http://www.nitrc.org/frs/download.php/"
_STRUCTURES = {"left": "CortexLeft", "right": "CortexRight"}
# raised by nibabel where attributes and data contradict each other; some of its checks are assertions
_UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    expat.ExpatError,
    zlib.error,
)


def write_gifti(
    surface_map: SurfaceMap, folder: Path | str, stem: str, about: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Write ``<stem>_hemi-L.func.gii`` and ``<stem>_hemi-R.func.gii``.

    The files hold float32 values by mesh vertex (NaN where the map has none) and name their hemisphere, mesh and label;
    `about` is further metadata.

    Returns
    -------
    tuple of Path
        Left, right.
    """
    return write_gifti_maps([surface_map], folder, stem, about)


def write_gifti_maps(
    surface_maps: Sequence[SurfaceMap], folder: Path | str, stem: str, about: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """`write_gifti` for several maps on one mesh: one data array each, in order, named by the map's label.

    Raises
    ------
    MindvizError
        For no maps, or maps on different meshes.
    """
    from mindviz.storage import atomic_file

    one_mesh(surface_maps)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{stem}_hemi-L.func.gii", folder / f"{stem}_hemi-R.func.gii"
    for path, side in zip(paths, ("left", "right"), strict=True):
        with atomic_file(path) as aside:
            Path(aside).write_bytes(_encode(surface_maps, side, about or {}))
    return paths


def _encode(surface_maps: Sequence[SurfaceMap], side: str, about: Mapping[str, str]) -> bytes:
    from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    arrays = [
        GiftiDataArray(
            np.asarray(getattr(one, side), dtype=np.float32),
            intent="NIFTI_INTENT_NONE",
            datatype="NIFTI_TYPE_FLOAT32",
            meta=GiftiMetaData({"Name": one.label or "map"}),
        )
        for one in surface_maps
    ]
    where = {"AnatomicalStructurePrimary": _STRUCTURES[side], "MeshName": surface_maps[0].mesh}
    meta = GiftiMetaData({**about, **where})
    xml = GiftiImage(meta=meta, darrays=arrays).to_bytes()
    start, end = xml.index(b"<!DOCTYPE"), xml.index(b"<GIFTI")
    return xml[:start] + xml[end:]  # readers do not need the document type, and careful ones refuse it


def read_gifti(path: Path | str) -> GiftiImage:
    """Read a GIFTI file after checking that it refers to no external data.

    Raises
    ------
    MindvizError
        If the file is missing, too large, not GIFTI, empty, names external data, or declares entities or a document
        type other than GIFTI's own.
    """
    path = Path(path)
    from nibabel.gifti import GiftiImage

    content = check_gifti(path)
    try:
        image = GiftiImage.from_bytes(content)
    except _UNREADABLE as error:
        raise MindvizError(f"{path}: expected a GIFTI file, found one that cannot be read ({error})") from error
    if not image.darrays or any(array.data is None for array in image.darrays):
        raise MindvizError(f"{path}: expected a GIFTI file with data, found none in it")
    return image


def check_gifti(path: Path | str) -> bytes:
    """Return the bytes of a GIFTI file that is safe to load; raise `MindvizError` otherwise."""
    path = Path(path)
    if not path.is_file():
        raise MindvizError(f"{path}: expected a GIFTI file, found nothing")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read(MAX_GIFTI_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise MindvizError(f"{path}: expected a GIFTI file, found one that cannot be read ({error})") from error
    if len(content) > MAX_GIFTI_BYTES:
        raise MindvizError(f"{path}: expected at most {MAX_GIFTI_BYTES >> 20} MB, found more")
    try:
        _Check(path).run(content)
    except expat.ExpatError as error:
        raise MindvizError(
            f"{path}: expected a GIFTI file, found text that is not well-formed XML ({error})"
        ) from error
    return content


class _Check:
    """Parses the XML once and raises at the first construct that a harmless GIFTI does not contain."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = ""
        self.array: Mapping[str, str] = {}
        self.text: list[str] | None = None

    def run(self, content: bytes) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self.doctype
        parser.EntityDeclHandler = self.entity
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.Parse(content, True)

    def refuse(self, found: str) -> NoReturn:
        raise MindvizError(f"{self.path}: expected a GIFTI file that holds its own data, found {found}")

    def doctype(self, name: str, system: str | None, public: str | None, internal: bool) -> None:
        if internal or public or name != "GIFTI" or not (system or "").startswith(_GIFTI_DTD):
            self.refuse("a DOCTYPE other than GIFTI's own")

    def entity(self, *declaration: object) -> None:
        self.refuse("an ENTITY")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.root = self.root or name
        if self.root != "GIFTI":
            self.refuse(f"a document of another kind, {self.root!r}")
        if name == "DataArray":
            self.array = attributes
            encoding = attributes.get("Encoding", "")
            if encoding not in _ENCODINGS or attributes.get("ExternalFileName"):
                self.refuse(f"data in another file or an unknown encoding, {encoding!r}")
        elif name == "Data" and self.array.get("Encoding") == "GZipBase64Binary":
            self.text = []

    def characters(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def end(self, name: str) -> None:
        if name != "Data" or self.text is None:
            return
        # a few kilobytes can decompress to gigabytes: stop at the limit before nibabel decompresses them all
        unpacker = zlib.decompressobj()
        try:
            size = len(unpacker.decompress(base64.b64decode("".join(self.text)), MAX_GIFTI_BYTES))
        except (zlib.error, binascii.Error):
            self.refuse("compressed data that cannot be decompressed")
        if size >= MAX_GIFTI_BYTES:
            self.refuse(f"compressed data of more than {MAX_GIFTI_BYTES >> 20} MB")
        self.text = None
