"""The reader of the raw layout of Wen 2018, on sparse files: a few vertices vary, the rest are zero."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from mindviz import video
from mindviz.data import Dataset, Preparation, PrepareOptions, cifti, cleaning, prepare, wen2018
from mindviz.simulate import raw as simulated
from mindviz.storage import save_arrays
from mindviz.types import MindvizError, VideoClip
from training.demo.world import WorldRecipe, label_raw

PLANTED = np.array([5, 700, 29695, 29696, 59411])
"""Reliable vertices, at both ends of both hemispheres."""
NOISY = np.array([6, 40000])
OPTIONS = PrepareOptions("tiny", frame_size=16, lossless=True, alpha=0.5, fraction=1.0, allow_constant=True)


def write(path, rows, volumes=245):
    """A sparse dense-time-series file in which only the grayordinates `rows` (index -> series) are nonzero."""
    header = simulated.series_header(volumes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(len(header) + cifti.NUM_GRAYORDINATES * volumes * 4)
        for index, series in rows.items():
            file.seek(len(header) + int(index) * volumes * 4)
            file.write(np.asarray(series, "<f4").tobytes())


def _rows(run, repeat, volumes=245):
    """Planted vertices: a time course specific to the run, drift, little noise. Noisy ones: a new one every time."""
    shared = np.random.default_rng([run, 0]).normal(size=(len(PLANTED), volumes))
    own = np.random.default_rng([run, repeat]).normal(size=(len(PLANTED) + len(NOISY), volumes))
    drift = np.linspace(-1, 1, volumes) ** 3 * 300
    planted = 10_000 + drift + 100 * shared + 2 * own[: len(PLANTED)]
    return dict(zip([*PLANTED, *NOISY], [*planted, *(9000 + 100 * own[len(PLANTED) :])], strict=True))


def _film(seed, seconds=480):
    frames = np.random.default_rng(seed).integers(0, 255, size=(round(seconds * 3), 16, 16, 3), dtype=np.uint8)
    return VideoClip(frames, 3.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A raw folder of one subject: four training segments (seen twice) and one test run (ten times)."""
    root = tmp_path_factory.mktemp("raw")
    for number, run in enumerate(("seg1", "seg2", "seg3", "seg10", "test1")):
        for repeat in range(1, wen2018.expected_repeats(run) + 1):
            write(wen2018.run_path(root, "1", run, repeat), _rows(number, repeat))
        video.write_mp4(root / "stimuli" / f"{run}.mp4", _film(number), lossless=True)
    notes = {"captions": [f"frame {i}" for i in range(1440)], "other": 1}
    (root / "stimuli" / "test1.json").write_text(json.dumps(notes))
    return root


@pytest.fixture
def raw(whole, tmp_path):
    """The same as links, with only two segments, so that each test can spoil its own copy."""
    root = tmp_path / "raw"
    for run in ("seg1", "seg2"):
        for repeat in (1, 2):
            path = wen2018.run_path(root, "1", run, repeat)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(wen2018.run_path(whole, "1", run, repeat))
        (root / "stimuli").mkdir(exist_ok=True)
        shutil.copy(whole / "stimuli" / f"{run}.mp4", root / "stimuli" / f"{run}.mp4")
    return root


def _cleaned(run, repeat, vertex):
    """Reference: numpy polyfit and a z-score, in float64."""
    kept = np.asarray(_rows(run, repeat)[vertex], np.float32)[1:241].astype(float)
    time = np.linspace(-1, 1, 240)
    kept = kept - np.polyval(np.polyfit(time, kept, 4), time)
    return (kept - kept.mean()) / kept.std()


@pytest.mark.slow
def test_a_raw_folder_becomes_a_dataset_of_its_reliable_vertices(whole, tmp_path):
    steps = []
    target = prepare(whole, tmp_path / "out" / "data", options=OPTIONS, progress=lambda *s: steps.append(s))
    dataset = Dataset.open(target)
    assert dataset.runs("1", "train") == ("seg1", "seg2", "seg3", "seg10") and dataset.runs("1", "test") == ("test1",)
    run = dataset.run("1", "test1")
    assert np.array_equal(run.vertices, PLANTED)
    expected = np.mean([[_cleaned(4, r, v) for v in PLANTED] for r in range(1, 11)], axis=0)
    assert run.bold.shape == (240, 5) and np.allclose(run.bold.T, expected, atol=5e-3)
    assert np.array_equal(dataset.film("test1").frames, _film(4).frames)
    assert dataset.captions("test1", 239)[-1] == "frame 1439" and dataset.captions("seg1", 0) == ()
    assert [s[0] for s in steps] == list(range(1, 24)) and {s[1] for s in steps} == {23}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["data"]


