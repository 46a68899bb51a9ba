"""What subjects would have told of clips: as wrong as they were, of more clips than they saw."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import tiny
from support.sketched import SKETCH, generator, make_encoder, make_latents, make_scans
from support.tasks import loss_of

from mindviz.diffusion import VideoUNet, build_unet2d
from mindviz.extensions.sketch import Sketch
from mindviz.extensions.sketched_unet import SketchedUNet
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.conditions import DemoConditions
from training.demo.cotrain import CaptionedCotrainTask
from training.demo.readout import in_training, unseen_answers
from training.demo.recipe import DEMO_PRETRAINED
from training.demo.sketch import SketchTask, begin_sketch
from training.demo.telling import Heard, Teller
from training.stages.inflate import VideoTask

SCHEDULER = DEMO_PRETRAINED.scheduler


@pytest.fixture(scope="module")
def latents() -> LatentCorpus:
    return make_latents()


@pytest.fixture(scope="module")
def scans() -> TrainingScans:
    return make_scans()


@pytest.fixture
def sketch(latents: LatentCorpus) -> Sketch:
    return begin_sketch(SKETCH, latents)


@pytest.fixture
def plain() -> VideoUNet:
    torch.manual_seed(0)
    return VideoUNet.inflate(build_unet2d(tiny.UNET)).eval()


@pytest.fixture
def heard(scans: TrainingScans, latents: LatentCorpus) -> Heard:
    torch.manual_seed(0)
    encoder, fit = make_encoder(scans, latents)
    teller = Teller.of(encoder, unseen_answers(encoder, fit).clone(), fit.targets)
    return Heard(torch.randn(24, 5, 8), torch.zeros(5, 8), scans.first_frame, teller)


def test_it_learns_from_captions_windows_and_what_would_have_been_told(
    sketch: Sketch, latents: LatentCorpus, heard: Heard
) -> None:
    task = SketchTask(sketch, latents, [heard])
    loss, figures = loss_of(task, torch.arange(8), generator(), sketch)
    expected = (figures["captions"] + figures["windows"] / 4 + figures["told"]) / 2.25
    assert loss.item() == pytest.approx(expected)
    assert task.description()["heard"] != SketchTask(sketch, latents).description()["heard"]


def test_a_teller_errs_as_unseen_windows_do(scans: TrainingScans, latents: LatentCorpus) -> None:
    """The tokens that would be right lead back to the answers; those told have the mean and errors of real ones."""
    encoder, fit = make_encoder(scans, latents)
    answers = unseen_answers(encoder, fit).clone()
    teller = replace(Teller.of(encoder, answers, fit.targets), clearest=1.0)
    prior = encoder.readout.prior
    right = prior.recall(fit.targets).view(-1, 5, 8)
    torch.testing.assert_close((right.flatten(1) - prior.recall.bias) @ teller.back, fit.targets, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(teller.rest, answers - fit.targets @ teller.into)
    told = teller(right, generator())
    errors = {tuple(row) for row in (prior(answers[:, None].flatten(0, 1))).flatten(1).tolist()}
    assert told.shape == right.shape and torch.isfinite(told).all() and len(errors) == 24
    alone = replace(teller, rest=teller.rest[:1])
    expected = prior(fit.targets @ teller.into + teller.rest[:1])
    torch.testing.assert_close(alone(right, generator()), expected, atol=1e-3, rtol=1e-3)


def test_a_clearer_telling_errs_less(scans: TrainingScans, latents: LatentCorpus) -> None:
    encoder, fit = make_encoder(scans, latents)
    teller = Teller.of(encoder, unseen_answers(encoder, fit).clone(), fit.targets)
    right = encoder.readout.prior.recall(fit.targets).view(-1, 5, 8)
    mean = replace(teller, rest=torch.zeros(1, 6))(right, generator())
    errors = [
        torch.stack([replace(teller, clearest=c)(right, generator(i)) - mean for i in range(40)]).square().mean()
        for c in (0.0, 1.0)
    ]
    assert errors[0] < 0.7 * errors[1]


def test_a_painter_hears_captions_and_what_would_have_been_told(
    plain: VideoUNet, sketch: Sketch, latents: LatentCorpus, heard: Heard
) -> None:
    video = SketchedUNet.of(plain, sketch)
    task = VideoTask(video, latents, SCHEDULER, conditions=DemoConditions(video, latents, [heard]))
    starts = latents.clip_starts[:8]
    clips, captions, told = latents.clips(starts), 0, 0
    for seed in range(20):
        tokens, negative = task.conditions.tokens(starts, clips, generator(seed))
        captions += int(torch.equal(tokens, latents.tokens_of(starts)) and negative is latents.empty_tokens)
        told += int(tokens.shape == (8, 5, 8) and negative is heard.negative)
    assert captions + told == 20 and min(captions, told) > 4
    assert torch.isfinite(loss_of(task, torch.arange(8), generator())[0])
    assert "heard" in task.description()


def test_shares_of_a_batch_have_the_loss_of_the_whole(sketch: Sketch, latents: LatentCorpus, heard: Heard) -> None:
    """Two processes with 8 of 16 samples each, as the loop hands them out."""
    task, indices = SketchTask(sketch, latents, [heard]), torch.arange(16)
    batch = task.draw(indices, generator())
    whole = task.loss(sketch, batch)[0]
    shares = [task.loss(sketch, batch.part(i, 2, "cpu"))[0] for i in range(2)]
    torch.testing.assert_close(sum(shares) / 2, whole)


def test_co_training_meets_captions_and_told_clips_far_beyond_its_windows(
    plain: VideoUNet, sketch: Sketch, latents: LatentCorpus, scans: TrainingScans, heard: Heard
) -> None:
    """24 windows, 80 clips: every clip is drawn sooner or later, told as often as captioned."""
    torch.manual_seed(0)
    trained = in_training(*make_encoder(scans, latents))
    video = SketchedUNet.of(plain, sketch)
    task = CaptionedCotrainTask(
        {"1": trained}, video, {"1": scans}, latents, SCHEDULER, caption_rate=1.0, heard=[heard]
    )
    asked: list[torch.Tensor] = []
    task.corpus = replace(latents, clip_starts=latents.clip_starts)
    object.__setattr__(task.corpus, "clips", lambda starts: asked.append(starts) or latents.clips(starts))
    for seed in range(12):
        loss_of(task, torch.arange(24), generator(seed))
    assert set(torch.cat(asked).tolist()) > set(latents.clip_starts[60:].tolist())
    assert "heard" in task.description()


def test_nothing_can_be_told_to_a_model_without_a_sketch(plain: VideoUNet, latents: LatentCorpus, heard: Heard) -> None:
    with pytest.raises(MindvizError, match="with a sketch only, found one without"):
        DemoConditions(plain, latents, [heard])
