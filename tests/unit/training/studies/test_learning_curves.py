"""Learning curves through the demo's own parts at tiny sizes, and the figures of attention."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from support.sketched import ENCODER, make_encoder, make_latents, make_scans
from support.tiny_demo import FOUNDATION, STAGES, write_demo

from training.demo.pipeline import Demo
from training.demo.world import WorldRecipe
from training.studies import attention, learning_curves
from training.studies.learning_curves import CURVE_BASELINES, OWN, POPULATION, Curves, Lesson, curves, curves_markdown


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Curves:
    home = write_demo(tmp_path_factory.mktemp("demo"), tiny_dataset)
    demo = Demo(home, FOUNDATION, STAGES, WorldRecipe(train=("seg1",)))
    return Curves(demo, tmp_path_factory.mktemp("curves"), runs=(1,))


def test_every_method_is_scored_for_every_question_and_set_against_the_attention(study: Curves) -> None:
    content = curves(study)
    assert content == json.loads((study.out / "learning_curves.json").read_text()) and content["simulated"]
    methods = [OWN, POPULATION, *CURVE_BASELINES]
    assert [(r["method"], r["question"]) for r in content["rows"]] == [
        (m, q) for q in ("object", "setting", "motion") for m in methods
    ]
    for row in content["rows"]:
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["mean"] == pytest.approx(np.mean(list(row["subjects"].values())))
        if row["method"] in (OWN, "nearest neighbour"):
            assert row["mean"] > 0.5, "the shots of these scans are easy to find"
    by = {(r["method"], r["question"]): r["mean"] for r in content["rows"]}
    assert len(content["differences"]) == 2 * 3 * 3
    for d in content["differences"]:
        assert d["value"] == pytest.approx(by[d["method"], d["question"]] - by[d["less"], d["question"]])
    text = (study.out / "learning_curves.md").read_text()
    assert text == curves_markdown(content) and text.count("| banded ridge |") == 3 and "simulated" in text


def test_the_population_is_everybody_else(study: Curves) -> None:
    curves(study)
    kept = {p.name for p in (study.out / "attention").iterdir()}
    assert kept == {"1_1", "2_1", "without_1", "without_2"}
    assert set(study.others) == {"1", "2"}


def test_the_nearest_neighbour_is_the_window_that_correlates_best() -> None:
    scans, latents = make_scans(), make_latents()
    _, fit = make_encoder(scans, latents)
    windows = scans.windows.numpy()
    lesson = Lesson(windows, 3 * windows[[5, 11]] + 7, fit.targets.numpy(), ENCODER, fit)
    assert np.array_equal(learning_curves.nearest(lesson), fit.targets.numpy()[[5, 11]])


def test_banded_ridge_finds_the_area_that_tells() -> None:
    """One area of five tells; a ridge with one penalty for all is worse than one with a penalty for each."""
    rng = np.random.default_rng(0)
    _, fit = make_encoder(make_scans(), make_latents())
    windows, tests = (rng.standard_normal((n, 2, 40)).astype(np.float32) for n in (60, 200))
    map_to = rng.standard_normal((4, 6)).astype(np.float32)
    noise = 0.5 * rng.standard_normal((60, 6)).astype(np.float32)
    lesson = Lesson(windows, tests, windows[:, 0, :4] @ map_to + noise, ENCODER, fit)
    truth = tests[:, 0, :4] @ map_to
    error = ((learning_curves.banded_ridge(lesson) - truth) ** 2).mean()
    x, xt = windows.reshape(60, -1), tests.reshape(200, -1)
    plain = min(
        ((Ridge(alpha=a).fit(x, lesson.targets).predict(xt) - truth) ** 2).mean() for a in (1.0, 10.0, 100.0, 1000.0)
    )
    assert error < 0.7 * plain


def test_lesions_and_single_areas_are_those_of_their_definitions() -> None:
    scans = make_scans()
    encoder, fit = make_encoder(scans, make_latents())
    asked = attention.Asked(encoder.eval(), scans.windows, np.zeros((24, 6)), np.arange(24))
    baseline = torch.randn(2, 40, generator=torch.Generator().manual_seed(3))
    moved = attention.area_lesions(asked, baseline)
    with torch.inference_mode():
        whole = encoder(scans.windows)
        cut = scans.windows.clone()
        places = np.flatnonzero(np.array(ENCODER.areas) == 2)
        cut[:, :, places] = baseline[:, places]
        expected = (encoder(cut) - whole).square().sum() / (whole - whole.mean(0)).square().sum()
    assert moved.shape == (5,) and moved[2] == pytest.approx(float(expected), rel=1e-4)
    alone = attention.alone_right(encoder, fit, slice(0, 4))
    answers = encoder.readout.alone(fit.said)[:, 3, :4].argmax(1)
    assert alone[3] == pytest.approx(float((answers == fit.targets[:, :4].argmax(1)).float().mean()))
    assert [(q, name) for q, name, _ in asked.named] == [(0, "what")]
