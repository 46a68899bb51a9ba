"""Scans that came as images, projected without holes: against nilearn, scipy and loops over vertices."""

from __future__ import annotations

import base64
import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn import surface
from scipy import ndimage, sparse

from mindviz import session
from mindviz.attribution import stages
from mindviz.brain import Projection, from_cortex, load_map, meshes, parcellations, to_cortex
from mindviz.brain.files.cifti_maps import load_dscalar
from mindviz.brain.volume import Volume, cortex_in, voxel_of_vertex
from mindviz.session import map_choice, map_names, time_courses
from mindviz.session.run_maps import save_map
from mindviz.session.scans import Scans
from mindviz.session.time_courses import Place, region
from mindviz.storage import load_arrays, save_arrays
from mindviz.types import MindvizError, SurfaceMap

COARSE = (19, 23, 19), np.array([[-10.0, 0, 0, 90], [0, 10, 0, -126], [0, 0, 10, -72], [0, 0, 0, 1]])
FOUR = (47, 57, 47), np.array([[-4.0, 0, 0, 92], [0, 4, 0, -128], [0, 0, 4, -74], [0, 0, 0, 1]])
SLAB = (47, 20, 47), FOUR[1]  # the back of the head alone
TURN = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
OBLIQUE = (65, 65, 47), TURN @ np.array([[-3.3, 0, 0, 100], [0, 3.7, 0, -125], [0, 0, 4, -74], [0, 0, 0, 1]])
GRIDS = {"10 mm": COARSE, "4 mm": FOUR, "slab": SLAB, "oblique": OBLIQUE}
SIDES = ("left", "right")


def points_of(side: str) -> surface.InMemoryMesh:
    half = getattr(meshes.surface("fsLR-32k", "midthickness"), side)
    return surface.InMemoryMesh(half.coordinates, half.faces)


def voxels_of(affine: np.ndarray) -> np.ndarray:
    """The nearest voxel of each cortical index, (59412, 3)."""
    both = zip(SIDES, meshes.cortex_index("fsLR-32k"), strict=True)
    points = np.concatenate([points_of(side).coordinates[cortex] for side, cortex in both])
    return np.rint(nib.affines.apply_affine(np.linalg.inv(affine), points)).astype(int)


