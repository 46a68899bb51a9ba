"""Codes of areas in closed form, which areas are asked, and what answers stand for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny
from support.sketched import AREAS, ENCODER, generator, make_encoder, make_fit, make_latents, make_scans
from support.tasks import loss_of

from mindviz.brain import parcellations
from mindviz.diffusion import VideoUNet
from mindviz.encoder import FMRIEncoder
from mindviz.extensions.questions import QuestionConfig
from mindviz.simulate.films import caption_phrases
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.asked import DemoQuestions, caption_answers
from training.demo.readout import (
    FOLDS,
    AttendTask,
    CrossFitted,
    fit_areas,
    fit_recall,
    in_training,
    principal_questions,
    unseen_answers,
    with_areas,
)
from training.demo.recipe import DEMO_PRETRAINED
from training.engine.loop import LoopConfig, train
from training.stages.cotrain import CotrainTask


@pytest.fixture(scope="module")
def latents() -> LatentCorpus:
    return make_latents()


@pytest.fixture(scope="module")
def scans() -> TrainingScans:
    return make_scans()


# ---------------------------------------------------------------------- areas
def test_areas_are_those_of_a_parcellation_with_enough_voxels() -> None:
    parcels = parcellations.load("hcp-mmp", "fsLR-32k")
    v1, mt, few = (np.flatnonzero(parcels.labels == parcels.names.index(n)) for n in ("V1", "MT", "FFC"))
    vertices = np.sort(np.concatenate([v1[::9], mt[:7], few[:3]]))
    config = with_areas(QuestionConfig(num_voxels=1), vertices, parcels)
    assert config.area_names == ("V1", "MT") and config.num_voxels == len(vertices)
    assert config.patch_size == len(v1[::9]) and config.areas.count(1) == 7 and config.areas.count(-1) == 3
    with pytest.raises(MindvizError, match="expected two areas with 4 of 7 voxels, found 1"):
        with_areas(QuestionConfig(num_voxels=1), mt[:7], parcels)


# ---------------------------------------------------------------------- codes
def test_codes_are_ridge_regressions_of_areas_and_unseen_windows_are_unseen() -> None:
    """Against scikit-learn, area by area and scan by scan; what is said has unit variance for each question."""
    from sklearn.linear_model import Ridge

    windows = torch.randn(60, 2, 40, generator=generator())
    targets = torch.randn(60, 6, generator=generator(1)) + windows[:, 0, :6]
    fit = fit_areas(windows, targets, ENCODER.patching, ENCODER.sizes, penalty=3.0)
    assert torch.equal(fit.fold, torch.arange(60) // 10) and torch.equal(fit.targets, targets)
    y = targets.numpy()
    for area, scan in ((0, 0), (2, 1), (4, 0)):
        x = windows[:, scan, np.flatnonzero(np.array(AREAS) == area)].numpy()
        unseen = np.empty_like(y)
        for k in range(FOLDS):
            own = fit.fold.numpy() == k
            model = Ridge(alpha=3.0, fit_intercept=False).fit(x[~own], y[~own] - y[~own].mean(0))
            unseen[own] = model.predict(x[own])
        for part in (slice(0, 4), slice(4, 6)):
            scaled = unseen[:, part] / unseen[:, part].std(ddof=1)
            np.testing.assert_allclose(fit.said[:, scan, area, part].numpy(), scaled, atol=1e-4)
    torch.testing.assert_close(fit.said[:, 1, 3, :4].std(), torch.tensor(1.0))
    assert not fit.codes[:, 38:].any(), "voxels of no area have no codes"
    with pytest.raises(MindvizError, match="codes need 12 windows for 6 folds, found 11"):
        fit_areas(windows[:11], targets[:11], ENCODER.patching, ENCODER.sizes)
    with pytest.raises(MindvizError, match="a target for each window, found 60 and 3"):
        fit_areas(windows, targets[:3], ENCODER.patching, ENCODER.sizes)


def test_training_sees_what_codes_say_that_never_saw_the_window(scans: TrainingScans, latents: LatentCorpus) -> None:
    encoder, fit = make_encoder(scans, latents)
    trained = CrossFitted(encoder, fit).eval()
    rows = torch.tensor([23, 0, 9, 14, 1])  # of several folds, in no order
    with torch.inference_mode():
        torch.testing.assert_close(trained.said(scans.windows[rows], rows), fit.said[rows], atol=1e-4, rtol=1e-4)
        expected = encoder.readout.prior(unseen_answers(encoder, fit)[rows])
        torch.testing.assert_close(trained(scans.windows[rows], rows), expected, atol=1e-4, rtol=1e-4)
        assert (expected - encoder(scans.windows[rows])).abs().max() > 1e-2
    with pytest.raises(MindvizError, match="where there are questions; found some"):
        in_training(FMRIEncoder(ENCODER.without_questions()), fit)
    with pytest.raises(MindvizError, match="where there are questions; found none"):
        in_training(encoder, None)


def test_co_training_moves_the_attention_and_nothing_that_was_fitted(
    scans: TrainingScans, latents: LatentCorpus
) -> None:
    encoder, fit = make_encoder(scans, latents)
    task = CotrainTask(
        {"1": in_training(encoder, fit)}, VideoUNet(tiny.UNET), {"1": scans}, latents, DEMO_PRETRAINED.scheduler,
        token_weight=1.0,
    )  # fmt: skip
    loss_of(task, torch.arange(4), generator())[0].backward()
    assert encoder.readout.codes.grad is None and encoder.readout.prior.recall.weight.grad is None
    assert encoder.readout.areas.grad.abs().max() > 0


# ---------------------------------------------------------------------- attention
def test_attention_finds_the_area_that_knows(tmp_path: Path) -> None:
    """Of five areas one tells what was seen, another tells the layout, in the second scan alone."""
    g = generator()
    windows = torch.randn(600, 2, 40, generator=g)
    what = torch.randint(4, (600,), generator=g)
    windows[:, 1, 10:14] += 2 * torch.eye(4)[what]  # MT
    layout = torch.randn(600, 2, generator=g)
    windows[:, 1, 18:20] += 2 * layout  # FFC
    targets = torch.cat([torch.eye(4)[what], layout], 1)
    fit = fit_areas(windows, targets, ENCODER.patching, ENCODER.sizes, penalty=10.0)
    torch.manual_seed(0)
    recall = fit_recall(targets, torch.randn(600, 5, 8))
    task = AttendTask([(ENCODER, fit)], recall)
    loop = LoopConfig(steps=150, batch_size=64, lr=0.05, weight_decay=0.0, warmup=5, save_every=150)
    shared = train(task, loop, tmp_path / "attend")
    encoder = shared.encoder(ENCODER, fit).eval()
    weights = encoder.readout.weights()
    names = [ENCODER.area_names[int(i) % 5] for i in weights.flatten(1).argmax(1)]
    assert names == ["MT", "FFC"] and (weights.sum(2)[:, 1] > 0.6).all()
    own = encoder.readout.own_gain
    assert own[0, 2] == own[0].max() > 1 > own[0, 1] and (own[1] == 1).all(), "MT alone is to be trusted"
    asked = encoder.answers(windows)
    uniform = fit.said.mean((1, 2))[:, :4]
    right = [(x[:, :4].argmax(1) == what).float().mean().item() for x in (asked, uniform)]
    assert right[0] > 0.7 and right[0] > right[1] + 0.1


def test_people_share_questions_by_the_names_of_their_areas(tmp_path: Path) -> None:
    """A new person has other areas, in another order: each is asked as the population's; another as the mean."""
    torch.manual_seed(0)
    windows, targets = torch.randn(24, 2, 40), torch.randn(24, 6)
    fit = fit_areas(windows, targets, ENCODER.patching, ENCODER.sizes)
    task = AttendTask([(ENCODER, fit)], fit_recall(targets, torch.randn(24, 5, 8)))
    shared = task.module
    torch.nn.init.normal_(shared.areas)
    new = replace(ENCODER, area_names=("MT", "V1", "A1", "FFC", "V2"))
    encoder = shared.encoder(new, fit)
    places = [ENCODER.area_names.index(n) for n in ("MT", "V1", "FFC", "V2")]
    by_name = dict(zip(shared.config.area_names, shared.areas, strict=True))
    assert len(places) == 4 and torch.equal(encoder.readout.areas[0], by_name["MT"])
    assert torch.equal(encoder.readout.areas[4], by_name["V2"])
    torch.testing.assert_close(encoder.readout.areas[2], shared.areas.mean(0))


