"""GIFTI: our files are read by nibabel and nilearn; files that could read the disk are refused."""

import base64
import zlib

import nibabel
import numpy as np
import pytest
from nilearn import surface as nilearn_surface

from mindviz.brain import Projection, load_map, write_gifti
from mindviz.brain.files import gifti
from mindviz.brain.files.gifti import read_gifti
from mindviz.types import MindvizError, SurfaceMap


@pytest.fixture
def surface_map():
    rng = np.random.default_rng(0)
    vertices = rng.choice(59412, 3000, replace=False)
    return Projection(vertices).to_surface(rng.standard_normal(3000), "attention")


def test_round_trip_through_nibabel_nilearn_and_our_reader(tmp_path, surface_map):
    paths = write_gifti(surface_map, tmp_path / "new", "scan17")
    assert [path.name for path in paths] == ["scan17_hemi-L.func.gii", "scan17_hemi-R.func.gii"]
    for path, values in zip(paths, (surface_map.left, surface_map.right), strict=True):
        image = nibabel.load(path)
        np.testing.assert_array_equal(image.darrays[0].data, values)
        np.testing.assert_array_equal(np.ravel(nilearn_surface.load_surf_data(path)), values)
        np.testing.assert_array_equal(read_gifti(path).darrays[0].data, values)
    assert nibabel.load(paths[1]).meta["AnatomicalStructurePrimary"] == "CortexRight"
    back = load_map(*paths)
    assert (back.mesh, back.label) == ("fsLR-32k", "attention")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)


def test_files_written_by_nibabel_are_read(tmp_path):
    # nibabel and Connectome Workbench declare GIFTI's own document type, which is harmless
    values = np.arange(10242, dtype=np.float32)
    image = nibabel.GiftiImage(darrays=[nibabel.gifti.GiftiDataArray(values, datatype="NIFTI_TYPE_FLOAT32")])
    nibabel.save(image, tmp_path / "theirs.func.gii")
    assert b"<!DOCTYPE GIFTI" in (tmp_path / "theirs.func.gii").read_bytes()
    np.testing.assert_array_equal(read_gifti(tmp_path / "theirs.func.gii").darrays[0].data, values)