@pytest.fixture(params=GRIDS)
def some(request) -> tuple[np.ndarray, Volume]:
    """Half of the voxels that the cortex runs through, in random order."""
    vertices, volume = cortex_in(*GRIDS[request.param])
    chosen = np.random.default_rng(0).permutation(len(vertices))[: len(vertices) // 2]
    return vertices[chosen], volume.of(chosen)


# ---------------------------------------------------------------------- the matrix
def test_every_vertex_shows_the_voxel_that_it_lies_in(some) -> None:
    """The reference is a dictionary of voxels, looked up vertex by vertex."""
    vertices, volume = some
    projection = Projection(vertices, volume=volume)
    column = {tuple(voxel): i for i, voxel in enumerate(volume.voxels.tolist())}
    expected = np.array([column.get(tuple(voxel), -1) for voxel in voxels_of(volume.affine).tolist()])
    np.testing.assert_array_equal(projection.columns, expected)
    assert (expected >= 0).sum() > len(vertices) and (expected < 0).any()
    values = np.random.default_rng(1).standard_normal(len(vertices)).astype(np.float32)
    found = projection.to_surface(values, "a map")
    filled = from_cortex(np.where(expected >= 0, values[expected], np.float32(np.nan)))
    for side, cortex in zip(SIDES, meshes.cortex_index("fsLR-32k"), strict=True):
        np.testing.assert_array_equal(getattr(found, side), getattr(filled, side))
        assert np.isnan(np.delete(getattr(found, side), cortex)).all(), "the medial wall"
    assert projection.matrix.shape == (2 * 32492, len(vertices)) and set(projection.matrix.data.tolist()) == {1}
    assert np.diff(projection.matrix.indptr).max() == 1
    np.testing.assert_array_equal(projection.mask, np.isfinite(np.concatenate([found.left, found.right])))


def test_a_round_trip_is_exact_and_each_voxel_counts_once(some) -> None:
    vertices, volume = some
    values = np.random.default_rng(2).standard_normal(len(vertices)).astype(np.float32)
    values[3] = np.nan
    projection, bare = Projection(vertices, volume=volume), Projection(vertices)
    found = projection.to_surface(values, "a map")
    np.testing.assert_array_equal(projection.to_voxels(found), values)
    np.testing.assert_array_equal(to_cortex(found)[vertices], values, "what stands for a voxel is as it was")
    once, expected = projection.counted_once(found), bare.to_surface(values, "a map")
    for side in SIDES:
        np.testing.assert_array_equal(getattr(once, side), getattr(expected, side))
    assert (once.label, once.mesh) == ("a map", "fsLR-32k")
    shown = np.isfinite(np.concatenate([once.left, once.right]))
    np.testing.assert_array_equal(found.counted & np.isfinite(np.concatenate([found.left, found.right])), shown)
    assert found.counted.sum() == len(vertices) and expected.counted is None


@pytest.mark.parametrize("grid", ["4 mm", "10 mm"])
def test_the_projection_equals_what_nilearn_samples(grid) -> None:
    """A smooth random image: equal to nearest-voxel sampling by nilearn and scipy, close to linear interpolation."""
    shape, affine = GRIDS[grid]
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(shape), 2.5).astype(np.float32)
    vertices, volume = cortex_in(shape, affine)
    found = Projection(vertices, volume=volume).to_surface(smooth[tuple(volume.voxels.T)])
    image = nib.Nifti1Image(smooth, affine)
    for side, cortex in zip(SIDES, meshes.cortex_index("fsLR-32k"), strict=True):
        mesh, mine = points_of(side), getattr(found, side)
        assert np.isfinite(mine[cortex]).all(), "no holes"
        theirs = surface.vol_to_surf(
            image, mesh, radius=0.0, n_samples=1, interpolation="nearest_most_frequent", kind="line"
        )
        np.testing.assert_array_equal(mine[cortex], theirs[cortex].astype(np.float32))
        places = nib.affines.apply_affine(np.linalg.inv(affine), mesh.coordinates).T
        np.testing.assert_array_equal(mine[cortex], ndimage.map_coordinates(smooth, places, order=0)[cortex])
        linear = surface.vol_to_surf(image, mesh, depth=[0.0])
        assert np.corrcoef(mine[cortex], linear[cortex])[0, 1] > 0.95


@pytest.mark.parametrize("mesh", meshes.MESHES)
def test_scans_that_came_as_vertices_are_projected_as_before(mesh) -> None:
    vertices = np.random.default_rng(4).choice(meshes.num_vertices(mesh), 500, replace=False)
    projection = Projection(vertices, mesh)
    left, right = meshes.cortex_index(mesh)
    rows = np.concatenate([left, right + meshes.hemisphere_vertices(mesh)])[vertices]
    expected = sparse.csr_matrix((np.ones(500, np.float32), (rows, np.arange(500))), shape=projection.matrix.shape)
    for name in ("data", "indices", "indptr"):
        mine, theirs = getattr(projection.matrix, name), getattr(expected, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    assert projection.volume is None and np.flatnonzero(projection.columns >= 0).tolist() == sorted(vertices)


# ---------------------------------------------------------------------- what does not fit
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda v, x: (np.arange(len(v)), "fsaverage5", x),
            r"a.nii: voxels of MNI152 go onto fsLR-32k: fsaverage5",
        ),
        (lambda v, x: (v[:-1], "fsLR-32k", x), r"a.nii: expected a voxel for each of 1247 vertices, found 1248"),
        (
            lambda v, x: (v[::-1], "fsLR-32k", x),
            r"a.nii: expected each vertex of the scans in its own voxel, found \d+",
        ),
        (lambda v, x: (v, "fsLR-32k", Volume(x.voxels, x.shape, FOUR[1])), r"^expected each vertex of the scans"),
    ],
)
def test_voxels_of_other_scans_or_meshes_are_refused_with_a_message(change, told) -> None:
    vertices, volume = cortex_in(*COARSE)
    with pytest.raises(MindvizError, match=told):
        Projection(*change(vertices, Volume(volume.voxels, volume.shape, volume.affine, "a.nii")))


def test_cached_voxels_cannot_be_changed() -> None:
    vertices, volume = cortex_in(*COARSE)
    first = voxel_of_vertex(volume, vertices)
    expected = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(voxel_of_vertex(volume, vertices), expected)


