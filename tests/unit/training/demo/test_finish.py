"""The U-Net whole: on single frames, at times on clips, mostly from noise alone."""

from __future__ import annotations

import pytest
import torch
from support import tiny
from support.sketched import SKETCH, generator, make_latents
from support.tasks import loss_of
from torch import Tensor, nn

from mindviz.diffusion import VideoUNet, build_unet2d
from mindviz.extensions.sketched_unet import SketchedUNet
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.demo import conditions
from training.demo.finish import SHARE_OF_CLIPS, FinishTask
from training.demo.recipe import DEMO_PRETRAINED
from training.demo.sketch import begin_sketch
from training.engine.loop import LoopConfig, train
from training.stages.denoising import Noising

SCHEDULER = DEMO_PRETRAINED.scheduler


@pytest.fixture(scope="module")
def latents() -> LatentCorpus:
    return make_latents()


@pytest.fixture
def task(latents: LatentCorpus) -> FinishTask:
    torch.manual_seed(0)
    video = SketchedUNet.of(VideoUNet.inflate(build_unet2d(tiny.UNET)), begin_sketch(SKETCH, latents))
    return FinishTask(video, latents, SCHEDULER)


class Listener(nn.Module):
    """In the U-Net's place: keeps what it was given, and answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.zeros(()))
        self.given: tuple[Tensor, ...] = ()

    def forward(self, *given: Tensor, **more: Tensor) -> Tensor:
        self.given = (*given, *more.values())
        return torch.zeros_like(given[0]) + self.one


def heard(task: FinishTask, seed: int, count: int = 12, part: int = 0, parts: int = 1) -> tuple[Tensor, ...]:
    listener = Listener()
    task.loss(listener, task.draw(torch.arange(count), generator(seed)).part(part, parts, "cpu"))
    return listener.given


def test_all_but_the_sketch_is_trained(task: FinishTask) -> None:
    still = {name for name, p in task.module.named_parameters() if not p.requires_grad}
    assert still == {name for name, _ in task.module.named_parameters() if name.startswith("sketch.")}
    loss_of(task, torch.arange(6), generator(0))[0].backward()
    assert all((task.module.get_parameter(f"conv_in.{n}").grad != 0).any() for n in ("weight", "sketch.weight"))


def test_a_model_without_a_sketch_is_refused(latents: LatentCorpus) -> None:
    with pytest.raises(MindvizError, match="without a sketch"):
        FinishTask(VideoUNet.inflate(build_unet2d(tiny.UNET)), latents, SCHEDULER)


def test_most_batches_are_frames_and_the_others_fewer_clips(task: FinishTask) -> None:
    shapes = [tuple(heard(task, seed)[0].shape) for seed in range(240)]
    assert set(shapes) == {(12, 4, 1, 8, 8), (2, 4, 6, 8, 8)}
    assert shapes.count((2, 4, 6, 8, 8)) / 240 == pytest.approx(SHARE_OF_CLIPS, abs=0.07)  # three standard errors


def test_a_frame_comes_with_its_own_sketch(task: FinishTask, latents: LatentCorpus, monkeypatch) -> None:
    monkeypatch.setattr(conditions, "SMUDGE", 0.0)
    clips = latents.clips(latents.clip_starts[:12])
    sketches = task.conditions.bases.clip(task.conditions.bases.codes(clips))
    for seed in range(8):
        noisy, timesteps, _, drawn = heard(task, seed)
        if noisy.shape[2] > 1:
            continue
        frames = [int((sketches[i] - drawn[i]).abs().amax((0, 2, 3)).argmin()) for i in range(12)]
        for i, frame in enumerate(frames):
            torch.testing.assert_close(drawn[i, :, 0], sketches[i, :, frame])
            share = task.noising.scheduler.alphas_cumprod[timesteps[i]].sqrt()
            if share > 0.5:  # enough of the frame is left to know it by
                alike = torch.nn.functional.cosine_similarity(
                    noisy[i, :, 0].flatten()[None], clips[i].movedim(1, 0).flatten(1)
                )
                assert int(alike.argmax()) == frame
        assert len(set(frames)) > 2


def test_half_begin_with_noise_alone() -> None:
    noising, latents = Noising(SCHEDULER), torch.ones(4000, 1)
    _, plain, _ = noising(latents, generator(0))
    noisy, timesteps, target = noising(latents, generator(0), 0.5)
    assert (timesteps == 999).float().mean() == pytest.approx(0.5, abs=0.03)
    assert plain.max() <= 999 and (plain == 999).float().mean() < 0.005  # and none are asked for by default
    last = timesteps == 999
    assert noisy[last].mean().abs() < 0.1  # the schedule ends at no signal
    torch.testing.assert_close(target[last], -latents[last], atol=1e-3, rtol=0)  # so v there is the clip itself


def test_processes_share_frames_and_clips(task: FinishTask) -> None:
    for seed in range(12):
        whole, parts = heard(task, seed, 24), [heard(task, seed, 24, part, 2) for part in range(2)]
        for i, tensor in enumerate(whole):
            assert torch.equal(tensor, torch.cat([part[i] for part in parts]))
    clips = next(s for s in range(99) if heard(task, s)[0].shape[2] > 1)
    with pytest.raises(MindvizError, match="expected a multiple of 2 samples to share out, found 3"):
        heard(task, clips, 16, 0, 2)


def test_it_learns_to_see_the_sketch(task: FinishTask, tmp_path) -> None:
    def error() -> float:
        task.module.eval()
        with torch.no_grad():
            return sum(float(loss_of(task, torch.arange(0, 72, 3), generator(s))[0]) for s in range(6)) / 6

    before = error()
    train(task, LoopConfig(steps=30, batch_size=12, lr=3e-3, warmup=5, log_every=30), tmp_path, quiet=True)
    assert error() < 0.9 * before
