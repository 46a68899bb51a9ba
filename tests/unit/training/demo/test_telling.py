"""What subjects would have told of clips: as wrong as they were, of more clips than they saw."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import tiny
from support.sketched import ENCODER, SKETCH, generator, make_fit, make_latents, make_scans
from support.tasks import loss_of

from mindviz.diffusion import VideoUNet, build_unet2d
from mindviz.extensions.readout import Correction, ReadOutEncoder
from mindviz.extensions.sketch import Sketch
from mindviz.extensions.sketched_unet import SketchedUNet
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.conditions import DemoConditions
from training.demo.cotrain import CaptionedCotrainTask
from training.demo.crossfit import in_training
from training.demo.recipe import DEMO_PRETRAINED
from training.demo.sketch import SketchTask, begin_sketch
from training.demo.telling import Heard, Teller, Telling
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
    fit, wanted = make_fit(scans, latents)
    correction = Correction(ENCODER)
    correction.start()
    teller = Teller(ENCODER, fit, correction.state_dict(), wanted)
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
    """Without a correction, tokens told of the training clips have the moments of those that ridge codes say."""
    fit, wanted = make_fit(scans, latents)
    config = replace(ENCODER, memory_heads=0)
    correction = Correction(config)
    correction.start()
    teller, g = Teller(config, fit, correction.state_dict(), wanted, clearest=1.0), generator()
    told = torch.stack([teller(wanted, g) for _ in range(400)]).flatten(2)
    centred = wanted.flatten(1) - fit.bias
    telling = Telling.held_out(fit.unseen - fit.unseen.mean(0), centred, fit.fold)
    mean = fit.tokens(fit.unseen.mean(0) + centred @ telling.into, (5, 8)).flatten(1)
    torch.testing.assert_close(told.mean(0), mean, atol=0.2, rtol=0.0)
    expected = (telling.blur @ fit.out.T).square().sum()
    assert (told - mean).square().sum(2).mean().item() == pytest.approx(expected.item(), rel=0.05)


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


def test_a_telling_has_the_moments_of_the_codes() -> None:
    g = generator()
    wanted, into = torch.randn(4000, 3, generator=g), torch.randn(3, 3, generator=g)
    codes = wanted @ into + torch.randn(4000, 3, generator=g) @ torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [0, 0, 0.1]])
    told = Telling.of(codes, wanted)(wanted, g)
    torch.testing.assert_close(told.T @ told / 4000, codes.T @ codes / 4000, atol=0.2, rtol=0.1)
    torch.testing.assert_close(wanted.T @ told / 4000, wanted.T @ codes / 4000, atol=0.1, rtol=0.1)


def test_a_telling_does_not_add_what_no_brain_said() -> None:
    """Few windows, many things to say, few of them heard: least squares tells of all, held-out runs of those heard."""
    g = generator()
    wanted, hears = torch.randn(600, 120, generator=g), torch.zeros(120, 40)
    hears[:6] = torch.randn(6, 40, generator=g)
    codes = wanted @ hears + 5.0 * torch.randn(600, 40, generator=g)
    fresh, fold = torch.randn(4000, 120, generator=g), torch.arange(600) * 6 // 600
    true = fresh @ hears + 5.0 * torch.randn(4000, 40, generator=g)

    def explained(telling: Telling) -> float:
        """The share of what is told of fresh clips that they explain, by least squares on as many."""
        told = telling(fresh, g)
        return _share(told, fresh)

    real, held_out = _share(true, fresh), explained(Telling.held_out(codes, wanted, fold))
    assert explained(Telling.of(codes, wanted)) > 1.3 * real  # what the listener would learn to trust
    assert 0.5 * real < held_out < 1.05 * real  # what so few windows let one be sure of
    silent = Telling.held_out(5.0 * torch.randn(600, 40, generator=g), wanted, fold)
    assert silent.heard.sum() < 0.02 * 40 * 25


def _share(codes: torch.Tensor, wanted: torch.Tensor) -> float:
    rest = codes - wanted @ torch.linalg.lstsq(wanted, codes).solution
    return 1 - (rest.square().sum() / codes.square().sum()).item()


def test_a_clearer_telling_has_less_noise_and_as_much_variance() -> None:
    g = generator()
    wanted = torch.randn(6000, 3, generator=g)
    codes = 0.8 * wanted + 0.6 * torch.randn(6000, 3, generator=g)
    telling = Telling.of(codes, wanted)
    told = telling(wanted, g, clearest=0.3)
    torch.testing.assert_close(told.var(0), codes.var(0), atol=0.05, rtol=0.05)
    agree = torch.stack([torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(told.T, wanted.T, strict=True)])
    assert (agree > 0.85).all() and (agree < 0.98).all()  # 0.8 at full noise, 0.975 at the least


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
    trained = in_training(ReadOutEncoder(ENCODER), make_fit(scans, latents)[0])
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