# ---------------------------------------------------------------------- the page and the files
@pytest.fixture(scope="module")
def coarse(tiny_dataset: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory):
    """The tiny dataset as if subject 1's scans had come as images of 10 mm; subject 2's came as vertices."""
    home = tmp_path_factory.mktemp("coarse") / "data"
    shutil.copytree(tiny_dataset, home, ignore=shutil.ignore_patterns("checkpoint"))
    shutil.copytree(tiny_checkpoint, home / "checkpoint")
    vertices, volume = cortex_in(*COARSE)
    chosen = np.random.default_rng(5).choice(len(vertices), 320, replace=False)
    for path in (home / "subject1" / "test1.safetensors", home / "checkpoint" / "subject1" / "data.safetensors"):
        arrays = load_arrays(path)
        path.unlink()
        save_arrays(path, arrays | {"vertices": vertices[chosen].astype(np.int32)})
    arrays = {"voxels": volume.voxels[chosen].astype(np.int32), "shape": np.array(COARSE[0]), "affine": COARSE[1]}
    save_arrays(home / "subject1" / "volume.safetensors", arrays)
    return session.open(home)


def place_of(cortical: int, outlines: str = "") -> Place:
    left, right = meshes.cortex_index("fsLR-32k")
    if cortical < left.size:
        return Place("left", int(left[cortical]), outlines)
    return Place("right", int(right[cortical - left.size]), outlines)


def filled_of(workspace, seed: int = 0) -> tuple[int, int]:
    """A cortical index in a voxel that another one represents, and the column of the voxel."""
    columns = workspace.projection("1").columns
    others = np.setdiff1d(np.flatnonzero(columns >= 0), workspace.dataset.run("1", "test1").vertices)
    found = int(np.random.default_rng(seed).choice(others))
    return found, int(columns[found])


@pytest.mark.parametrize("seed", range(5))
def test_a_click_anywhere_in_a_voxel_is_a_click_on_it(coarse, seed) -> None:
    cortical, column = filled_of(coarse, seed)
    voxel, volume = voxels_of(COARSE[1])[cortical], coarse.dataset.volume("1")
    np.testing.assert_array_equal(voxel, volume.voxels[column])
    found = region(coarse, "1", place_of(cortical))
    assert found.columns.tolist() == [column] and found.title.endswith(f"hemisphere, voxel {column + 1}")
    stands = int(coarse.dataset.run("1", "test1").vertices[column])
    assert region(coarse, "1", place_of(stands)).columns.tolist() == [column]
    patches = coarse.patches("1")
    patch = region(coarse, "1", place_of(cortical, "patch"))
    assert patch.columns.tolist() == np.flatnonzero(patches == patches[column]).tolist()
    told = time_courses.told(coarse, Scans("1", "test1", 3), map_choice.choose("received"), place_of(cortical))
    np.testing.assert_allclose(told["bold"]["values"], coarse.dataset.run("1", "test1").bold[:, column], rtol=2e-3)


def test_a_click_outside_the_voxels_gives_a_message(coarse) -> None:
    columns, areas = coarse.projection("1").columns, parcellations.load("hcp-mmp")
    with pytest.raises(MindvizError, match="sees 320 voxels of the images; a map colours the cortex that lies in them"):
        region(coarse, "1", place_of(int(np.flatnonzero(columns < 0)[0])))
    with pytest.raises(MindvizError, match="medial wall"):
        region(coarse, "1", Place("left", int(np.setdiff1d(np.arange(32492), meshes.cortex_index("fsLR-32k")[0])[0])))
    # a parcel that voxels reach into, although none of its vertices represents a voxel
    labels = areas.by_hemisphere().labels
    reached = (columns >= 0) & ~np.isin(labels, labels[coarse.dataset.run("1", "test1").vertices]) & (labels > 0)
    with pytest.raises(MindvizError, match=r"sees no voxel of this parcel. The voxel here is counted to another"):
        region(coarse, "1", place_of(int(np.flatnonzero(reached)[0]), "area"))


