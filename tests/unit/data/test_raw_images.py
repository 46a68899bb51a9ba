"""Raw runs as NIfTI images: read as nibabel reads them, prepared, and refused if they do not fit."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindviz import video
from mindviz.brain.volume import cortex_in
from mindviz.data import Dataset, PrepareOptions, prepare, raw_runs, volumes, wen2018
from mindviz.types import MindvizError, VideoClip

SHAPE = (19, 23, 19)
AFFINE = np.array(
    [[-10.0, 0, 0, 90], [0, 10, 0, -126], [0, 0, 10, -72], [0, 0, 0, 1]]
)  # as FSL's, x from right to left
OPTIONS = PrepareOptions(
    "images", frame_size=16, lossless=True, alpha=1e4, fraction=1.0
)  # two segments give little power


def write_run(
    path: Path,
    number: int,
    repeat: int,
    affine: np.ndarray = AFFINE,
    code: int = 4,
    volumes: int = 245,
    units: tuple[str, str] = ("unknown", "unknown"),
    step: float = 2.0,
) -> Path:
    """A run of images of int16 with a scale: some cortical voxels have a time course specific to the run."""
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
    """Two training segments, each seen twice, one of them uncompressed."""
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
        bold, held = volumes.read_image_cortex(path)
        np.testing.assert_array_equal(np.flatnonzero(held), vertices)
        expected = nib.load(path).get_fdata()[tuple(volume.voxels.T)]
        np.testing.assert_allclose(bold[vertices], expected, rtol=1e-6)
        assert bold.shape == (59412, 245) and not bold[~held].any()


def test_images_become_a_dataset_with_their_voxels(raw: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(prepare(raw, tmp_path / "data", options=OPTIONS))
    vertices, volume = cortex_in(SHAPE, AFFINE)
    run, found = dataset.run("1", "seg1"), dataset.volume("1")
    assert found is not None and found.shape == SHAPE
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert set(vertices[:40]) <= set(run.vertices) <= set(vertices), (
        "reliable vertices are selected, among those that were read"
    )
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
        (lambda p: p.write_bytes(b"nothing"), "expected a NIfTI image, found one that cannot be read"),
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
    monkeypatch.setattr(volumes, "read_image_cortex", lambda *_: pytest.fail("it went to work"))
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
    monkeypatch.setattr(volumes, "read_image_cortex", lambda *_: pytest.fail("it went to work"))
    told = "seg2_1_mni.nii: expected the voxels of seg1_1" if how == "another grid" else "seg2_1_Atlas.dtseries.nii"
    with pytest.raises(MindvizError, match=told):
        prepare(home, tmp_path / "data", options=OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_a_single_training_run_is_refused_before_anything_is_read(raw: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(volumes, "read_image_cortex", lambda *_: pytest.fail("it went to work"))
    with pytest.raises(MindvizError, match=r"subject 1: selecting vertices needs at least 2 training.*found 1"):
        prepare(raw, tmp_path / "data", runs=["seg1"], options=OPTIONS)
    assert not list(tmp_path.iterdir())


def test_affines_that_differ_only_by_rounding_share_a_grid(raw: Path, tmp_path: Path) -> None:
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
        volumes.read_image_cortex(place(home, "seg2", 1, ".nii"), elsewhere)


def test_grids_that_drift_from_run_to_run_are_refused_before_anything_is_read(raw, tmp_path, monkeypatch) -> None:
    home = spoilt(raw, tmp_path)
    for repeat, off in (
        (1, 8e-3),
        (2, 16e-3),
    ):  # each within rounding of the previous one, but the last not of the first
        moved = AFFINE + np.eye(4)[0][:, None] * [0, 0, 0, off]
        write_run(place(home, "seg2", repeat, ".nii"), 1, repeat, affine=moved)
    monkeypatch.setattr(volumes, "read_image_cortex", lambda *_: pytest.fail("it went to work"))
    with pytest.raises(MindvizError, match=r"seg2_2_mni.nii: expected the voxels of seg1_1.*90.016.*90.0\]"):
        prepare(home, tmp_path / "data", options=OPTIONS)


@pytest.mark.parametrize(
    ("step", "units"), [(2000, ("mm", "msec")), (2000, ("mm", "unknown")), (1, ("mm", "sec")), (0, ("mm", "sec"))]
)
def test_a_tr_in_milliseconds_or_an_unknown_tr_is_accepted(tmp_path: Path, step: float, units: tuple[str, str]) -> None:
    path = write_run(tmp_path / "run.nii", 0, 1, volumes=5, units=units, step=step)
    assert raw_runs.count_volumes([path], 2.0) == {path: 5}
    with pytest.raises(MindvizError, match=r"run.nii: expected a volume every 1.5 s, found"):
        raw_runs.count_volumes([write_run(path, 0, 1, volumes=5, units=("mm", "msec"), step=2000)], 1.5)


def test_voxels_with_nothing_but_nan_are_left_out_if_allowed(raw: Path, tmp_path: Path) -> None:
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


def test_a_truncated_image_is_refused_compressed_or_not(raw: Path, tmp_path: Path) -> None:
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
        volumes.read_image_cortex(packed)
    packed.write_bytes(gzip.compress(whole)[:-5000])
    with pytest.raises(
        MindvizError, match=r"seg1_1_mni.nii.gz: expected 245 images, found data that cannot be decompressed"
    ):
        volumes.read_image_cortex(packed)


def test_cifti_files_take_precedence_over_images(raw: Path, tmp_path: Path) -> None:
    home = spoilt(raw, tmp_path)
    cifti = wen2018.run_path(home, "1", "seg1", 1)
    assert raw_runs.present(cifti) == place(home, "seg1", 1)
    assert raw_runs.present(wen2018.run_path(home, "1", "seg2", 1)) == place(home, "seg2", 1, ".nii")
    cifti.parent.mkdir()
    cifti.touch()
    assert raw_runs.present(cifti) == cifti
    assert raw_runs.present(wen2018.run_path(home, "1", "seg9", 1)).name == "seg9_1_Atlas.dtseries.nii"


def test_runs_with_different_voxels_are_refused_for_one_subject() -> None:
    one = {"voxels": np.zeros((4, 3)), "shape": np.array(SHAPE), "affine": AFFINE, "average": np.zeros(2)}
    assert raw_runs.chosen_volume([{}, {}], np.arange(2)) == {}
    for other in ({}, one | {"affine": AFFINE + 1}):
        with pytest.raises(MindvizError, match="the runs of a subject need the same voxels"):
            raw_runs.chosen_volume([one, other], np.arange(2))
