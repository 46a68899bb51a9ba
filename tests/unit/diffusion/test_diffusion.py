"""The inflated U-Net, guidance, sampling, the codec: real classes at a tiny size."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, PNDMScheduler
from support import tiny

from mindviz.diffusion import (
    LatentCodec,
    UNetConfig,
    VAEConfig,
    VideoUNet,
    attention_parameters,
    build_unet2d,
    clip_noise,
    guided,
    initial_latents,
    make_scheduler,
    published_schedule,
    sample,
)
from mindviz.extensions.steering import steered
from mindviz.types import MindvizError

TINY = replace(
    tiny.UNET,
    in_channels=6,
    out_channels=6,
    block_out_channels=(16, 32),
    cross_attention_dim=12,
    num_attention_heads=(2, 4),
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def image_model():
    return build_unet2d(TINY).eval()


@pytest.fixture
def model(image_model) -> VideoUNet:
    """An inflated model whose temporal attention does something."""
    model = VideoUNet.inflate(image_model).eval()
    for name, value in model.named_parameters():
        if ".attn_temp." in name:
            torch.nn.init.normal_(value, std=0.3)
    return model


def inputs(batch: int = 2, frames: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 6, frames, 8, 8), torch.arange(batch) * 400 + 7, torch.randn(batch, 5, 12)


# ---------------------------------------------------------------------- the U-Net
@torch.no_grad()
def test_inflation_is_exact_for_one_frame(image_model) -> None:
    model = VideoUNet.inflate(image_model).eval()
    latents, timestep, tokens = inputs(frames=1)
    expected = image_model(latents[:, :, 0], timestep, tokens).sample
    assert torch.allclose(model(latents, timestep, tokens)[:, :, 0], expected, atol=1e-6)
    extra = set(model.state_dict()) - set(image_model.state_dict())
    assert extra and all(".attn_temp." in name or ".norm_temp." in name for name in extra)
    assert model.config == TINY


@torch.no_grad()
def test_equal_frames_give_equal_frames_and_the_image_models_answer(image_model) -> None:
    """With temporal attention at zero and one picture in all frames, statistics and keys are those of the picture."""
    model = VideoUNet.inflate(image_model).eval()
    latents, timestep, tokens = inputs(frames=1)
    out = model(latents.expand(-1, -1, 4, -1, -1), timestep, tokens)
    expected = image_model(latents[:, :, 0], timestep, tokens).sample
    assert torch.allclose(out, expected[:, :, None].expand_as(out), atol=1e-5)


@torch.no_grad()
def test_frame_positions_tell_the_frames_apart(image_model) -> None:
    """A clip of one picture: without positions every frame stays alike, whatever the temporal attention learns."""
    latents, timestep, tokens = inputs(frames=1)
    still = latents.expand(-1, -1, 4, -1, -1)
    for positions in (False, True):
        model = VideoUNet.inflate(image_model, frame_positions=positions).eval()
        assert model.config.frame_positions == positions
        expected = image_model(latents[:, :, 0], timestep, tokens).sample
        assert torch.allclose(model(latents, timestep, tokens)[:, :, 0], expected, atol=1e-6)
        for name, parameter in attention_parameters(model, ("temporal",)).items():
            if ".to_out." in name:
                torch.nn.init.normal_(parameter, std=0.3)
        out = model(still, timestep, tokens)
        assert (out.std(2).max() > 1e-3) == positions


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix(model: VideoUNet) -> None:
    latents, timestep, tokens = inputs(batch=3)
    together = model(latents, timestep, tokens)
    alone = torch.cat([model(latents[i : i + 1], timestep[i], tokens[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_heads_are_counted_not_sized(model: VideoUNet) -> None:
    attention = model.down_blocks[0].attentions[0].transformer_blocks[0]
    assert (
        attention.attn1.heads,
        attention.attn_temp.heads,
        model.mid_block.attentions[0].transformer_blocks[0].attn2.heads,
    ) == (2, 2, 4)


def test_names_and_gradients(model: VideoUNet) -> None:
    assert set(dict(model.named_parameters())) == set(model.state_dict())
    latents, timestep, tokens = inputs()
    tokens.requires_grad_()
    model(latents, timestep, tokens).square().mean().backward()
    assert tokens.grad.abs().max() > 0
    assert all(value.grad is not None for value in model.parameters())
    chosen = attention_parameters(model)
    assert {kind for name in chosen for kind in ("attn1", "attn2", "attn_temp", "norm_temp") if kind in name} == {
        "attn1",
        "attn2",
        "attn_temp",
        "norm_temp",
    }
    assert all("_temp." in name for name in attention_parameters(model, ("temporal",)))
    assert 0 < len(chosen) < len(model.state_dict())


def test_checkpointing_gives_the_same_gradients_even_after_another_pass(model: VideoUNet) -> None:
    latents, timestep, tokens = inputs()
    gradients = []
    for enable in (False, True):
        model.set_gradient_checkpointing(enable)
        model.zero_grad()
        clip = model(latents, timestep, tokens)
        image = model(latents[:, :, :1], timestep, tokens)  # another frame count before the backward pass
        (clip.square().mean() + image.square().mean()).backward()
        gradients.append(torch.cat([value.grad.flatten() for value in model.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


@torch.no_grad()
def test_a_copy_is_whole(model: VideoUNet) -> None:
    twin = copy.deepcopy(model)
    latents, timestep, tokens = inputs()
    expected = model(latents, timestep, tokens)
    for value in model.parameters():
        value.zero_()
    assert torch.equal(twin(latents, timestep, tokens), expected)


def test_wrong_tokens(model: VideoUNet) -> None:
    latents, timestep, tokens = inputs()
    with pytest.raises(MindvizError, match=r"expected tokens of shape \(2, S, 12\)"):
        model(latents, timestep, tokens[..., :8])
    with pytest.raises(MindvizError, match="norm groups"):
        UNetConfig(
            block_out_channels=(16, 33), norm_num_groups=16, down_block_types=("a", "b"), up_block_types=("a", "b")
        )


# ---------------------------------------------------------------------- guidance
def test_guidance_is_its_equation() -> None:
    def model(latents: torch.Tensor, timestep: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        assert timestep.ndim == 0 or len(timestep) == len(latents)
        return latents * tokens.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1)

    latents, timestep, tokens = inputs()
    negative = torch.randn(1, 5, 12)
    without, with_ = (model(latents, timestep, t.expand(2, -1, -1)) for t in (negative, tokens))
    for t in (timestep, torch.tensor(4)):
        assert torch.allclose(
            guided(model, tokens, negative, 3.5)(latents, t), without + 3.5 * (with_ - without), atol=1e-5
        )
    assert torch.equal(guided(model, tokens, negative, 1.0)(latents, timestep), with_)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_steering_ends_where_the_change_leads(kind: str) -> None:
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False, timestep_spacing="trailing")
    latents, goal = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 4, 2, 4, 4)
    shares, model = scheduler.alphas_cumprod, denoiser
    same = steered(model, shares, kind, lambda clean: clean)
    torch.testing.assert_close(
        same(latents, torch.tensor(400)), model(latents, torch.tensor(400)), atol=1e-4, rtol=1e-4
    )
    for weight in (1.0, 0.5):
        led = steered(model, shares, kind, lambda clean, w=weight: clean + w * (goal - clean))
        t = torch.tensor(700)
        foretold = [scheduler_clean(scheduler, m(latents, t), t, latents) for m in (model, led)]
        expected = foretold[0] + weight * (goal - foretold[0])
        torch.testing.assert_close(foretold[1], expected, atol=1e-3, rtol=1e-3)
    ended = sample(steered(model, shares, kind, lambda _: goal), scheduler, latents, 5)
    torch.testing.assert_close(ended, goal, atol=1e-3, rtol=1e-3)
    with pytest.raises(MindvizError, match="found 'sample'"):
        steered(model, shares, "sample", lambda clean: clean)


def test_steering_takes_the_timestep_of_each_sample() -> None:
    shares, latents = DDIMScheduler().alphas_cumprod, torch.randn(2, 4, 2, 4, 4)
    for kind in ("epsilon", "v_prediction"):
        led = steered(lambda x, t: 0.3 * x, shares, kind, lambda clean: 0.5 * clean)
        both = led(latents, torch.tensor([700, 20]))
        for i, t in enumerate((700, 20)):
            torch.testing.assert_close(both[i : i + 1], led(latents[i : i + 1], torch.tensor(t)))
            torch.testing.assert_close(both[i : i + 1], led(latents[i : i + 1], torch.tensor([t])))


def test_steering_between_timesteps_is_eulers_own() -> None:
    """Euler's timesteps are fractions of those of training; its `step` gives the clean latents that it foretells."""
    scheduler = EulerDiscreteScheduler(num_train_timesteps=1000, timestep_spacing="linspace")
    scheduler.set_timesteps(7)
    latents = torch.randn(1, 4, 2, 4, 4) * scheduler.init_noise_sigma
    t = scheduler.timesteps[3]
    assert float(t) % 1
    seen: list[torch.Tensor] = []
    led = steered(lambda x, _: 0.3 * x, scheduler.alphas_cumprod, "epsilon", lambda clean: seen.append(clean) or clean)
    said = led(scheduler.scale_model_input(latents, t), t)
    torch.testing.assert_close(seen[0], scheduler.step(said, t, latents).pred_original_sample, atol=1e-4, rtol=1e-4)
    whole = [led(latents, torch.tensor(value)) for value in (400, 400.0)]
    torch.testing.assert_close(*whole)