@pytest.mark.parametrize("outlines", ["", "patch"])
def test_an_imported_map_is_read_at_the_clicked_vertex(coarse, outlines) -> None:
    """It may differ between vertices of a voxel; over several voxels, the representing vertices count."""
    own, (cortical, _) = np.arange(59412, dtype=np.float32), filled_of(coarse)
    beside = time_courses.Beside(("A", "Mine"), "1", from_cortex(own))
    place = place_of(cortical, outlines)
    told = time_courses.told(coarse, Scans("1", "test1", 3), map_choice.choose("received"), place, beside=beside)
    stand = coarse.dataset.run("1", "test1").vertices[region(coarse, "1", place).columns]
    expected = own[stand].mean() if outlines else cortical
    assert told["beside"]["note"] == f"Mine: {expected:.3g} here, the same for every scan."


def test_patch_borders_enclose_whole_voxels(coarse) -> None:
    sent = json.loads(map_names.patches(coarse, "1"))
    labels = np.frombuffer(base64.b64decode(sent["labels"]), "<u2")
    halves = SurfaceMap(*np.split(labels.astype(np.float32), 2), "fsLR-32k")
    columns = coarse.projection("1").columns
    np.testing.assert_array_equal(to_cortex(halves), np.where(columns >= 0, coarse.patches("1")[columns] + 1, 0))


def test_saved_maps_have_no_holes_and_the_table_counts_voxels(coarse, tmp_path: Path) -> None:
    save_map(coarse, Scans("1", "test1", 3), map_choice.choose("rollout"), tmp_path / "map")
    expected = coarse.explainer("1").map(coarse.dataset.window("1", "test1", 3), "rollout").values
    columns, vertices = coarse.projection("1").columns, coarse.dataset.run("1", "test1").vertices
    filled = np.where(columns >= 0, expected[columns], np.nan)
    cifti = to_cortex(load_dscalar(tmp_path / "map" / "map.dscalar.nii"))
    gifti = to_cortex(load_map(*(tmp_path / "map" / f"map_hemi-{side}.func.gii" for side in "LR")))
    for found in (cifti, gifti):
        np.testing.assert_allclose(found, filled, rtol=1e-5)
    assert np.isfinite(cifti).sum() > 3 * 320
    voxels = np.asarray(nib.load(tmp_path / "map" / "map.nii.gz").dataobj)
    assert np.isfinite(voxels).sum() == 320
    labels = parcellations.load("yeo7").labels[vertices]
    with (tmp_path / "map" / "parcels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["parcellation"] == "yeo7"]
    for i, row in enumerate(rows, start=1):
        assert int(row["vertices"]) == (labels == i).sum()
        np.testing.assert_allclose(float(row["mean"]), expected[labels == i].mean(), rtol=1e-4)
    told = json.loads((tmp_path / "map" / "map.json").read_text())["volume"]["surface"]
    assert "vol_to_surf" in told and "counts each voxel once" in told


def test_the_figure_of_stages_has_no_holes_and_its_networks_count_voxels(coarse, tmp_path, monkeypatch) -> None:
    decoder, dataset = coarse.decoder, coarse.dataset
    found = stages.stage_maps(decoder, dataset, "1", "test1")
    assert all(one.networks.counts.sum() <= 320 for one in found)
    drawn = []
    monkeypatch.setattr(stages, "plot_stages", lambda rows, *_, **__: drawn.extend(p for row in rows for p in row))
    monkeypatch.setattr(stages, "save_figure", lambda *_: None)
    stages.write_stages(found, decoder, dataset, "1", "test1", tmp_path / "out")
    columns = coarse.projection("1").columns
    for panel, one in zip(drawn, found, strict=True):
        filled = np.where(columns >= 0, one.values[columns], np.nan)
        np.testing.assert_allclose(to_cortex(panel.surface_map), filled, rtol=1e-6)


def test_voxels_that_do_not_match_the_scans_are_refused_by_file_name(coarse, tmp_path: Path) -> None:
    home = tmp_path / "data"
    shutil.copytree(coarse.dataset.folder, home)
    path = home / "subject1" / "volume.safetensors"
    arrays = load_arrays(path)
    path.unlink()
    save_arrays(path, arrays | {"voxels": arrays["voxels"][::-1].copy()})
    with pytest.raises(MindvizError, match=r"subject1/volume.safetensors: expected each vertex of the scans"):
        session.open(home).projection("1")


def test_the_other_subject_has_vertices_only(coarse) -> None:
    projection = coarse.projection("2")
    assert projection.volume is None and (projection.columns >= 0).sum() == 320
