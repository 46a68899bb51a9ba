"""The U-Net whole: on single frames, at times on clips, mostly from noise alone."""

from __future__ import annotations

import pytest
import torch
from support import tiny
from support.sketched import SKETCH, generator, make_latents
from torch import Tensor, nn

from mindviz.diffusion import VideoUNet, build_unet2d
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus
from training.demo.finish import CLIPS, FinishTask
from training.demo.recipe import DEMO_FOUNDATION
from training.demo.sketch import begin_sketch
from training.engine.loop import LoopConfig, train
from training.stages import inflate
from training.stages.denoising import Noising

SCHEDULER = DEMO_FOUNDATION.scheduler


@pytest.fixture(scope="module")
def latents() -> LatentCorpus:
    return make_latents()


@pytest.fixture
def task(latents: LatentCorpus) -> FinishTask:
    torch.manual_seed(0)
    video = VideoUNet.inflate(build_unet2d(tiny.UNET)).sketched(begin_sketch(SKETCH, latents))
    return FinishTask(video, latents, SCHEDULER)


class Listener(nn.Module):
    """In the U-Net's place: keeps what it was given, and answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.zeros(()))
        self.given: tuple[Tensor, ...] = ()

    def forward(self, *given: Tensor) -> Tensor:
        self.given = given
        return torch.zeros_like(given[0]) + self.one


def heard(task: FinishTask, seed: int, count: int = 12, rows: slice = slice(None)) -> tuple[Tensor, ...]:
    listener = Listener()
    task.loss(listener, torch.arange(count), generator(seed), rows)
    return listener.given


def test_all_but_the_sketch_is_trained(task: FinishTask) -> None:
    still = {name for name, p in task.module.named_parameters() if not p.requires_grad}
    assert still == {name for name, _ in task.module.named_parameters() if name.startswith("sketch.")}
    task.loss(task.module, torch.arange(6), generator(0))[0].backward()
    assert all((task.module.get_parameter(f"conv_in.{n}").grad != 0).any() for n in ("weight", "sketch.weight"))


def test_a_model_without_a_sketch_is_refused(latents: LatentCorpus) -> None:
    with pytest.raises(MindvizError, match="without a sketch"):
        FinishTask(VideoUNet.inflate(build_unet2d(tiny.UNET)), latents, SCHEDULER)


def test_most_batches_are_frames_and_the_others_fewer_clips(task: FinishTask) -> None:
    shapes = [tuple(heard(task, seed)[0].shape) for seed in range(240)]
    assert set(shapes) == {(12, 4, 1, 8, 8), (2, 4, 6, 8, 8)}
    assert shapes.count((2, 4, 6, 8, 8)) / 240 == pytest.approx(CLIPS, abs=0.07)  # three standard errors


def test_a_frame_comes_with_its_own_sketch(task: FinishTask, latents: LatentCorpus, monkeypatch) -> None:
    monkeypatch.setattr(inflate, "SMUDGE", 0.0)
    clips = latents.clips(latents.clip_starts[:12])
    sketches = task.bases.clip(task.bases.codes(clips))
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
        whole, *parts = (heard(task, seed, 24, rows) for rows in (slice(None), slice(0, 12), slice(12, 24)))
        for i, tensor in enumerate(whole):
            assert torch.equal(tensor, torch.cat([part[i] for part in parts]))
    with pytest.raises(MindvizError, match="a multiple of 6 samples, found rows 0 to 8"):  # at the first batch
        heard(task, next(s for s in range(99) if heard(task, s)[0].shape[2] == 1), 16, slice(0, 8))


def test_it_learns_to_see_the_sketch(task: FinishTask, tmp_path) -> None:
    def error() -> float:
        task.module.eval()
        with torch.no_grad():
            return sum(float(task.loss(task.module, torch.arange(0, 72, 3), generator(s))[0]) for s in range(6)) / 6

    before = error()
    train(task, LoopConfig(steps=30, batch_size=12, lr=3e-3, warmup=5, log_every=30), tmp_path, quiet=True)
    assert error() < 0.9 * before