def test_what_cannot_be_steered_is_a_sentence() -> None:
    latents = torch.randn(2, 4, 2, 4, 4)
    with pytest.raises(MindvizError, match=r"a scheduler with alphas_cumprod .*, found one without"):
        steered(denoiser, None, "epsilon", lambda clean: clean)
    shares = DDIMScheduler(rescale_betas_zero_snr=True).alphas_cumprod
    assert float(shares[-1]) == 0
    led = steered(denoiser, shares, "epsilon", lambda clean: clean)
    assert torch.isfinite(led(latents, torch.tensor(998))).all()
    for t in (torch.tensor(999), torch.tensor([5, 999])):
        with pytest.raises(MindvizError, match=r"predicts epsilon needs signal .* at timestep 999"):
            led(latents, t)
    for t in (torch.tensor(1000), torch.tensor(-1.0)):
        with pytest.raises(MindvizError, match="timesteps from 0 to 999"):
            led(latents, t)
    free = steered(denoiser, shares, "v_prediction", lambda clean: clean)
    said = free(latents, torch.tensor(999))
    torch.testing.assert_close(said, denoiser(latents, torch.tensor(999)))


def scheduler_clean(scheduler: DDIMScheduler, said: torch.Tensor, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The clean latents by diffusers' own arithmetic."""
    scheduler.set_timesteps(5)
    return scheduler.step(said, t, x).pred_original_sample


# ---------------------------------------------------------------------- sampling
def denoiser(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return torch.tanh(latents * (1 + timestep / 1000))


@pytest.mark.parametrize("cls", [DDIMScheduler, PNDMScheduler, EulerAncestralDiscreteScheduler])
def test_sampling_is_diffusers_own_loop(cls: type) -> None:
    kwargs = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    kwargs |= (
        {"clip_sample": False} if cls is DDIMScheduler else {"skip_prk_steps": True} if cls is PNDMScheduler else {}
    )
    reference, latents = cls(**kwargs), initial_latents((1, 4, 2, 4, 4), seed=1)
    reference.set_timesteps(7)
    x, noise = latents * reference.init_noise_sigma, torch.Generator().manual_seed(3)
    extra = {"generator": noise} if cls is EulerAncestralDiscreteScheduler else {}
    for t in reference.timesteps:
        x = reference.step(denoiser(reference.scale_model_input(x, t), t), t, x, **extra).prev_sample
    calls: list[tuple[int, int]] = []
    scheduler = make_scheduler({**reference.config, "_class_name": cls.__name__})
    for _ in range(2):  # a scheduler's state is reset
        out = sample(
            denoiser,
            scheduler,
            latents,
            7,
            lambda step, total, _: calls.append((step, total)),
            torch.Generator().manual_seed(3),
        )
        assert torch.allclose(out, x, atol=1e-6)
    assert calls[-1] == (len(reference.timesteps),) * 2
    assert [step for step, _ in calls[: len(reference.timesteps)]] == list(range(1, len(reference.timesteps) + 1))


def test_a_callback_may_cancel() -> None:
    class Cancelled(Exception):
        pass

    def cancel(step: int, total: int, latents: torch.Tensor) -> None:
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        sample(denoiser, DDIMScheduler(), torch.zeros(1, 4, 1, 2, 2), 5, cancel)


def test_schedules() -> None:
    with pytest.raises(MindvizError, match="found 'UNet2DConditionModel'"):
        make_scheduler({"_class_name": "UNet2DConditionModel"})
    for option in ({"beta_schedule": "square"}, {"num_train_timesteps": "many"}, {"beta_start": {}}):
        with pytest.raises(MindvizError, match="expected options of DDIMScheduler, found") as caught:
            make_scheduler({"_class_name": "DDIMScheduler"} | option)
        assert str(option)[1:-1] in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(MindvizError, match="between 1 and 999"):
        sample(denoiser, DDIMScheduler(), torch.zeros(1), 1000)
    fixed = published_schedule({"_class_name": "PNDMScheduler", "steps_offset": 0, "skip_prk_steps": True}, "ddim")
    assert isinstance(make_scheduler(fixed), DDIMScheduler)
    assert (fixed["steps_offset"], fixed["clip_sample"]) == (1, False)
    assert torch.equal(initial_latents((2, 3), 5), initial_latents((2, 3), 5))


def test_clip_noise_has_unit_variance_and_the_stated_correlation_between_frames() -> None:
    shape = (4, 32, 6, 8, 8)
    assert torch.equal(initial_latents(shape, 3), torch.randn(shape, generator=torch.Generator().manual_seed(3)))
    for shared in (0.0, 0.3, 1.0):
        noise = clip_noise(shape, torch.Generator().manual_seed(0), shared)
        frames = noise.transpose(0, 2).reshape(6, -1)
        expected = torch.full((6, 6), shared).fill_diagonal_(1.0)
        torch.testing.assert_close(torch.cov(frames), expected, atol=0.06, rtol=0)


# ---------------------------------------------------------------------- the codec
@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 4])
def test_codec_shapes_ranges_and_folding(patch: int) -> None:
    config = VAEConfig(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=6, scaling_factor=0.5, patch_size=patch
    )
    codec = LatentCodec.from_config(config).eval()
    assert codec.config == config
    pixels = torch.randint(0, 256, (2, 3, 4, 16, 16), dtype=torch.uint8)
    latents = codec.encode(pixels)
    assert latents.shape == (2, 6, 4, 16 // config.downscale, 16 // config.downscale)
    assert torch.allclose(latents, codec.encode(pixels.float() / 255), atol=1e-4)
    decoded = codec.decode(latents)
    assert decoded.shape == pixels.shape and decoded.min() >= 0 and decoded.max() <= 1
    images = pixels[:, :, 0]
    assert codec.fold(images).abs().max() <= 1
    assert torch.allclose(codec.unfold(codec.fold(images)), images.float() / 255, atol=1e-6)
    mean = codec.vae.encode(codec.fold(images)).latent_dist.mean
    assert torch.allclose(latents[:, :, 0], 0.5 * mean, atol=1e-5)
    draw = codec.encode(pixels, torch.Generator().manual_seed(0))
    assert not torch.equal(draw, latents)