def test_a_file_written_by_the_simulation_is_read_back_exactly(tmp_path):
    path = tmp_path / "x.dtseries.nii"
    write(path, {v: np.arange(245) + v for v in PLANTED})
    bold = cifti.read_series_cortex(path)
    assert np.array_equal(np.flatnonzero(bold.any(1)), PLANTED)
    assert np.array_equal(bold[PLANTED], PLANTED[:, None] + np.arange(245.0))
    image = nib.load(path)
    assert image.shape == (245, 91282) and image.header.get_axis(0).step == 2
    assert [len(m) for _, _, m in image.header.get_axis(1).iter_structures()][:3] == [29696, 29716, 135]


@pytest.mark.slow
def test_vertices_are_found_by_the_brain_models_whatever_their_order(tmp_path):
    models = simulated.brain_models()
    order = np.random.default_rng(0).permutation(len(models))
    order = order[np.argsort(models.name[order], kind="stable")[::-1]]  # grouped by structure, right before left
    series = nib.cifti2.SeriesAxis(0, 2, 5)
    data = np.random.default_rng(1).integers(-99, 99, size=(5, len(models))).astype(np.int16)
    image = nib.Cifti2Image(data[:, order], nib.cifti2.Cifti2Header.from_axes((series, models[order])))
    image.nifti_header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "shuffled.dtseries.nii")
    assert np.array_equal(cifti.read_series_cortex(tmp_path / "shuffled.dtseries.nii"), data[:, :59412].T)


def _spoil(path, rows, volumes=245):
    path.unlink()
    write(path, rows, volumes)


def _nan(series):
    return np.where(np.arange(245) == 100, np.nan, series)


BAD = {
    "missing repeat": (lambda p: p.unlink(), "no such file"),
    "wrong number of volumes": (lambda p: _spoil(p, {}, 240), "expected 245 or 246 volumes, found 240"),
    "repeats that differ": (lambda p: _spoil(p, {}, 246), "expected 245 volumes as in seg2_1_Atlas.*, found 246"),
    "nan": (lambda p: _spoil(p, {7: _nan(np.ones(245))}), "found NaN or infinity in 1 of 59412 vertices"),
    "not cifti": (lambda p: (p.unlink(), p.write_bytes(b"hello" * 400)), "expected a CIFTI dense time series"),
    "empty": (lambda p: (p.unlink(), p.write_bytes(b"")), "expected a CIFTI dense time series"),
}


def _truncate(path):
    content = path.resolve()
    path.unlink()
    shutil.copy(content, path)
    with path.open("r+b") as file:
        file.truncate(50_000_000)


BAD["truncated"] = (_truncate, "expected 90.* bytes, found 50000000: the file is truncated")


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_raw_file_is_refused_with_a_clear_message_and_nothing_is_written(raw, tmp_path, kind):
    spoil, message = BAD[kind]
    path = wen2018.run_path(raw, "1", "seg2", 2)
    spoil(path)
    with pytest.raises(MindvizError, match=message) as error:
        prepare(raw, tmp_path / "data", options=OPTIONS)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_constant_vertices_are_refused_unless_allowed(raw):
    path = wen2018.run_path(raw, "1", "seg1", 1)
    with pytest.raises(MindvizError, match="to vary, found 59405 constant ones, the first at 0"):
        wen2018.read_repeat(path)
    cleaned = wen2018.read_repeat(path, allow_constant=True)
    assert np.array_equal(np.flatnonzero(cleaned.any(1)), np.sort([*PLANTED, *NOISY]))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (nib.cifti2.ScalarAxis([str(i) for i in range(245)]), "expected a series in seconds .*, found ScalarAxis"),
        (nib.cifti2.SeriesAxis(0, 2, 245, "HERTZ"), "expected a series in seconds .*, found a series in HERTZ"),
    ],
)
def test_a_file_without_a_time_axis_in_seconds_is_refused(tmp_path, rows, told):
    header = nib.cifti2.Cifti2Header.from_axes((rows, simulated.brain_models()[:300]))
    nib.save(nib.Cifti2Image(np.zeros((245, 300), np.float32), header), tmp_path / "x.dtseries.nii")
    with pytest.raises(MindvizError, match=told):
        cifti.open_series(tmp_path / "x.dtseries.nii")


