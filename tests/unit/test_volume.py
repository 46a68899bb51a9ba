"""Scans that come as images: which voxels are read, and maps that go back into them, by nibabel and nilearn."""

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

from mindviz import cli, ui, video
from mindviz.brain import meshes
from mindviz.brain.volume import Volume, cortex_in, write_nifti
from mindviz.checkpoint import load_arrays, save_arrays
from mindviz.data import Dataset, PrepareOptions, prepare, raw_runs, volumes, wen2018
from mindviz.types import MindvizError, VideoClip
from mindviz.ui import map_choice, map_export
from mindviz.ui.each_map import save_each
from mindviz.ui.run_maps import Scans, save_map

SHAPE = (19, 23, 19)
AFFINE = np.array(
    [[-10.0, 0, 0, 90], [0, 10, 0, -126], [0, 0, 10, -72], [0, 0, 0, 1]]
)  # as FSL's, x from right to left
OPTIONS = PrepareOptions("images", frame_size=16, lossless=True, alpha=1e4, fraction=1.0)  # two segments tell little


# ---------------------------------------------------------------------- where the cortex runs
def test_each_voxel_is_read_once_where_the_nearest_vertex_lies() -> None:
    """Against a loop over all voxels: of the vertices inside of it, the nearest to its centre."""
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
def test_an_image_without_cortex_is_a_sentence(shape, affine, told) -> None:
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
def test_voxels_that_cannot_be_are_a_sentence(voxels, told) -> None:
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


def test_what_does_not_fit_its_voxels_is_a_sentence(tmp_path: Path) -> None:
    _, volume = cortex_in(SHAPE, AFFINE)
    with pytest.raises(MindvizError, match=r"map.nii.gz: expected values of \d+ voxels, found shape \(3,\)"):
        write_nifti(np.zeros(3), volume, tmp_path / "map.nii.gz")
    with pytest.raises(MindvizError, match=r"expected a name that ends in .nii.gz"):
        write_nifti(np.zeros(len(volume.voxels)), volume, tmp_path / "map.nii")
    assert list(tmp_path.iterdir()) == []


def test_the_scale_is_on_disk_for_programs_that_take_it_as_it_is(tmp_path: Path) -> None:
    volume = cortex_in(SHAPE, AFFINE)[1]
    header = gzip.decompress(write_nifti(np.ones(len(volume.voxels)), volume, tmp_path / "map.nii.gz").read_bytes())
    assert struct.unpack("<ff", header[112:120]) == (1.0, 0.0), "scl_slope and scl_inter"


