"""The shipped demo: what the README claims of it, checked on a sample of the test film."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.metrics.cortex import truth_score
from training.demo.judge import dominant_shot, load_judge
from training.studies.report import film_shots

DEMO = Path(__file__).parents[2] / "assets" / "demo"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.open(DEMO)


@pytest.fixture(scope="module")
def decoder(dataset: Dataset) -> Decoder:
    decoder = Decoder.load(DEMO / "checkpoint")
    decoder.check(dataset)
    return decoder


def test_the_demo_is_small_and_says_that_it_is_simulated(dataset: Dataset, decoder: Decoder) -> None:
    files = [p for p in DEMO.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 80 * 2**20
    assert not [p for p in files if p.suffix in (".bin", ".pth", ".pkl", ".npy")]
    assert dataset.simulated and decoder.simulated
    assert dataset.subjects == decoder.subjects == ("1", "2", "3")


def test_there_are_240_windows_and_clips_of_each_subject(dataset: Dataset) -> None:
    for subject in dataset.subjects:
        windows = dataset.windows(subject, "test1")
        assert len(windows) == 240 and np.isfinite(windows).all()
    assert dataset.clip("test1", 239).frames.shape == (6, 64, 64, 3)
    assert len(dataset.captions("test1", 239)) == 6 and dataset.shots("test1")


def test_the_planted_truth_leaves_decoys_and_silent_cortex(dataset: Dataset) -> None:
    for subject in dataset.subjects:
        truth = dataset.truth(subject)
        assert truth is not None and truth.noise_ceiling.shape == (59412,)
        assert truth.noise_ceiling.min() >= 0 and truth.noise_ceiling.max() <= 1
        silent = truth.noise_ceiling[truth.driver == 0]
        assert len(silent) and not silent.any()


def test_activation_patterns_find_what_was_planted(dataset: Dataset, decoder: Decoder) -> None:
    """Voxels that answer to what is seen lie above decoys; the README reports 0.98 for each subject."""
    for subject in dataset.subjects:
        truth, data = dataset.truth(subject), decoder.data(subject)
        assert truth is not None and data is not None and data.explained is not None
        driver = truth.driver[data.vertices]
        answers = np.array(["decoy" not in name and name != "nothing" for name in truth.names])[driver]
        ceiling = truth.noise_ceiling[data.vertices]
        score = truth_score(data.explained.mean(axis=0), answers, ceiling)
        assert score.auroc > 0.95 and score.rho_within > 0.15
        shuffled = np.random.default_rng(0).permutation(data.explained.mean(axis=0))
        assert abs(truth_score(shuffled, answers, ceiling).auroc - 0.5) < 0.05


@pytest.mark.slow
def test_setting_category_object_and_motion_are_decoded_far_above_chance(dataset: Dataset, decoder: Decoder) -> None:
    """Subject 1, 48 windows that show one shot each; the judge never met the decoder's films.

    The bounds lie well below what the README reports of such windows.
    """
    judge, shots = load_judge(DEMO / "judge"), film_shots(dataset, "test1")
    whole = [k for k in range(235) if not dominant_shot(shots, 6 * k, 6 * k + 6)[1]]
    chosen = whole[:: len(whole) // 48][:48]
    seen = [shots[dominant_shot(shots, 6 * k, 6 * k + 6)[0]] for k in chosen]
    settings = [replace(decoder.default_settings, seed=k) for k in chosen]  # as training.studies.report does
    clips = np.stack(
        [
            decoder.decode(dataset.window("1", "test1", k), s, attention=False).clip.frames
            for k, s in zip(chosen, settings, strict=True)
        ]
    )
    answers = judge.labels(clips)
    for aspect, times in (("setting", 6), ("category", 4.5), ("object", 24), ("motion", 3.5)):
        least = times / len(judge.config.classes(aspect))
        truth = np.array([judge.config.classes(aspect).index(getattr(shot, aspect)) for shot in seen])
        right = float((answers[aspect] == truth).mean())
        wrong_order = [float((np.roll(answers[aspect], shift) == truth).mean()) for shift in range(4, 45)]
        assert right >= least, f"{aspect}: {right:.2f} are right"
        assert np.mean(wrong_order) < right / 1.5, f"{aspect}: shuffled clips reach {np.mean(wrong_order):.2f}"


@pytest.mark.slow
def test_a_seed_is_a_video(dataset: Dataset, decoder: Decoder) -> None:
    window = dataset.window("2", "test1", 30)
    settings = replace(decoder.default_settings, num_inference_steps=3, seed=5)
    first, again = decoder.decode(window, settings), decoder.decode(window, settings)
    other = decoder.decode(window, replace(settings, seed=6))
    assert np.array_equal(first.clip.frames, again.clip.frames)
    assert not np.array_equal(first.clip.frames, other.clip.frames)
