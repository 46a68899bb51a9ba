"""The judge at a tiny size: labels, shapes, what roughening keeps, learning, saving, and refusals."""

import json

import numpy as np
import pytest
import torch

from mindviz.simulate.films import Shot, make_film
from mindviz.types import MindvizError
from training.demo.judge import (
    ASPECTS,
    JUDGE_SEED,
    Judge,
    JudgeConfig,
    accuracies,
    accuracy,
    dominant_shot,
    draw_clips,
    film_clips,
    load_judge,
    roughen,
    shot_labels,
    to_clips,
    to_pixels,
    train_judge,
)
from training.engine.loop import LoopConfig

TINY = JudgeConfig(width=8, patch=8)


def shot(start, stop, **kinds):
    known = {"object": "bus", "category": "vehicle", "setting": TINY.settings[0], "motion": "left"}
    return Shot(start, stop, caption="", **(known | kinds))


@pytest.fixture(scope="module")
def film():
    return make_film("judge-test", seed=3, seconds=30, test=True)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(0, 6, (0, False)), (6, 12, (0, True)), (7, 13, (0, True)), (8, 14, (1, True)), (10, 16, (1, False))],
)
def test_dominant_shot(start, stop, expected):
    assert dominant_shot([shot(0, 10), shot(10, 16)], start, stop) == expected


def test_dominant_shot_refuses_frames_outside():
    with pytest.raises(MindvizError, match="no shot covers frames 20 to 26"):
        dominant_shot([shot(0, 10)], 20, 26)


def test_labels_are_those_of_the_film(film):
    data = film_clips(film, TINY, stride=5)
    for i, start in enumerate(data.starts):
        index, straddles = dominant_shot(film.shots, int(start), int(start) + 6)
        found = {a: TINY.classes(a)[data.labels[a][i]] for a in ASPECTS}
        assert found == {a: getattr(film.shots[index], a) for a in ASPECTS}
        assert data.straddles[i] == straddles
        assert (data.clips(np.array([i]))[0] == film.frames[start : start + 6]).all()
    assert data.straddles.any() and not data.straddles.all()


def test_several_films_keep_their_clips_apart():
    both = draw_clips(["a", "b"], 5, 10, TINY, stride=6)
    alone = [film_clips(make_film(n, 5, 10, test=t), TINY, 6) for n, t in (("a", False), ("b", True))]
    expected = np.concatenate([p.clips(np.arange(len(p))) for p in alone])
    assert (both.clips(np.arange(len(both))) == expected).all()


def test_an_unknown_label_is_named():
    with pytest.raises(MindvizError, match="no object 'submarine'"):
        shot_labels(shot(0, 6, object="submarine"), TINY)


def test_pixels_round_trip(film):
    clips = film.frames[:12].reshape(2, 6, 64, 64, 3)
    pixels = to_pixels(clips)
    assert pixels.shape == (2, 6, 3, 64, 64) and pixels.min() >= 0 and pixels.max() <= 1
    assert (to_clips(pixels) == clips).all()


def test_roughening_repeats_with_its_seed_and_keeps_the_picture(film):
    pixels = to_pixels(film_clips(film, TINY, stride=6).clips(np.arange(12)))
    rough = [roughen(pixels, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(rough[0], rough[1]) and not torch.equal(rough[0], rough[2])
    assert rough[0].shape == pixels.shape and rough[0].min() >= 0 and rough[0].max() <= 1
    changed = (rough[0] != pixels).flatten(1).any(1)
    assert changed.any() and not changed.all()
    # Each rough clip is still nearest to its own original.
    distance = torch.cdist(rough[0].flatten(1), pixels.flatten(1))
    same_shot = torch.cdist(pixels.flatten(1), pixels.flatten(1)) < 12
    assert same_shot[torch.arange(12), distance.argmin(1)].all()


def test_probabilities_do_not_depend_on_the_batch(film):
    torch.manual_seed(0)
    judge = Judge(TINY)
    clips = film_clips(film, TINY, stride=12).clips(np.arange(5))
    whole, parts = judge.probabilities(clips), judge.probabilities(clips, batch_size=2)
    for aspect in ASPECTS:
        assert whole[aspect].shape == (5, len(TINY.classes(aspect)))
        assert whole[aspect].sum(axis=1) == pytest.approx(np.ones(5))
        assert whole[aspect] == pytest.approx(parts[aspect], abs=1e-6)


def test_embeddings_are_of_the_clip(film):
    torch.manual_seed(0)
    judge = Judge(TINY)
    clips = film_clips(film, TINY, stride=12).clips(np.arange(3))
    embedded = judge.embeddings(clips)
    assert embedded.shape == (3, 12 * TINY.width)
    assert embedded[1:2] == pytest.approx(judge.embeddings(clips[1:2]), abs=1e-6)


def test_only_motion_sees_the_order_of_frames(film):
    torch.manual_seed(0)
    judge = Judge(TINY)
    clips = film_clips(film, TINY, stride=12).clips(np.arange(3))
    forward, backward = judge.probabilities(clips), judge.probabilities(clips[:, ::-1])
    assert forward["object"] == pytest.approx(backward["object"], abs=1e-5)
    assert np.abs(forward["motion"] - backward["motion"]).max() > 1e-5


def test_refuses_clips_of_another_shape():
    with pytest.raises(MindvizError, match=r"\(N, 6, 64, 64, 3\)"):
        Judge(TINY).probabilities(np.zeros((1, 4, 64, 64, 3), np.uint8))
    with pytest.raises(MindvizError, match="uint8"):
        Judge(TINY).probabilities(np.zeros((1, 6, 64, 64, 3), np.float32))


@pytest.mark.slow
def test_training_learns_saves_repeats_and_is_loaded(tmp_path):
    loop = LoopConfig(steps=30, batch_size=8, lr=5e-3, warmup=5)
    first = train_judge(tmp_path / "a", 1, loop, TINY, seconds=20)
    assert train_judge(tmp_path / "b", 1, loop, TINY, seconds=20) == first
    judge = load_judge(tmp_path / "a")
    data = draw_clips(["judge0"], JUDGE_SEED, 20, TINY, stride=2)
    keep = np.flatnonzero(~data.straddles)
    learnt = accuracy(judge, data.clips(keep), {a: t[keep] for a, t in data.labels.items()})
    assert learnt["category"] > 0.6 and learnt["setting"] > 0.6
    unseen = draw_clips(["judge-check0", "judge-check1"], JUDGE_SEED, 20, TINY, stride=6)
    assert accuracies(judge, unseen) == first
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["accuracy"] == first and report["films"]["seed"] == JUDGE_SEED


def test_a_missing_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(MindvizError, match=r"config\.json"):
        load_judge(tmp_path)
    (tmp_path / "config.json").write_text('{"width": 8}')
    with pytest.raises(MindvizError, match="JudgeConfig"):
        load_judge(tmp_path)
