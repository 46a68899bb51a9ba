"""Scans that come as images: which voxels are read, and maps written back into them, by nibabel and nilearn."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn import image as nilearn_image
from nilearn import maskers

from mindviz import cli, session
from mindviz.brain import meshes
from mindviz.brain.volume import Volume, cortex_in, write_nifti
from mindviz.data import Dataset, PrepareOptions
from mindviz.session import map_choice, map_export
from mindviz.session.map_request import MapRequest
from mindviz.session.run_maps import save_map
from mindviz.session.scan_maps import save_each
from mindviz.session.scans import Scans
from mindviz.storage import load_arrays, save_arrays
from mindviz.types import MindvizError

SHAPE = (19, 23, 19)
AFFINE = np.array(
    [[-10.0, 0, 0, 90], [0, 10, 0, -126], [0, 0, 10, -72], [0, 0, 0, 1]]
)  # as FSL's, x from right to left
OPTIONS = PrepareOptions(
    "images", frame_size=16, lossless=True, alpha=1e4, fraction=1.0
)  # two segments give little power


# ---------------------------------------------------------------------- where the cortex runs
def test_each_voxel_is_read_once_at_its_nearest_vertex() -> None:
    """Against a loop over all voxels: of the vertices inside, the one nearest to the centre."""
    vertices, volume = cortex_in(SHAPE, AFFINE)
    surface = meshes.surface("fsLR-32k", "midthickness")
    points = np.concatenate(
        [
            side.coordinates[i]
            for side, i in zip((surface.left, surface.right), meshes.cortex_index("fsLR-32k"), strict=True)
        ]
    )
    centres = nib.affines.apply_affine(AFFINE, np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1))
    expected = {}
    for vertex, point in enumerate(points):
        voxel = tuple(np.rint(nib.affines.apply_affine(np.linalg.inv(AFFINE), point)).astype(int))
        away = np.linalg.norm(point - centres[voxel])
        if away < expected.get(voxel, (np.inf,))[0]:
            expected[voxel] = (away, vertex)
    assert dict(zip(map(tuple, volume.voxels), vertices, strict=True)) == {k: v for k, (_, v) in expected.items()}
    assert (np.diff(vertices) > 0).all() and volume.shape == SHAPE and 1000 < len(vertices) < np.prod(SHAPE)
    left = volume.voxels[vertices < 29696][:, 0].mean(), volume.voxels[vertices >= 29696][:, 0].mean()
    assert left[0] > left[1], "x runs from right to left here"


@pytest.mark.parametrize(
    ("shape", "affine", "told"),
    [
        (
            (4, 4, 4),
            np.diag([1.0, 1, 1, 1]) + np.array([[0, 0, 0, 500.0], *[[0] * 4] * 3]),
            "found none of its vertices",
        ),
        (SHAPE, np.diag([2.0, 0, 2, 1]), "can be inverted"),
        (SHAPE, np.full((4, 4), np.nan), "can be inverted"),
    ],
)
def test_an_image_without_cortex_is_refused_with_a_message(shape, affine, told) -> None:
    with pytest.raises(MindvizError, match=told):
        cortex_in(shape, affine)


@pytest.mark.parametrize(
    ("voxels", "told"),
    [
        (np.array([[0, 0, 0], [0, 0, 0]]), "found some more than once"),
        (np.array([[0, 0, 19]]), "found some outside of"),
        (np.array([[0, -1, 0]]), "found some outside of"),
        (np.array([[0.0, 0, 0]]), "whole numbers"),
        (np.zeros((0, 3), int), "whole numbers"),
    ],
)
def test_impossible_voxels_are_refused_with_a_message(voxels, told) -> None:
    with pytest.raises(MindvizError, match=told):
        Volume(voxels, SHAPE, AFFINE)


# ---------------------------------------------------------------------- there and back
@pytest.mark.parametrize("count", [None, 3])
def test_a_map_is_read_back_from_its_voxels(tmp_path: Path, count: int | None) -> None:
    vertices, volume = cortex_in(SHAPE, AFFINE)
    rng = np.random.default_rng(0)
    values = rng.standard_normal(len(vertices) if count is None else (count, len(vertices))).astype(np.float32)
    path = write_nifti(values, volume, tmp_path / "map.nii.gz", "Attention received, süd")
    found = nib.load(path)
    assert isinstance(found, nib.Nifti1Image) and found.shape == SHAPE + (() if count is None else (count,))
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert (int(found.header["sform_code"]), int(found.header["qform_code"])) == (4, 4)
    assert found.get_data_dtype() == np.float32 and b"Attention received" in bytes(found.header["descrip"])
    data = np.asarray(found.dataobj)
    np.testing.assert_array_equal(data[tuple(volume.voxels.T)].T, values)
    where = np.zeros(SHAPE, bool)
    where[tuple(volume.voxels.T)] = True
    assert np.isnan(data[~where]).all()
    # nilearn: load, and a masker over the very voxels, in its own order
    loaded = nilearn_image.load_img(path)
    mask = nib.Nifti1Image(where.astype(np.uint8), AFFINE)
    filled = nilearn_image.new_img_like(loaded, np.nan_to_num(np.asarray(loaded.dataobj)))
    theirs = np.atleast_2d(maskers.NiftiMasker(mask_img=mask, standardize=False).fit().transform(filled))
    order = np.argsort(np.ravel_multi_index(tuple(volume.voxels.T), SHAPE))
    np.testing.assert_allclose(theirs, np.atleast_2d(values)[:, order], rtol=1e-6)


def test_maps_that_do_not_fit_the_voxels_are_refused_with_a_message(tmp_path: Path) -> None:
    _, volume = cortex_in(SHAPE, AFFINE)
    with pytest.raises(MindvizError, match=r"map.nii.gz: expected values of \d+ voxels, found shape \(3,\)"):
        write_nifti(np.zeros(3), volume, tmp_path / "map.nii.gz")
    with pytest.raises(MindvizError, match=r"expected a name that ends in .nii.gz"):
        write_nifti(np.zeros(len(volume.voxels)), volume, tmp_path / "map.nii")
    assert list(tmp_path.iterdir()) == []


def test_the_header_stores_a_scale_of_1_and_0_explicitly(tmp_path: Path) -> None:
    volume = cortex_in(SHAPE, AFFINE)[1]
    header = gzip.decompress(write_nifti(np.ones(len(volume.voxels)), volume, tmp_path / "map.nii.gz").read_bytes())
    assert struct.unpack("<ff", header[112:120]) == (1.0, 0.0), "scl_slope and scl_inter"


# ---------------------------------------------------------------------- maps of such a dataset
@pytest.fixture(scope="module")
def opened(tiny_dataset: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory):
    """The tiny dataset as if its scans had come as images of 2 mm; subject 2's came as vertices."""
    home = tmp_path_factory.mktemp("volume") / "data"
    shutil.copytree(tiny_dataset, home, ignore=shutil.ignore_patterns("checkpoint"))
    shutil.copytree(tiny_checkpoint, home / "checkpoint")
    affine = np.array(
        [[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -70.5], [0, 0, 0, 1]]
    )  # no two vertices share a voxel
    surface = meshes.surface("fsLR-32k", "midthickness")
    sides = zip((surface.left, surface.right), meshes.cortex_index("fsLR-32k"), strict=True)
    points = np.concatenate([side.coordinates[cortex] for side, cortex in sides])
    vertices = load_arrays(home / "subject1" / "test1.safetensors")["vertices"]
    voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), points[vertices])).astype(np.int32)
    arrays = {"voxels": voxels, "shape": np.array([91, 109, 91], np.int32), "affine": affine}
    save_arrays(home / "subject1" / "volume.safetensors", arrays)
    return session.open(home)