# ---------------------------------------------------------------------- raw images
def write_run(
    path: Path, number: int, repeat: int, affine: np.ndarray = AFFINE, code: int = 4, volumes: int = 245,
    units: tuple[str, str] = ("unknown", "unknown"), step: float = 2.0,
) -> Path:  # fmt: skip
    """A run of images of int16 with a scale: some voxels of the cortex have a course of the run's own."""
    volume = cortex_in(SHAPE, AFFINE)[1]
    rng = np.random.default_rng([number, repeat])
    stored = rng.integers(9000, 11000, (*SHAPE, volumes), dtype=np.int16)
    shared = np.random.default_rng([number, 99]).standard_normal((40, volumes))
    for row, voxel in enumerate(volume.voxels[:40]):
        stored[tuple(voxel)] = 10000 + 3000 * shared[row] + 100 * rng.standard_normal(volumes)
    image = nib.Nifti1Image(stored, affine)
    image.header.set_slope_inter(0.5, 10)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units(*units)
    image.header["pixdim"][4] = step
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def place(raw: Path, run: str, repeat: int, ending: str = ".nii.gz") -> Path:
    return raw / "subject1" / "fmri" / run / "mni" / f"{run}_{repeat}_mni{ending}"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training segments, each seen twice, one of them not packed."""
    home = tmp_path_factory.mktemp("images")
    for number, run in enumerate(("seg1", "seg2")):
        for repeat in (1, 2):
            write_run(place(home, run, repeat, ".nii" if run == "seg2" else ".nii.gz"), number, repeat)
        frames = np.random.default_rng(number).integers(0, 255, (1440, 16, 16, 3), dtype=np.uint8)
        video.write_mp4(home / "stimuli" / f"{run}.mp4", VideoClip(frames, 3.0), lossless=True)
    return home


def test_images_are_read_as_nibabel_reads_them(raw: Path) -> None:
    vertices, volume = cortex_in(SHAPE, AFFINE)
    for path in (place(raw, "seg1", 1), place(raw, "seg2", 2, ".nii")):
        bold, held = volumes.read_cortex(path)
        np.testing.assert_array_equal(np.flatnonzero(held), vertices)
        expected = nib.load(path).get_fdata()[tuple(volume.voxels.T)]
        np.testing.assert_allclose(bold[vertices], expected, rtol=1e-6)
        assert bold.shape == (59412, 245) and not bold[~held].any()


def test_images_become_a_dataset_that_knows_its_voxels(raw: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(prepare(raw, tmp_path / "data", options=OPTIONS))
    vertices, volume = cortex_in(SHAPE, AFFINE)
    run, found = dataset.run("1", "seg1"), dataset.volume("1")
    assert found is not None and found.shape == SHAPE
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert set(vertices[:40]) <= set(run.vertices) <= set(vertices), "what repeats itself is chosen, of what was read"
    where = {int(v): tuple(x) for v, x in zip(vertices, volume.voxels, strict=True)}
    assert [tuple(x) for x in found.voxels] == [where[int(v)] for v in run.vertices]
    time = np.linspace(-1, 1, 240)
    courses = []
    for repeat in (1, 2):
        kept = nib.load(place(raw, "seg1", repeat)).get_fdata()[tuple(volume.voxels[0])][1:241]
        kept = kept - np.polyval(np.polyfit(time, kept, 4), time)
        courses.append((kept - kept.mean()) / kept.std())
    column = int(np.flatnonzero(run.vertices == vertices[0])[0])
    np.testing.assert_allclose(run.bold[:, column], np.mean(courses, axis=0), atol=5e-3)
    assert not list(tmp_path.glob(".*"))


def spoilt(raw: Path, tmp_path: Path) -> Path:
    home = tmp_path / "raw"
    shutil.copytree(raw, home)
    return home


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda p: write_run(p, 0, 2, code=1), r"seg1_2_mni.nii.gz: expected images in MNI152 space .* found code 1"),
        (
            lambda p: write_run(p, 0, 2, affine=AFFINE + np.eye(4)[0][:, None] * [0, 0, 0, 3]),
            "expected the voxels of seg1_1",
        ),
        (lambda p: write_run(p, 0, 2, units=("mm", "sec"), step=1.5), "expected a volume every 2 s, found 1.5 s"),
        (
            lambda p: write_run(p, 0, 2, units=("micron", "sec")),
            "seg1_2_.*: expected images measured in mm, found micro",
        ),
        (lambda p: write_run(p, 0, 2, volumes=200), "expected 245 or 246 volumes, found 200"),
        (lambda p: p.write_bytes(b"nothing"), "expected a NIfTI image, found what does not read"),
        (
            lambda p: nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE), p),
            "of four dimensions, found shape",
        ),
        (lambda p: p.unlink(), r"mni/seg1_2_mni.nii.gz: expected a NIfTI image .* found no such file"),
    ],
)
def test_images_that_do_not_fit_are_refused_before_anything_is_read(raw, tmp_path, monkeypatch, spoil, told) -> None:
    home = spoilt(raw, tmp_path)
    spoil(place(home, "seg1", 2))
    monkeypatch.setattr(volumes, "read_cortex", lambda *_: pytest.fail("it went to work"))
    with pytest.raises(MindvizError, match=told):
        prepare(home, tmp_path / "data", options=OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("how", ["another grid", "another kind"])
def test_runs_of_a_subject_share_their_voxels(raw: Path, tmp_path: Path, monkeypatch, how: str) -> None:
    home = spoilt(raw, tmp_path)
    moved = AFFINE + np.eye(4)[0][:, None] * [0, 0, 0, 3]
    for repeat in (1, 2):
        if how == "another grid":
            write_run(place(home, "seg2", repeat, ".nii"), 1, repeat, affine=moved)
        else:
            path = home / "subject1" / "fmri" / "seg2" / "cifti" / f"seg2_{repeat}_Atlas.dtseries.nii"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"a file of the other kind is read first")
    monkeypatch.setattr(volumes, "read_cortex", lambda *_: pytest.fail("it went to work"))
    told = "seg2_1_mni.nii: expected the voxels of seg1_1" if how == "another grid" else "seg2_1_Atlas.dtseries.nii"
    with pytest.raises(MindvizError, match=told):
        prepare(home, tmp_path / "data", options=OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_affines_that_differ_by_rounding_are_one_grid(raw: Path, tmp_path: Path) -> None:
    home = spoilt(raw, tmp_path)
    rounded = AFFINE + np.array([[0, 0, 0, 4e-3], [0, 0, 0, -5e-3], [0, 0, 0, 6e-3], [0, 0, 0, 0]])
    mine, theirs = cortex_in(SHAPE, AFFINE), cortex_in(SHAPE, rounded)
    assert set(mine[0]) != set(theirs[0]), "by themselves the two would not agree on every vertex"
    for run, repeat, number in (("seg1", 2, 0), ("seg2", 1, 1), ("seg2", 2, 1)):
        ending = ".nii" if run == "seg2" else ".nii.gz"
        write_run(place(home, run, repeat, ending), number, repeat, affine=rounded)
    straight = Dataset.open(prepare(raw, tmp_path / "straight", options=OPTIONS))
    dataset = Dataset.open(prepare(home, tmp_path / "data", options=OPTIONS))
    for run in ("seg1", "seg2"):
        np.testing.assert_array_equal(dataset.run("1", run).vertices, straight.run("1", run).vertices)
        np.testing.assert_array_equal(dataset.run("1", run).bold, straight.run("1", run).bold)
    np.testing.assert_array_equal(dataset.volume("1").voxels, straight.volume("1").voxels)
    elsewhere = write_run(tmp_path / "elsewhere.nii", 0, 1, AFFINE + np.eye(4)[0][:, None] * [0, 0, 0, 3])
    with pytest.raises(MindvizError, match=r"seg2_1_mni.nii: expected the voxels of elsewhere.nii .*, found .*, not "):
        volumes.read_cortex(place(home, "seg2", 1, ".nii"), elsewhere)


def test_grids_that_creep_from_run_to_run_are_refused_before_anything_is_read(raw, tmp_path, monkeypatch) -> None:
    home = spoilt(raw, tmp_path)
    for repeat, off in ((1, 8e-3), (2, 16e-3)):  # each within rounding of the one before, the last not of the first
        moved = AFFINE + np.eye(4)[0][:, None] * [0, 0, 0, off]
        write_run(place(home, "seg2", repeat, ".nii"), 1, repeat, affine=moved)
    monkeypatch.setattr(volumes, "read_cortex", lambda *_: pytest.fail("it went to work"))
    with pytest.raises(MindvizError, match=r"seg2_2_mni.nii: expected the voxels of seg1_1.*90.016.*90.0\]"):
        prepare(home, tmp_path / "data", options=OPTIONS)


def test_milliseconds_and_a_step_that_was_not_told_pass(raw: Path, tmp_path: Path) -> None:
    for step, units in ((2000, ("mm", "msec")), (2000, ("mm", "unknown")), (1, ("mm", "sec")), (0, ("mm", "sec"))):
        path = write_run(tmp_path / "run.nii", 0, 1, volumes=5, units=units, step=step)
        raw_runs.check_step(path, 2.0)


def test_voxels_of_nan_alone_are_left_out_where_allowed(raw: Path, tmp_path: Path) -> None:
    path, voxels = tmp_path / "run.nii", cortex_in(SHAPE, AFFINE)[1].voxels
    bold = nib.load(place(raw, "seg1", 1)).get_fdata(dtype=np.float32)
    image = nib.Nifti1Image(bold, AFFINE)
    image.set_sform(AFFINE, 4)
    bold[tuple(voxels[:5].T)] = np.nan
    nib.save(image, path)
    with pytest.raises(MindvizError, match=r"found nothing but NaN in 5 of 59412 vertices \(--allow-constant"):
        wen2018.read_repeat(path)
    cleaned = wen2018.read_repeat(path, allow_constant=True)
    assert not cleaned[cortex_in(SHAPE, AFFINE)[0][:5]].any() and np.isfinite(cleaned).all()
    bold[(*voxels[5], 7)] = np.nan
    nib.save(image, path)
    with pytest.raises(MindvizError, match=r"found NaN or infinity in 1 of 59412"):
        wen2018.read_repeat(path, allow_constant=True)


def test_a_truncated_image_is_named_packed_or_not(raw: Path, tmp_path: Path) -> None:
    home = spoilt(raw, tmp_path)
    plain = place(home, "seg2", 1, ".nii")
    plain.write_bytes(plain.read_bytes()[:-1000])
    with pytest.raises(MindvizError, match=r"seg2_1_mni.nii: expected \d+ bytes, found \d+: the file is truncated"):
        volumes.open_images(plain)
    packed = place(home, "seg1", 1)
    whole = gzip.decompress(packed.read_bytes())
    packed.write_bytes(gzip.compress(whole[: len(whole) // 2]))
    with pytest.raises(
        MindvizError, match=r"seg1_1_mni.nii.gz: expected 245 images, found 12\d: the file is truncated"
    ):
        volumes.read_cortex(packed)
    packed.write_bytes(gzip.compress(whole)[:-5000])
    with pytest.raises(MindvizError, match=r"seg1_1_mni.nii.gz: expected 245 images, found what does not unpack"):
        volumes.read_cortex(packed)


def test_where_there_are_cifti_files_they_are_read(raw: Path, tmp_path: Path) -> None:
    home = spoilt(raw, tmp_path)
    cifti = wen2018.run_path(home, "1", "seg1", 1)
    assert raw_runs.present(cifti) == place(home, "seg1", 1)
    assert raw_runs.present(wen2018.run_path(home, "1", "seg2", 1)) == place(home, "seg2", 1, ".nii")
    cifti.parent.mkdir()
    cifti.touch()
    assert raw_runs.present(cifti) == cifti
    assert raw_runs.present(wen2018.run_path(home, "1", "seg9", 1)).name == "seg9_1_Atlas.dtseries.nii"


# ---------------------------------------------------------------------- maps of such a dataset
@pytest.fixture(scope="module")
def opened(tiny_dataset: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory):
    """The tiny dataset as if its scans had come as images of 2 mm; subject 2's came as vertices."""
    home = tmp_path_factory.mktemp("volume") / "data"
    shutil.copytree(tiny_dataset, home, ignore=shutil.ignore_patterns("checkpoint"))
    shutil.copytree(tiny_checkpoint, home / "checkpoint")
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -70.5], [0, 0, 0, 1]])  # no two share a voxel
    surface = meshes.surface("fsLR-32k", "midthickness")
    sides = zip((surface.left, surface.right), meshes.cortex_index("fsLR-32k"), strict=True)
    points = np.concatenate([side.coordinates[cortex] for side, cortex in sides])
    vertices = load_arrays(home / "subject1" / "test1.safetensors")["vertices"]
    voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), points[vertices])).astype(np.int32)
    arrays = {"voxels": voxels, "shape": np.array([91, 109, 91], np.int32), "affine": affine}
    save_arrays(home / "subject1" / "volume.safetensors", arrays)
    return ui.open_workspace(home)