# ---------------------------------------------------------------------- what answers stand for
def test_recall_brings_back_what_certain_answers_stand_for() -> None:
    torch.manual_seed(0)
    answers, tokens = torch.eye(4)[torch.arange(12) % 4], torch.randn(4, 3, 5)[torch.arange(12) % 4]
    weight, bias = fit_recall(answers, tokens)
    torch.testing.assert_close((answers @ weight.T + bias).view(12, 3, 5), tokens, atol=2e-3, rtol=1e-2)


def test_questions_of_any_captions_are_their_principal_directions() -> None:
    torch.manual_seed(0)
    tokens = (torch.randn(50, 12) @ torch.randn(12, 40)).view(50, 5, 8)
    asked, targets, recall = principal_questions(tokens, count=3, size=5)
    assert asked.sizes == (5, 5, 2) and asked.names[1] == "components 6 to 10" and asked.answers == ((), (), ())
    torch.testing.assert_close(targets.var(0, correction=0), torch.ones(12), atol=1e-3, rtol=1e-3)
    centred = tokens.flatten(1) - tokens.flatten(1).mean(0)
    torch.testing.assert_close(targets @ recall.T, centred, atol=1e-3, rtol=1e-3)
    assert asked.put_into(ENCODER).questions == asked.names


def test_captions_of_the_demo_answer_its_questions() -> None:
    objects, motions, settings = caption_phrases()
    caption = f"{objects[3]} {motions[2]} {settings[5]}"
    found = caption_answers([caption])
    two = [caption, f"{objects[0]} {motions[0]} {settings[0]}"]
    asked = DemoQuestions.of(two, torch.randn(2, 3, 8), torch.randn(80, 70))
    assert found.shape == (1, 64) and found.sum() == 3
    starts = np.cumsum((0, *asked.questions.sizes))
    hot = [int(found[0, a:b].argmax()) for a, b in itertools.pairwise(starts[:4])]
    assert hot == [3, 5, 2] and asked.questions.names == ("object", "setting", "motion", "layout")
    assert asked.recall[0].shape == (3 * 8 + 70, 128)
    with pytest.raises(MindvizError, match="expected one of 48 answers to the object"):
        caption_answers(["nothing at all"])


def test_all_captions_of_the_demo_are_told_apart() -> None:
    objects, motions, settings = caption_phrases()
    captions = [f"{o} {m} {s}" for o in objects for m in motions for s in settings]
    found = caption_answers(captions)
    assert len({tuple(row.nonzero().flatten().tolist()) for row in found}) == len(captions)


def test_a_fit_of_captions_and_layout_has_all_parts(scans: TrainingScans, latents: LatentCorpus) -> None:
    fit, (weight, bias) = make_fit(scans, latents)
    assert fit.said.shape == (24, 2, 5, 6) and fit.codes.shape == (2, 40, 6) and fit.fold_codes.shape == (6, 2, 40, 6)
    assert weight.shape == (40, 6) and bias.shape == (40,) and len(fit) == 24