def test_a_map_is_saved_with_its_nifti_image(opened, tmp_path: Path) -> None:
    choice, volume = map_choice.choose("rollout"), opened.dataset.volume("1")
    save_map(opened, Scans("1", "test1", 3), choice, tmp_path / "map")
    found = nib.load(tmp_path / "map" / "map.nii.gz")
    expected = opened.explainer("1").map(opened.dataset.window("1", "test1", 3), "rollout").values
    np.testing.assert_allclose(np.asarray(found.dataobj)[tuple(volume.voxels.T)], expected, rtol=1e-5)
    assert np.isfinite(np.asarray(found.dataobj)).sum() == 320
    told = json.loads((tmp_path / "map" / "map.json").read_text())
    assert told["volume"]["space"] == "MNI152" and told["volume"]["affine"] == volume.affine.tolist()
    written = {p.name for p in (tmp_path / "map").iterdir()}
    assert written == set(told["files"]) == set(map_export.ALL_MAP_FILES)
    save_map(opened, Scans("1", "test1", 4), choice, tmp_path / "map")  # replaces an earlier one
    decoded = opened.decode("1", "test1", 3, opened.decoder.default_settings)
    map_export.export_map(opened, decoded, tmp_path / "map", MapRequest(choice))
    again = nib.load(tmp_path / "map" / "map.nii.gz")
    np.testing.assert_allclose(np.asarray(again.dataobj), np.asarray(found.dataobj), rtol=1e-5)


