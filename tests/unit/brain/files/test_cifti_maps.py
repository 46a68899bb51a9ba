"""CIFTI maps: written by us and read by nibabel, written by nibabel and read by us."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindviz.brain import load_parcellation, meshes, parcellations
from mindviz.brain.files.cifti_maps import load_dscalar, read_row, write_dscalar
from mindviz.brain.projection import Projection, from_cortex, to_cortex
from mindviz.types import MindvizError, SurfaceMap

STRUCTURES = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")


@pytest.fixture(scope="module")
def surface_map() -> SurfaceMap:
    rng = np.random.default_rng(0)
    vertices = np.sort(rng.choice(59412, 500, replace=False))
    return Projection(vertices).to_surface(rng.standard_normal(500), "a map")


def _models() -> nib.cifti2.BrainModelAxis:
    left, right = (
        nib.cifti2.BrainModelAxis.from_surface(v, 32492, name)
        for v, name in zip(meshes.cortex_index("fsLR-32k"), STRUCTURES, strict=True)
    )
    return left + right


def test_nibabel_reads_what_we_write(surface_map: SurfaceMap, tmp_path: Path) -> None:
    path = write_dscalar(surface_map, tmp_path / "new" / "map.dscalar.nii")
    image = nib.load(path)
    assert image.nifti_header["intent_code"] == 3006  # ConnDenseScalar
    models = image.header.get_axis(1)
    values = np.asarray(image.dataobj)[0]
    for name, wanted in zip(STRUCTURES, (surface_map.left, surface_map.right), strict=True):
        found = np.full(32492, np.nan, np.float32)
        found[models.vertex[models.name == name]] = values[models.name == name]
        np.testing.assert_array_equal(found, wanted)
    assert list(image.header.get_axis(0).name) == ["a map"]


def test_a_written_map_reads_back_equal(surface_map: SurfaceMap, tmp_path: Path) -> None:
    found = load_dscalar(write_dscalar(surface_map, tmp_path / "map.dscalar.nii"))
    np.testing.assert_array_equal(found.left, surface_map.left)
    np.testing.assert_array_equal(found.right, surface_map.right)
    assert (found.mesh, found.label) == ("fsLR-32k", "a map")


def test_structures_in_another_order_and_several_rows_are_read(tmp_path: Path) -> None:
    """Right before left, only some vertices, an unrelated row, and a voxel in the thalamus."""
    rng = np.random.default_rng(1)
    left, right = (np.sort(rng.choice(v, 40, replace=False)) for v in meshes.cortex_index("fsLR-32k"))
    models = (
        nib.cifti2.BrainModelAxis.from_surface(right, 32492, STRUCTURES[1])
        + nib.cifti2.BrainModelAxis(
            "CIFTI_STRUCTURE_THALAMUS_LEFT", voxel=[[1, 2, 3]], affine=np.eye(4), volume_shape=(5, 5, 5)
        )
        + nib.cifti2.BrainModelAxis.from_surface(left, 32492, STRUCTURES[0])
    )
    data = rng.standard_normal((2, 81)).astype(np.float32)
    image = nib.Cifti2Image(data, (nib.cifti2.ScalarAxis(["one", "two"]), models))
    nib.save(image, tmp_path / "x.dscalar.nii")
    found = load_dscalar(tmp_path / "x.dscalar.nii", row=1)
    np.testing.assert_array_equal(found.right[right], data[1, :40])
    np.testing.assert_array_equal(found.left[left], data[1, 41:])
    assert np.isfinite(found.left).sum() == 40 and found.label == "two"


def test_a_label_file_gives_keys_and_table(tmp_path: Path) -> None:
    yeo = parcellations.load("yeo7")
    table = {i: (name or "???", (*map(float, yeo.colors[i]), 1.0)) for i, name in enumerate(yeo.names)}
    image = nib.Cifti2Image(yeo.labels[None].astype(np.float32), (nib.cifti2.LabelAxis(["yeo"], [table]), _models()))
    nib.save(image, tmp_path / "yeo.dlabel.nii")
    found = load_parcellation(tmp_path / "yeo.dlabel.nii")
    np.testing.assert_array_equal(found.labels, yeo.labels)
    assert found.names == yeo.names
    np.testing.assert_allclose(found.colors[1:], yeo.colors[1:], atol=1e-6)


def test_bad_maps_and_files_are_refused(surface_map: SurfaceMap, tmp_path: Path) -> None:
    path = write_dscalar(surface_map, tmp_path / "map.dscalar.nii")
    with pytest.raises(MindvizError, match="expected a row from 0 to 0, found 3"):
        load_dscalar(path, 3)
    with pytest.raises(MindvizError, match="expected a LabelAxis and brain models, found ScalarAxis"):
        read_row(path, "LabelAxis")
    with pytest.raises(MindvizError, match=r"gone\.dscalar\.nii: expected a CIFTI file, found nothing"):
        load_dscalar(tmp_path / "gone.dscalar.nii")
    (tmp_path / "text.dscalar.nii").write_text("no")
    with pytest.raises(MindvizError, match=r"text\.dscalar\.nii: expected a CIFTI file, found one that cannot be read"):
        load_dscalar(tmp_path / "text.dscalar.nii")
    whole = path.read_bytes()
    for damaged in (whole[:-9000], whole[:300], whole.replace(b"<BrainModel", b"<BrainMod>l", 1)):
        path.write_bytes(damaged)
        with pytest.raises(MindvizError, match="found one that cannot be read"):
            load_dscalar(path)
    with pytest.raises(MindvizError, match="ends in"):
        write_dscalar(surface_map, tmp_path / "map.nii")
    other = from_cortex(np.zeros(20484), "fsaverage5")
    with pytest.raises(MindvizError, match="CIFTI needs a map on fsLR-32k, found one on fsaverage5"):
        write_dscalar(other, tmp_path / "x.dscalar.nii")
    assert to_cortex(other).shape == (20484,)


def test_another_mesh_and_an_empty_cortex_are_refused(tmp_path: Path) -> None:
    scalar = nib.cifti2.ScalarAxis(["x"])
    coarse = nib.cifti2.BrainModelAxis.from_surface(np.arange(10), 10242, STRUCTURES[0])
    nib.save(nib.Cifti2Image(np.ones((1, 10), np.float32), (scalar, coarse)), tmp_path / "a.dscalar.nii")
    with pytest.raises(MindvizError, match=r"expected 32492 vertices of CIFTI_STRUCTURE_CORTEX_LEFT .*, found 10242"):
        load_dscalar(tmp_path / "a.dscalar.nii")
    deep = nib.cifti2.BrainModelAxis(
        "CIFTI_STRUCTURE_THALAMUS_LEFT", voxel=[[1, 2, 3]], affine=np.eye(4), volume_shape=(5, 5, 5)
    )
    nib.save(nib.Cifti2Image(np.ones((1, 1), np.float32), (scalar, deep)), tmp_path / "b.dscalar.nii")
    with pytest.raises(MindvizError, match="expected values on the cortex, found none"):
        load_dscalar(tmp_path / "b.dscalar.nii")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii.bz2", ".nii.GZ", ""])
def test_compressed_files_are_refused_before_decompression(tmp_path, monkeypatch, ending) -> None:
    """A few kilobytes can decompress to gigabytes."""
    path = tmp_path / f"x.dscalar{ending}"
    path.write_bytes(gzip.compress(bytes(1000)))
    monkeypatch.setattr(nib, "load", lambda *_: pytest.fail("nibabel was asked"))
    with pytest.raises(MindvizError, match=r"x\.dscalar.*: expected a CIFTI file that ends in \.nii, found"):
        load_dscalar(path)


@pytest.mark.parametrize("error", [zlib.error, KeyError, IndexError, TypeError, AttributeError, AssertionError])
def test_any_exception_of_nibabel_becomes_an_error_that_names_the_file(tmp_path, monkeypatch, error) -> None:
    def broken(*_: object) -> None:
        raise error("no")

    (tmp_path / "x.dscalar.nii").write_bytes(b"x")
    monkeypatch.setattr(nib, "load", broken)
    with pytest.raises(MindvizError, match=r"x\.dscalar\.nii: expected a CIFTI file, found one that cannot be read"):
        load_dscalar(tmp_path / "x.dscalar.nii")


def test_xml_that_contradicts_itself_or_the_data_is_refused_with_a_message(
    surface_map: SurfaceMap, tmp_path: Path
) -> None:
    path = write_dscalar(surface_map, tmp_path / "map.dscalar.nii")
    whole = path.read_bytes()
    first = str(meshes.cortex_index("fsLR-32k")[0][0]).encode()
    for before, after in (
        (b'IndexOffset="0"', b'IndexOffset="9"'),
        (b'IndexCount="', b'IndexCounts="'),
        (b"<VertexIndices>" + first + b" ", b"<VertexIndices>" + b"-" * len(first) + b" "),
        (b"CIFTI_STRUCTURE_CORTEX_LEFT", b"CIFTI_STRUCTURE_CORTEX_LUFT"),
        (b'SurfaceNumberOfVertices="32492"', b'SurfaceNumberOfVertices="32x92"'),
        (b"<MapName>a map</MapName>", b"<MapNom>a map</MapNom>  "),
    ):
        assert before in whole
        path.write_bytes(whole.replace(before, after, 1))
        try:
            load_dscalar(path)
        except MindvizError as error:
            assert str(path) in str(error)