def test_a_saved_map_comes_with_its_image(opened, tmp_path: Path) -> None:
    choice, volume = map_choice.choose("rollout"), opened.dataset.volume("1")
    save_map(opened, Scans("1", "test1", 3), choice, tmp_path / "map")
    found = nib.load(tmp_path / "map" / "map.nii.gz")
    expected = opened.explainer("1").map(opened.dataset.window("1", "test1", 3), "rollout").values
    np.testing.assert_allclose(np.asarray(found.dataobj)[tuple(volume.voxels.T)], expected, rtol=1e-5)
    assert np.isfinite(np.asarray(found.dataobj)).sum() == 320
    told = json.loads((tmp_path / "map" / "map.json").read_text())
    assert told["volume"]["space"] == "MNI152" and told["volume"]["affine"] == volume.affine.tolist()
    written = {p.name for p in (tmp_path / "map").iterdir()}
    assert written == set(told["files"]) == set(map_export.EVERY_FILE)
    save_map(opened, Scans("1", "test1", 4), choice, tmp_path / "map")  # an earlier one is replaced
    decoded = opened.decode("1", "test1", 3, opened.decoder.default_settings)
    map_export.export_map(opened, decoded, tmp_path / "map", "rollout")
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


def test_scans_that_came_as_vertices_have_no_image_and_it_is_said(opened, tmp_path: Path) -> None:
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


def test_runs_of_other_voxels_are_not_one_subject() -> None:
    one = {"voxels": np.zeros((4, 3)), "shape": np.array(SHAPE), "affine": AFFINE, "average": np.zeros(2)}
    assert raw_runs.chosen_volume([{}, {}], np.arange(2)) == {}
    for other in ({}, one | {"affine": AFFINE + 1}):
        with pytest.raises(MindvizError, match="the runs of a subject need the same voxels"):
            raw_runs.chosen_volume([one, other], np.arange(2))