def test_the_maps_of_every_scan_are_images_over_time(opened, tmp_path: Path) -> None:
    home = str(opened.dataset.folder)
    out = tmp_path / "maps"
    assert cli.main(["map", "--each", "--data", home, "--subject", "1", "--method", "rollout", "--out", str(out)]) == 0
    found = nib.load(out / "maps.nii.gz")
    assert found.shape == (91, 109, 91, 12)
    cifti = np.asarray(nib.load(out / "maps.dscalar.nii").dataobj)
    vertices, volume = opened.dataset.run("1", "test1").vertices, opened.dataset.volume("1")
    np.testing.assert_array_equal(np.asarray(found.dataobj)[tuple(volume.voxels.T)].T, cifti[:, vertices])


def test_scans_that_came_as_vertices_have_no_image_and_map_json_says_so(opened, tmp_path: Path) -> None:
    assert opened.dataset.volume("2") is None
    save_map(opened, Scans("2", "test1", 3), map_choice.choose("rollout"), tmp_path / "map")
    told = json.loads((tmp_path / "map" / "map.json").read_text())
    assert told["volume"].startswith("No NIfTI image is written: these scans came as vertices")
    assert not list((tmp_path / "map").glob("*.nii.gz"))
    save_each(opened, Scans("2", "test1"), map_choice.choose("rollout"), tmp_path / "maps")
    assert "No NIfTI image" in json.loads((tmp_path / "maps" / "maps.json").read_text())["volume"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a | {"voxels": a["voxels"][:5]}, r"expected voxels \(320, 3\) of an image, found \(5, 3\)"),
        (
            lambda a: {k: v for k, v in a.items() if k != "affine"},
            "expected voxels, shape and affine, found shape, voxels",
        ),
        (lambda a: a | {"voxels": a["voxels"] * 0}, "found some more than once"),
    ],
)
def test_a_volume_that_does_not_fit_the_scans_is_named(opened, tmp_path: Path, change, told) -> None:
    home = tmp_path / "data"
    shutil.copytree(opened.dataset.folder, home, ignore=shutil.ignore_patterns("checkpoint"))
    path = home / "subject1" / "volume.safetensors"
    arrays = change(load_arrays(path))
    path.unlink()
    save_arrays(path, arrays)
    with pytest.raises(MindvizError, match=rf"volume.safetensors: .*{told}"):
        Dataset.open(home).volume("1")
