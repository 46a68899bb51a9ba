"""The rows of the report on a short film and a tiny judge: what is counted, against what, and the tables."""

import re

import numpy as np
import pytest
import torch

from mindviz.evaluate.catalogue import REPORT_METHODS
from mindviz.evaluate.page import html, markdown
from mindviz.evaluate.planted import NO_TRUTH, Planted
from mindviz.evaluate.setup import clip_shots
from mindviz.metrics import psnr
from mindviz.metrics.rows import TestSet, identification_rows, pixel_rows, psnr_matrix
from mindviz.simulate.films import PAIRS_HELD_OUT, make_film
from mindviz.types import MindvizError
from training.demo.judge import ASPECTS, Judge, JudgeConfig
from training.studies.judged_rows import derived_rows, judged_rows, labelled


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Judge(JudgeConfig(width=8, patch=8))


@pytest.fixture(scope="module")
def film():
    return make_film("report", seed=4, seconds=60, test=True)


@pytest.fixture(scope="module")
def test_set(film, judge):
    clips = film.frames.reshape(30, 6, 64, 64, 3)
    shots, straddles = clip_shots([vars(s) for s in film.shots], 30, 6)
    unseen = np.array([(s.object, s.setting) in PAIRS_HELD_OUT for s in film.shots])[shots]
    return labelled(TestSet(clips, shots, straddles, unseen, {}), film.shots, judge)


@pytest.fixture(scope="module")
def short(test_set):
    """Five clips: SSIM is slow."""
    keep = np.arange(0, 20, 4)
    labels = {aspect: known[keep] for aspect, known in test_set.labels.items()}
    return TestSet(test_set.clips[keep], test_set.shots[keep], test_set.straddles[keep], test_set.unseen[keep], labels)


def row(rows, metric, method="decoded", subset="all"):
    (found,) = [r.score for r in rows if (r.score.metric, r.method, r.subset) == (metric, method, subset)]
    return found


def test_trial_follows_the_film(film, judge, test_set):
    for i in range(30):
        inside = [s for s in film.shots if s.start < i * 6 + 6 and s.stop > i * 6]
        assert test_set.straddles[i] == (len(inside) > 1)
        assert film.shots[test_set.shots[i]] in inside
    shown = film.shots[test_set.shots[0]]
    assert judge.config.objects[test_set.labels["object"][0]] == shown.object
    assert test_set.unseen[0] == ((shown.object, shown.setting) in PAIRS_HELD_OUT)
    subsets = test_set.subsets()
    whole = set(subsets["whole shots"])
    assert whole | set(subsets["straddling a cut"]) == set(range(30))
    assert set(subsets["whole shots, seen pairs"]) | set(subsets["whole shots, unseen pairs"]) == whole


def test_a_trial_of_one_shot_is_refused(film):
    none = np.zeros(1, bool)
    with pytest.raises(MindvizError, match="two shots"):
        TestSet(film.frames[None, :6], np.array([0]), none, none, {})


def test_clips_outside_all_shots_are_refused():
    shots = [{"start": 0, "stop": 12}, {"start": 12, "stop": 20}]
    index, straddles = clip_shots(shots, 3, 6)
    assert index.tolist() == [0, 0, 1] and straddles.tolist() == [False, False, False]
    assert clip_shots([{"start": 0, "stop": 3}, {"start": 3, "stop": 6}], 1, 6)[0].tolist() == [0]  # the earlier of two
    with pytest.raises(MindvizError, match="none in clip 4"):
        clip_shots(shots, 5, 6)


def test_judged_rows_count_what_the_judge_says(test_set, judge):
    decoded = test_set.clips[::-1].copy()
    rows = judged_rows("decoded", decoded, test_set, judge, permutations=50)
    said = judge.labels(decoded)
    for aspect in ASPECTS:
        for subset, keep in test_set.subsets().items():
            score = row(rows, aspect, subset=subset)
            assert score.value == pytest.approx(np.mean(said[aspect][keep] == test_set.labels[aspect][keep]))
            assert score.num_clips == len(keep) and 1 / 51 <= score.p <= 1
            assert score.chance["uniform"] == 1 / len(judge.config.classes(aspect))


def test_the_true_clips_follow_the_papers_rule_by_definition(test_set, judge):
    rows = judged_rows("true clips", test_set.clips, test_set, judge, permutations=10)
    score = row(rows, "object, 2-way top-1, paper's rule", "true clips")
    assert score.value == 1 and score.chance == {"random scores": 0.75}
    assert row(rows, "object, 10-way top-1, plain", "true clips").chance["random scores"] == pytest.approx(0.1)


def test_psnr_matrix_equals_psnr(test_set):
    some = test_set.clips[:5]
    matrix = psnr_matrix(some, test_set.clips[5:10])
    for shift in range(5):
        order = (np.arange(5) + shift) % 5
        assert matrix[np.arange(5), order] == pytest.approx(psnr(some, test_set.clips[5:10][order]), abs=1e-3)