def test_another_number_of_grayordinates_is_refused(tmp_path):
    models = simulated.brain_models()[:300]
    series = nib.cifti2.SeriesAxis(0, 2, 245)
    header = nib.cifti2.Cifti2Header.from_axes((series, models))
    nib.save(nib.Cifti2Image(np.zeros((245, 300), np.float32), header), tmp_path / "x.dtseries.nii")
    with pytest.raises(MindvizError, match="expected 91282 grayordinates, found 300"):
        cifti.open_series(tmp_path / "x.dtseries.nii")


def test_a_film_that_is_missing_or_too_short_is_refused(raw, tmp_path):
    video.write_mp4(raw / "stimuli" / "seg1.mp4", _film(0, seconds=30), lossless=True)
    with pytest.raises(MindvizError, match=r"seg1.mp4: expected a film of 480 s, found 30.0 s"):
        prepare(raw, tmp_path / "data", options=OPTIONS)
    (raw / "stimuli" / "seg1.mp4").unlink()
    with pytest.raises(MindvizError, match="expected the film of seg1, found no such file"):
        prepare(raw, tmp_path / "data", options=OPTIONS)


def test_captions_must_cover_every_frame(raw, tmp_path):
    (raw / "stimuli" / "seg1.json").write_text('{"captions": ["a fox"]}')
    with pytest.raises(MindvizError, match="one text for each of 1440 frames, found 1 entries"):
        prepare(raw, tmp_path / "data", options=OPTIONS)


@pytest.mark.parametrize(
    ("shots", "found"),
    [
        (None, "None"),
        ([{"start": 0, "end": 12}], "{'start': 0, 'end': 12}"),
        ([{"start": 0, "stop": 20}, {"start": 12, "stop": 30}], "{'start': 12"),
        ([{"start": 0, "stop": 1441}], "{'start': 0, 'stop': 1441}"),
        (["first"], "first"),
    ],
)
def test_shots_must_follow_each_other_in_frames(raw, tmp_path, shots, found):
    (raw / "stimuli" / "seg1.json").write_text(json.dumps({"captions": ["a fox"] * 1440, "shots": shots}))
    with pytest.raises(MindvizError, match=f'seg1.json: expected "shots" as a list .* found {re.escape(found)}'):
        prepare(raw, tmp_path / "data", options=OPTIONS)


def test_held_out_must_be_true_or_false(raw, tmp_path):
    shots = [{"start": 0, "stop": 1440, "held_out": "no"}]
    (raw / "stimuli" / "seg1.json").write_text(json.dumps({"captions": ["a fox"] * 1440, "shots": shots}))
    with pytest.raises(MindvizError, match=r"seg1.json: expected held_out of a shot to be true or false, found 'no'"):
        prepare(raw, tmp_path / "data", options=OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": ["3"]}, "expected the runs of subject 3, found no such folder"),
        ({"runs": ["seg1", "seg5"]}, "seg5_1_Atlas.dtseries.nii: expected a CIFTI dense time series"),
    ],
)
def test_a_missing_subject_or_run_is_refused(raw, tmp_path, arguments, message):
    with pytest.raises(MindvizError, match=message):
        prepare(raw, tmp_path / "data", options=OPTIONS, **arguments)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(MindvizError, match="expected folders like subject1/fmri, found none"):
        prepare(tmp_path / "raw", tmp_path / "data")


