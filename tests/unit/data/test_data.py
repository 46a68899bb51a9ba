"""Windows, cleaning, selection and the prepared dataset."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from mindviz import video
from mindviz.data import Dataset, WindowSpec, cleaning, select_reliable, selection
from mindviz.storage import save_arrays
from mindviz.types import MindvizError, VideoClip

V, T = 40, 240


# ---------------------------------------------------------------------- windows
def test_windows_follow_the_clip_by_the_lag_and_clamp_at_the_end():
    bold = np.arange(6, dtype=np.float32)[:, None]
    cut = WindowSpec(size=2, lag=2).cut(bold)
    assert cut[:, :, 0].tolist() == [[2, 3], [3, 4], [4, 5], [5, 5], [5, 5], [5, 5]]


@pytest.mark.parametrize(("index", "clamped"), [(0, False), (236, False), (237, True), (239, True)])
def test_only_windows_past_the_last_volume_are_clamped(index, clamped):
    assert WindowSpec().clamped(index, 240) is clamped


def test_a_window_without_scans_is_refused():
    with pytest.raises(MindvizError, match="size of at least 1"):
        WindowSpec(size=0)


# ---------------------------------------------------------------------- cleaning
@pytest.mark.parametrize(("volumes", "first", "stop"), [(245, 1, 241), (246, 2, 242)])
def test_240_volumes_of_the_film_are_kept(volumes, first, stop):
    assert cleaning.kept_volumes(volumes) == slice(first, stop)


def test_detrending_removes_a_quartic_exactly_and_agrees_with_polyfit():
    rng = np.random.default_rng(0)
    time = np.linspace(-1, 1, T)
    trend = np.polynomial.polynomial.polyval(time, rng.normal(size=(5, 3)) * 50).reshape(3, T)
    response = rng.normal(size=(3, T))
    fitted = np.stack([row - np.polyval(np.polyfit(time, row, 4), time) for row in response])
    assert np.allclose(cleaning.detrend(10_000 + trend + response), fitted, atol=2e-3)


def test_cleaned_rows_are_z_scores_and_constant_rows_become_zero():
    bold = np.random.default_rng(1).normal(size=(3, T)).astype(np.float32) * 7 + 9000
    bold[1] = 5
    cleaned = cleaning.clean(bold)
    assert np.allclose(cleaned[[0, 2]].std(1), 1, atol=1e-4) and np.allclose(cleaned.mean(1), 0, atol=1e-4)
    assert not cleaned[1].any()
    assert cleaning.constant_rows(bold).tolist() == [False, True, False]


# ---------------------------------------------------------------------- selection
def test_fisher_z_is_the_arctanh_of_pearsons_correlation():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 5, T))
    b += a
    expected = [np.arctanh(stats.pearsonr(x, y)[0]) for x, y in zip(a, b, strict=True)]
    assert np.allclose(selection.fisher_z(cleaning.zscore(a), cleaning.zscore(b)), expected, atol=1e-5)


def test_the_top_half_of_the_significant_vertices_is_selected():
    rng = np.random.default_rng(3)
    fisher = rng.normal(0, 0.06, size=(18, 500))
    fisher[:, :20] += 0.3
    fisher[:, 20:40] += 0.8
    chosen = select_reliable(fisher)
    oracle = stats.ttest_1samp(fisher, 0, alternative="greater")
    assert np.array_equal(chosen.significant, oracle.pvalue * 500 < 0.01)
    assert np.allclose(chosen.t, oracle.statistic, rtol=1e-4)
    assert chosen.significant[:40].all() and not chosen.significant[40:].any()
    assert len(chosen.vertices) == 20 and (np.diff(chosen.vertices) > 0).all()
    assert chosen.t[chosen.vertices].min() >= np.delete(chosen.t[:40], chosen.vertices).max()


def test_only_vertices_that_were_read_count_as_tests():
    rng = np.random.default_rng(3)
    fisher, read = rng.normal(0, 0.06, size=(18, 60)), np.sort(rng.permutation(500)[:60])
    fisher[:, :10] += 0.3
    alone = select_reliable(fisher)
    found = alone.among(read, 500)
    assert set(found.vertices) == set(read[alone.vertices]) and set(np.flatnonzero(found.significant)) == set(read[:10])
    assert np.array_equal(found.t[read], alone.t) and not np.delete(found.t, read).any()


def test_noise_alone_is_refused_with_a_message():
    noise = np.random.default_rng(4).normal(0, 0.06, size=(18, 500))
    needed = stats.t.isf(0.01 / 500, 17)
    with pytest.raises(MindvizError, match=rf"no vertex is reliable.*18 training segments, a t above {needed:.4g}"):
        select_reliable(noise)
    with pytest.raises(MindvizError, match="the correlations of all segments are equal: is a file duplicated"):
        select_reliable(np.repeat(noise[:1], 2, axis=0))


def test_one_segment_is_too_few():
    with pytest.raises(MindvizError, match="at least 2 training segments"):
        select_reliable(np.ones((1, 5)))


# ---------------------------------------------------------------------- the prepared dataset
def _bold(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(20, V)).astype(np.float16)


@pytest.fixture
def folder(tmp_path):
    """A dataset of one subject: 20 volumes of 40 vertices, a film of 120 frames with captions."""
    root = tmp_path / "dataset"
    vertices = np.arange(100, 100 + V, dtype=np.int32)
    for seed, run in enumerate(("seg1", "test1")):
        save_arrays(root / "subject1" / f"{run}.safetensors", {"bold": _bold(seed), "vertices": vertices})
    frames = np.random.default_rng(5).integers(0, 255, size=(120, 16, 16, 3), dtype=np.uint8)
    video.write_mp4(root / "stimuli" / "test1.mp4", VideoClip(frames, 3.0), lossless=True)
    shot = {"start": 0, "stop": 120, "object": "fox", "category": "land animal", "setting": "sea", "motion": "left"}
    captions = [f"frame {i}" for i in range(120)]
    (root / "stimuli" / "test1.json").write_text(json.dumps({"captions": captions, "shots": [shot]}))
    info = {
        "format": 1,
        "name": "tiny",
        "simulated": True,
        "mesh": "fsLR-32k",
        "tr": 2.0,
        "window": {"size": 2, "lag": 2},
        "fps": 3,
        "subjects": {"1": {"train": ["seg1"], "test": ["test1"]}},
        "stimuli": {"test1": {"frames": 120}},
    }
    (root / "dataset.json").write_text(json.dumps(info))
    return root, frames


def _edit(root, **changes):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_segment_holds_the_right_scans_frames_and_captions(folder):
    root, frames = folder
    dataset = Dataset.open(root)
    segment = dataset.segment("1", "test1", 3)
    assert np.array_equal(segment.window.bold, _bold(1)[5:7].astype(np.float32))
    assert np.array_equal(segment.clip.frames, frames[18:24]) and segment.clip.fps == 3
    assert segment.captions == tuple(f"frame {i}" for i in range(18, 24))
    assert dataset.shots("test1")[0]["object"] == "fox"
    assert (dataset.subjects, dataset.runs("1", "train"), dataset.simulated) == (("1",), ("seg1",), True)


def test_windows_cut_together_equal_those_cut_singly(folder):
    dataset = Dataset.open(folder[0])
    every = dataset.windows("1", "seg1")
    assert every.shape == (20, 2, V) and every.dtype == np.float32
    for index in (0, 7, 19):
        assert np.array_equal(every[index], dataset.window("1", "seg1", index).bold)
    assert dataset.window("1", "seg1", 19).clamped and not dataset.window("1", "seg1", 0).clamped
    assert np.array_equal(dataset.window("1", "seg1", 5).run_std, dataset.run("1", "seg1").bold.std(axis=0))


def test_a_run_has_its_vertices_and_is_read_only(folder):
    run = Dataset.open(folder[0]).run("1", "seg1")
    assert run.vertices.dtype == np.int64 and run.vertices[0] == 100 and run.split == "train"
    with pytest.raises(ValueError, match="read-only"):
        run.bold[0, 0] = 1


def test_the_fingerprint_changes_with_the_scans(folder):
    before = Dataset.open(folder[0]).fingerprint
    save_arrays(
        folder[0] / "subject1" / "seg1.safetensors", {"bold": _bold(9), "vertices": np.arange(V, dtype=np.int32)}
    )
    assert len(before) == 64 and Dataset.open(folder[0]).fingerprint != before


def test_single_repeats_are_found_if_kept(folder):
    root = folder[0]
    assert Dataset.open(root).repeats("1", "test1") == ()
    arrays = {"bold": _bold(7), "vertices": np.arange(V, dtype=np.int32)}
    save_arrays(root / "subject1" / "repeats" / "test1_03.safetensors", arrays)
    dataset = Dataset.open(root)
    assert dataset.repeats("1", "test1") == (3,)
    assert np.array_equal(dataset.run("1", "test1", repeat=3).bold, _bold(7).astype(np.float32))


def test_the_planted_truth_is_read_and_real_data_have_none(folder):
    root = folder[0]
    assert Dataset.open(root).truth("1") is None
    driver, ceiling = np.zeros(59412, np.uint8), np.full(59412, 0.5, np.float16)
    save_arrays(root / "subject1" / "truth.safetensors", {"driver": driver, "noise_ceiling": ceiling})
    (root / "subject1" / "truth.json").write_text('{"drivers": ["nothing", "setting"]}')
    truth = Dataset.open(root).truth("1")
    np.testing.assert_array_equal(truth.answers, driver == 1)
    decoys = dataclasses.replace(truth, names=("nothing", "sound track (decoy)"))
    assert not decoys.answers.any() and decoys.answers.shape == driver.shape
    assert truth.names == ("nothing", "setting") and truth.noise_ceiling.dtype == np.float32


BOLD, VERTICES = _bold(0), np.arange(V, dtype=np.int32)
NAN, FLAT = BOLD.copy(), BOLD.copy()
NAN[3, 4], FLAT[:, 5] = np.nan, 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"bold": NAN, "vertices": VERTICES}, r"finite values, found NaN or infinity in 1 of 40 columns"),
        ({"bold": FLAT, "vertices": VERTICES}, r"every column to vary, found 1 constant of 40"),
        ({"bold": BOLD, "vertices": VERTICES[:-1]}, r"found \(20, 40\) and \(39,\)"),
        ({"bold": BOLD, "vertices": VERTICES + 59400}, r"from 0 to 59411, found .* from 59400 to 59439"),
        ({"bold": BOLD, "vertices": VERTICES // 2}, r"found 20 distinct ones of 40"),
        ({"bold": BOLD}, r"expected bold and vertices, found bold"),
    ],
    ids=["nan", "constant", "shapes", "mesh", "twice", "no vertices"],
)
def test_a_bad_run_is_refused_with_a_clear_message(folder, arrays, message):
    path = folder[0] / "subject1" / "seg1.safetensors"
    save_arrays(path, arrays)
    with pytest.raises(MindvizError, match=message) as error:
        Dataset.open(folder[0]).run("1", "seg1")
    assert str(path) in str(error.value)


def test_a_truncated_run_is_refused(folder):
    path = folder[0] / "subject1" / "seg1.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(MindvizError, match=r"seg1.safetensors: expected a whole safetensors file"):
        Dataset.open(folder[0]).run("1", "seg1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"mesh": "fsLR-164k"}, "expected a mesh of .*, found 'fsLR-164k'"),
        ({"window": {"size": 2}}, "whole numbers size and lag"),
        ({"subjects": {"1": {"train": ["seg1"]}}}, "lists of train and test runs for subject 1"),
        ({"subjects": {"1": {"train": ["seg7"], "test": []}}}, "run seg7 of subject 1, found nothing"),
        ({"stimuli": {"test2": {}}}, "the film of test2, found nothing"),
        ({"tr": 0}, "positive tr"),
        ({"tr": 1.5}, "expected a whole number of frames in a scan, found 4.5"),
    ],
)
def test_a_bad_dataset_json_is_refused_with_a_clear_message(folder, changes, message):
    _edit(folder[0], **changes)
    with pytest.raises(MindvizError, match=message):
        Dataset.open(folder[0])


def test_a_film_of_another_length_is_refused(folder):
    _edit(folder[0], stimuli={"test1": {"frames": 1440}})
    with pytest.raises(MindvizError, match="expected 1440 frames, found 120"):
        Dataset.open(folder[0]).clip("test1", 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.run("9", "seg1"), "expected a subject of 1, found '9'"),
        (lambda d: d.run("1", "seg9"), r"expected a run of subject 1 \(seg1, test1\), found 'seg9'"),
        (lambda d: d.window("1", "seg1", 20), "a scan from 0 to 19, found 20"),
        (lambda d: d.clip("test1", -1), "a clip from 0 to 19, found -1"),
        (lambda d: d.clip("seg1", 0), "expected a film of test1, found 'seg1'"),
        (lambda d: d.runs("1", "validation"), "a split is one of train, test"),
    ],
)
def test_a_missing_subject_run_or_scan_is_refused_with_a_clear_message(folder, call, message):
    with pytest.raises(MindvizError, match=message):
        call(Dataset.open(folder[0]))


def test_a_missing_dataset_is_refused_with_a_clear_message(tmp_path):
    with pytest.raises(MindvizError, match="expected a dataset folder, found nothing"):
        Dataset.open(tmp_path / "nowhere")