def test_pixel_rows_against_baselines(short):
    noise = np.random.default_rng(0).integers(-20, 21, short.clips.shape)
    near = np.clip(short.clips + noise, 0, 255).astype(np.uint8)
    mean = np.rint(short.clips.mean(axis=0)).astype(np.uint8)
    flat = {"grey frame": np.full_like(near, 128), "mean training video": np.broadcast_to(mean, near.shape)}
    rows = pixel_rows({"decoded": near} | flat, short, list(flat), permutations=99, ssim_shuffles=4)
    for metric in ("SSIM (uniform window)", "SSIM (gaussian window)", "PSNR (dB)"):
        score = row(rows, metric)
        assert score.value > score.shuffled and score.p <= 0.5
        assert set(score.chance) == {"grey frame", "mean training video"}
        assert row(rows, metric, "grey frame").value == score.chance["grey frame"]
        gain = row(rows, f"{metric}, gain over mean training video")
        assert gain.value == pytest.approx(score.value - score.chance["mean training video"])
    assert row(rows, "PSNR (dB)").value == pytest.approx(psnr(near, short.clips).mean())


def test_without_training_films_only_grey_is_left(short):
    clips = {"decoded": np.roll(short.clips, 1, axis=0), "grey frame": np.full_like(short.clips, 128)}
    rows = pixel_rows(clips, short, ["grey frame", "mean training video"], permutations=9, ssim_shuffles=3)
    assert {r.method for r in rows} == {"decoded", "grey frame"}


def test_identification_rows(test_set):
    embedded = np.random.default_rng(1).normal(size=(30, 8))
    rows = identification_rows("test", embedded, embedded + 0.01, test_set, permutations=99)
    assert row(rows, "right clip of 30").value == 1
    assert row(rows, "right clip of 30").chance == {"random": pytest.approx(1 / 30)}
    assert row(rows, "similarity to the true clip").p == 0.01
    other = np.random.default_rng(2).normal(size=(30, 8))
    rows = identification_rows("test", other, embedded, test_set, permutations=99)
    assert row(rows, "right clip of 30").value < 0.3


def test_markdown_has_every_row_and_fact(test_set, judge):
    rows = judged_rows("decoded", test_set.clips, test_set, judge, permutations=10)
    text = markdown(
        "Title", {"data": "SIMULATED"}, REPORT_METHODS, {"true caption": "no CLIP"}, rows, Planted(missing=NO_TRUTH)
    )
    assert text.startswith("# Title\n") and "- data: SIMULATED" in text
    scores = text[text.index("## decoded: all") : text.index("## Published")]
    assert sum(line.startswith("| ") and "measured" not in line for line in scores.splitlines()) == len(rows)
    assert "## decoded: straddling a cut" in text and "left out: no CLIP" in text


def test_the_page_is_one_file_that_needs_nothing(test_set, judge):
    rows = judged_rows("decoded", test_set.clips, test_set, judge, permutations=10)
    rows += derived_rows(judge.labels(test_set.clips), {}, test_set, "read-out")
    page = html("A <title>", {"SIMULATED": "yes"}, REPORT_METHODS, {}, rows, Planted(missing=NO_TRUTH), ("a note",))
    assert page.startswith("<!doctype html>") and "A &lt;title&gt;" in page and "A <title>" not in page
    assert page.count("<svg") == 2 and "0.853" in page and "Simulated." in page
    links = re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)|url\(([^)]+)\)|@import", page)
    assert all(link.startswith("#") for pair in links for link in pair if link), "asks for something from elsewhere"
    assert "<script" not in page
    assert len(set(ids := re.findall(r' id="([^"]+)"', page))) == len(ids), "ids of two figures clash"
    assert page == html(
        "A <title>", {"SIMULATED": "yes"}, REPORT_METHODS, {}, rows, Planted(missing=NO_TRUTH), ("a note",)
    )


def test_derived_rows_are_ratios_of_accuracies(test_set, judge):
    shown, held = ({a: known.copy() for a, known in test_set.labels.items()} for _ in range(2))
    shown["object"][::2] = (shown["object"][::2] + 1) % 48  # half of them wrong
    held["object"][:6] = (held["object"][:6] + 1) % 48
    rows = derived_rows(shown, {"encoder": held}, test_set, "read-out")
    found = row(rows, "object: decoded over read-out of encoder tokens", "derived")
    assert found.value == pytest.approx(0.5 / 0.8) and found.low < found.value < found.high
    assert (
        found.chance == {"target": 0.8}
        and row(rows, "motion: decoded over read-out of encoder tokens", "derived").value == 1
    )
    subsets = test_set.subsets()
    right = shown["object"] == test_set.labels["object"]
    expected = right[subsets["whole shots, unseen pairs"]].mean() / right[subsets["whole shots, seen pairs"]].mean()
    assert row(rows, "object: unseen over seen pairs", "derived").value == pytest.approx(expected)
    nothing = {a: (known + 1) % 8 for a, known in test_set.labels.items()}
    assert derived_rows(nothing, {"encoder": nothing}, test_set, "read-out") == []  # 0 / 0 is no ratio