@pytest.mark.parametrize("target", ["raw", "raw/data", ".", "other/../raw"])
def test_a_target_at_inside_or_around_the_download_is_refused(raw, tmp_path, target):
    with pytest.raises(MindvizError, match="expected a target outside the raw download and not around it"):
        prepare(raw, tmp_path / target, options=OPTIONS)
    assert wen2018.find_runs(raw, "1") == ("seg1", "seg2") and [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_only_an_empty_folder_or_a_dataset_is_replaced(tmp_path):
    raw, target = tmp_path / "raw", tmp_path / "thesis"
    target.mkdir()
    with pytest.raises(MindvizError, match="expected folders like subject1/fmri"):
        prepare(raw, target)
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(MindvizError, match=r"or a dataset, found other files in it \(thesis.tex\)"):
        prepare(raw, target)
    (target / "dataset.json").touch()
    with pytest.raises(MindvizError, match="expected folders like subject1/fmri"):
        prepare(raw, target)


def test_vertices_constant_in_any_run_are_not_selected(tmp_path):
    rng = np.random.default_rng(0)
    reliable = np.isin(np.arange(cifti.NUM_CORTEX), PLANTED)
    chosen = {}
    for case, spoilt in {"none": {}, "train": {"seg2": 700}, "test": {"test1": 29695}}.items():
        preparation = Preparation(tmp_path / case, OPTIONS)
        for run in ("seg1", "seg2", "seg3", "test1"):
            noise = rng.normal(size=cifti.NUM_CORTEX).astype(np.float32)
            arrays = {
                "average": np.zeros((cifti.NUM_CORTEX, 2), np.float16),
                "constant": np.arange(cifti.NUM_CORTEX) == spoilt.get(run, -1),
                "fisher_z": np.where(reliable, 3 + noise / 1000, noise / 10),
            }
            save_arrays(preparation.work / "cortex" / "subject1" / f"{run}.safetensors", arrays)
        selected = preparation.finish_subject("1", ("seg1", "seg2", "seg3"), ("test1",)).vertices
        chosen[case] = set(PLANTED) & set(selected)
    assert chosen == {"none": {*PLANTED}, "train": {*PLANTED} - {700}, "test": {*PLANTED} - {29695}}


def test_simulated_raw_files_are_labelled(tmp_path):
    assert wen2018.read_label(tmp_path / "raw") == {}
    label_raw(WorldRecipe(), tmp_path)
    assert wen2018.read_label(tmp_path / "raw") == {"name": "Simulated demo", "simulated": True}
    (tmp_path / "raw" / wen2018.LABEL).write_text('{"simulated": "yes"}')
    with pytest.raises(MindvizError, match=r'simulated.json: expected "simulated", true or false, and a "name", found'):
        wen2018.read_label(tmp_path / "raw")


def test_an_interrupted_preparation_resumes_where_it_stopped(whole, tmp_path):
    paths = [wen2018.run_path(whole, "1", "seg1", r) for r in (1, 2)]
    first = Preparation(tmp_path / "data", OPTIONS)
    assert not first.has_run("1", "seg1")
    first.add_run("1", "seg1", paths)
    again = Preparation(tmp_path / "data", OPTIONS)
    assert again.has_run("1", "seg1") and not again.has_run("1", "seg2")
    again.discard()
    assert not list(tmp_path.iterdir())


def test_runs_and_subjects_come_in_natural_order(whole):
    assert wen2018.find_runs(whole, "1") == ("seg1", "seg2", "seg3", "seg10", "test1")
    assert wen2018.find_subjects(whole) == ("1",)
    assert cleaning.FIRST_VOLUMES == {245: 1, 246: 2}


def test_a_subject_can_be_kept_while_others_are_prepared_again(tmp_path):
    splits = {"train": ["seg1"], "test": []}
    run = tmp_path / "data" / "subject1" / "seg1.safetensors"
    run.parent.mkdir(parents=True)
    run.write_bytes(b"scans")
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"subjects": {"1": splits}}))
    preparation = Preparation(tmp_path / "data", OPTIONS)
    with pytest.raises(MindvizError, match="expected subject 2, found no such subject"):
        preparation.adopt_subject("2")
    preparation.adopt_subject("1")
    preparation.publish()
    assert run.read_bytes() == b"scans"
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["subjects"] == {"1": splits}
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