def test_a_map_of_the_wrong_length_is_not_written(tmp_path):
    with pytest.raises(MindvizError, match=r"left hemisphere .* needs shape \(32492,\)"):
        write_gifti(SurfaceMap(np.zeros(5), np.zeros(5), "fsLR-32k"), tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


_ARRAY = (
    '<DataArray Intent="NIFTI_INTENT_NONE" DataType="NIFTI_TYPE_FLOAT32" ArrayIndexingOrder="RowMajorOrder" '
    'Dimensionality="1" Dim0="2" Encoding="{encoding}" Endian="LittleEndian" ExternalFileName="{external}" '
    'ExternalFileOffset="0"><Data>{data}</Data></DataArray>'
)


def _document(head="", encoding="ASCII", external="", data="1 2"):
    array = _ARRAY.format(encoding=encoding, external=external, data=data)
    return f'{head}<GIFTI Version="1.0" NumberOfDataArrays="1">{array}</GIFTI>'


_EVIL = {
    "external encoding": (_document(encoding="ExternalFileBinary", external="/etc/passwd", data=""), "another file"),
    "external name": (_document(external="/etc/passwd"), "another file"),
    "unknown encoding": (_document(encoding="Pickle"), "unknown encoding"),
    "internal doctype": (_document("<!DOCTYPE GIFTI [<!ELEMENT GIFTI ANY>]>"), "DOCTYPE"),
    "foreign doctype": (_document('<!DOCTYPE GIFTI SYSTEM "file:///etc/passwd">'), "DOCTYPE"),
    "entity": (_document('<!DOCTYPE GIFTI [<!ENTITY a SYSTEM "file:///etc/passwd">]>', data="&a;"), "DOCTYPE"),
    "billion laughs": (_document('<!DOCTYPE GIFTI [<!ENTITY a "1 "><!ENTITY b "&a;&a;">]>', data="&b;"), "DOCTYPE"),
    "not GIFTI": ("<html></html>", "another kind"),
    "not XML": ("GIFTI", "not well-formed"),
    "truncated": (_document()[:-20], "not well-formed"),
    "broken data": (_document(encoding="GZipBase64Binary", data="AAAA"), "cannot be decompressed"),
    "no data": ('<GIFTI Version="1.0" NumberOfDataArrays="0"></GIFTI>', "with data"),
}


@pytest.mark.parametrize("kind", _EVIL)
def test_harmful_or_broken_files_are_refused(tmp_path, kind, monkeypatch):
    text, sentence = _EVIL[kind]
    path = tmp_path / "upload.func.gii"
    path.write_text(text)
    if kind not in ("no data",):
        monkeypatch.setattr(nibabel.GiftiImage, "from_bytes", lambda *a: pytest.fail("loaded before it was checked"))
    with pytest.raises(MindvizError, match=sentence) as caught:
        read_gifti(path)
    assert str(path) in str(caught.value)


def test_a_doctype_in_another_text_encoding_is_found(tmp_path):
    text = '<?xml version="1.0" encoding="UTF-16"?>' + _EVIL["entity"][0]
    (tmp_path / "x.gii").write_bytes(text.encode("utf-16"))
    with pytest.raises(MindvizError, match="DOCTYPE"):
        read_gifti(tmp_path / "x.gii")


def test_data_that_decompress_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gifti, "MAX_GIFTI_BYTES", 2**20)
    bomb = base64.b64encode(zlib.compress(bytes(2**22))).decode()
    (tmp_path / "x.gii").write_text(_document(encoding="GZipBase64Binary", data=bomb))
    with pytest.raises(MindvizError, match="compressed data of more than"):
        read_gifti(tmp_path / "x.gii")


def test_oversized_and_missing_files_are_refused(tmp_path, surface_map):
    with pytest.raises(MindvizError, match="found nothing"):
        read_gifti(tmp_path / "absent.gii")
    (tmp_path / "lh.small.func.gii").write_text(_document())
    with pytest.raises(MindvizError, match=r"small\.func\.gii: expected a hemisphere of 32,492 .*, found 2$"):
        load_map(tmp_path / "lh.small.func.gii")


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ('Dimensionality="1"', 'Dimensionality="3"'),
        ('Dim0="2"', 'Dim0="99999999999999999999"'),
        ('Dim0="2"', 'Dim0="7"'),
    ],
    ids=["dimensions", "overflow", "shape"],
)
@pytest.mark.parametrize("encoding", ["ASCII", "Base64Binary"])
def test_attributes_that_contradict_the_data_are_refused_with_a_message(tmp_path, change, to, encoding):
    """nibabel uses assertions for some of its checks."""
    data = "1 2" if encoding == "ASCII" else base64.b64encode(np.ones(2, np.float32).tobytes()).decode()
    path = tmp_path / "x.func.gii"
    path.write_text(_document(encoding=encoding, data=data).replace(change, to))
    with pytest.raises(MindvizError, match=r"x\.func\.gii: expected a GIFTI file, found one that cannot be read"):
        read_gifti(path)


@pytest.mark.parametrize("error", [AssertionError, IndexError, OverflowError])
def test_any_exception_of_nibabel_becomes_an_error_that_names_the_file(tmp_path, monkeypatch, error):
    def broken(*_: object) -> None:
        raise error("no")

    path = tmp_path / "x.func.gii"
    path.write_text(_document())
    monkeypatch.setattr(nibabel.GiftiImage, "from_bytes", broken)
    with pytest.raises(
        MindvizError, match=r"x\.func\.gii: expected a GIFTI file, found one that cannot be read \(no\)"
    ):
        read_gifti(path)
