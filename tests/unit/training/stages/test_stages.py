"""The tasks of every training stage, with the real classes at tiny sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import tiny
from support.tasks import loss_of
from torch.nn import functional

from mindviz.checkpoint.subject import SubjectData
from mindviz.diffusion import LatentCodec, VAEConfig, VideoUNet, build_unet2d
from mindviz.diffusion.clip import ClipConfig
from mindviz.encoder import EncoderConfig, FMRIEncoder, MaskedConfig, contrastive_loss, info_nce
from mindviz.encoder.patching import Patching
from mindviz.types import MindvizError
from training.data.corpus import Corpus
from training.data.latents import LatentCorpus, encode_frames
from training.data.scans import TrainingScans, augment
from training.data.targets import Targets
from training.demo.clip import ClipTask
from training.demo.codec import DecoderTask
from training.demo.image import ImageTask
from training.demo.pca_codec import begin_at_components, patch_components
from training.demo.recipe import DEMO_PRETRAINED
from training.stages.contrast import ContrastConfig, ContrastTask
from training.stages.cotrain import CotrainTask
from training.stages.denoising import Noising, denoising_loss, drop_condition
from training.stages.encoders import PlainEncoder
from training.stages.inflate import InflateTask
from training.stages.mask import MaskTask

SCHEDULER = DEMO_PRETRAINED.scheduler
ENCODER = EncoderConfig(
    num_voxels=40,
    patch_size=8,
    embed_dim=8,
    depth=1,
    num_heads=2,
    num_tokens=4,
    token_dim=8,
    patch_embedding="per_patch",
)
VAE = VAEConfig(block_out_channels=(48,), latent_channels=12, norm_num_groups=1, patch_size=4, scaling_factor=1.0)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    captions = tuple(f"caption {i // 9}" for i in range(36))
    return Corpus(rng.integers(0, 256, (36, 16, 16, 3), dtype=np.uint8), captions, np.array([0, 18]))


@pytest.fixture(scope="module")
def latents(corpus: Corpus) -> LatentCorpus:
    generator = _generator()
    return LatentCorpus(
        latents=torch.randn(36, 4, 8, 8, generator=generator),
        caption_index=torch.from_numpy(corpus.caption_index),
        tokens=torch.randn(4, 4, 8, generator=generator),
        empty_tokens=torch.zeros(4, 8),
        clip_starts=torch.from_numpy(corpus.clip_starts(6)),
        scale=1.0,
    )


@pytest.fixture(scope="module")
def scans() -> TrainingScans:
    windows = torch.randn(24, 2, 40, generator=_generator())
    data = SubjectData(np.zeros(40), np.ones(40), windows.mean(0).numpy(), np.arange(40))
    return TrainingScans("1", windows, torch.arange(24) % 30, 6, data)


def test_clips_stay_in_their_film_and_in_one_caption(corpus: Corpus) -> None:
    assert corpus.clip_starts(6).tolist() == [0, 1, 2, 3, 9, 10, 11, 12, 18, 19, 20, 21, 27, 28, 29, 30]
    assert 8 in corpus.clip_starts(6, one_caption=False) and 14 not in corpus.clip_starts(6, one_caption=False)


def test_a_corpus_needs_a_caption_for_each_frame() -> None:
    with pytest.raises(MindvizError, match="one caption per frame, found 3 and 2"):
        Corpus(np.zeros((3, 8, 8, 3), np.uint8), ("a", "b"), np.array([0]))


def test_the_codec_begins_at_the_principal_components(corpus: Corpus) -> None:
    """Against numpy's own singular values: the rebuilt frames are the projection on the first 12 components."""
    torch.manual_seed(0)
    codec = LatentCodec.from_config(VAE)
    begin_at_components(codec, corpus.frames)
    x = codec.fold(torch.from_numpy(corpus.frames).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(-1, 48).numpy()
    _, _, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
    wanted = x.mean(0) + (x - x.mean(0)) @ directions[:12].T @ directions[:12]
    with torch.inference_mode():
        rebuilt = codec.vae.decode(encode_frames(codec, corpus.frames)).sample
    found = rebuilt.permute(0, 2, 3, 1).reshape(-1, 48).numpy()
    assert np.abs(found - wanted).mean() < 0.02 * np.abs(x - x.mean(0)).mean()


def test_principal_components_need_one_wide_level(corpus: Corpus) -> None:
    narrow = LatentCodec.from_config(VAEConfig(block_out_channels=(16,), norm_num_groups=1, patch_size=4))
    with pytest.raises(MindvizError, match=r"at least 20 channels, found \(16,\)"):
        begin_at_components(narrow, corpus.frames)
    grouped = LatentCodec.from_config(VAEConfig(block_out_channels=(48,), norm_num_groups=4, patch_size=4))
    with pytest.raises(MindvizError, match="norm_num_groups 1"):
        begin_at_components(grouped, corpus.frames)


def test_components_are_those_of_the_variance(corpus: Corpus) -> None:
    mean, directions, deviation = patch_components(LatentCodec.from_config(VAE), corpus.frames, 5)
    assert mean.shape == (48,) and torch.all(deviation[:-1] >= deviation[1:])
    torch.testing.assert_close(directions @ directions.T, torch.eye(5), atol=1e-5, rtol=0)


def test_the_codecs_encoder_never_learns(corpus: Corpus) -> None:
    torch.manual_seed(0)
    task = DecoderTask(LatentCodec.from_config(VAE), corpus)
    loss, figures = loss_of(task, torch.arange(4), _generator())
    loss.backward()
    for name, parameter in task.codec.vae.named_parameters():
        assert (parameter.grad is not None) == name.startswith(("decoder.", "post_quant_conv.")), name
    assert figures["psnr"] == pytest.approx(-10 * np.log10(loss.item() / 4))


def test_shared_captions_count_as_matches() -> None:
    """Without shared captions it is the plain symmetric cross-entropy; with them a shared row reaches the optimum."""
    generator = _generator()
    image = functional.normalize(torch.randn(6, 5, generator=generator), dim=1)
    text = functional.normalize(torch.randn(6, 5, generator=generator), dim=1)
    logits = 3.0 * image @ text.T
    plain = 0.5 * (
        functional.cross_entropy(logits, torch.arange(6)) + functional.cross_entropy(logits.T, torch.arange(6))
    )
    torch.testing.assert_close(info_nce(image, text, torch.tensor(3.0), torch.arange(6)), plain)
    same = torch.tensor([0, 0, 1])
    unit = torch.eye(3)[same]
    assert info_nce(unit, unit, torch.tensor(50.0), same) == pytest.approx(2 / 3 * np.log(2), abs=1e-4)


def test_clip_trains_on_frames_and_captions(corpus: Corpus) -> None:
    torch.manual_seed(0)
    config = ClipConfig(8, 16, 8, 8, 1, 4, 6, 8, 1, 2)
    task = ClipTask(config, corpus, shift=1)
    loss, figures = loss_of(task, torch.arange(0, 36, 5), _generator())
    loss.backward()
    assert torch.isfinite(loss) and 0 <= figures["accuracy"] <= 1
    assert task.module.clip.token_embedding.weight.grad is not None


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noising_asks_for_what_the_scheduler_predicts(kind: str) -> None:
    latents = torch.randn(4, 2, 3, 3, generator=_generator())
    noising = Noising({**SCHEDULER, "prediction_type": kind, "rescale_betas_zero_snr": False})
    noisy, timesteps, target = noising(latents, _generator())
    alpha = noising.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noise = (noisy - alpha.sqrt() * latents) / (1 - alpha).sqrt()
    wanted = noise if kind == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    torch.testing.assert_close(target, wanted, atol=2e-3, rtol=2e-3)


def test_conditions_are_dropped_at_the_stated_rate() -> None:
    tokens, negative = torch.ones(2000, 2, 3), torch.zeros(2, 3)
    dropped = drop_condition(tokens, negative, 0.1, _generator())
    assert 0.08 < (dropped[:, 0, 0] == 0).float().mean() < 0.12
    assert set(dropped.flatten(1).mean(1).tolist()) == {0.0, 1.0}


def test_the_image_stage_learns(latents: LatentCorpus) -> None:
    torch.manual_seed(0)
    task = ImageTask(tiny.UNET, latents, SCHEDULER)
    optimizer = torch.optim.Adam(task.module.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss, _ = loss_of(task, torch.arange(16), _generator())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_inflation_trains_attention_alone_and_begins_as_the_image_model(latents: LatentCorpus) -> None:
    torch.manual_seed(0)
    image = build_unet2d(tiny.UNET).eval()
    task = InflateTask(image, latents, SCHEDULER)
    frame, tokens = torch.randn(1, 4, 1, 8, 8), torch.randn(1, 4, 8)
    with torch.inference_mode():
        still = task.module.eval()(frame, torch.tensor([7]), tokens)[:, :, 0]
        torch.testing.assert_close(still, image(frame[:, :, 0], torch.tensor([7]), tokens).sample, atol=1e-6, rtol=1e-5)
    loss, _ = loss_of(task, torch.arange(2), _generator())
    loss.backward()
    trained = {name for name, p in task.module.named_parameters() if p.grad is not None}
    assert trained and all(any(k in n for k in (".attn1.", ".attn2.", ".attn_temp.", ".norm_temp.")) for n in trained)
    assert task.trained < sum(p.numel() for p in task.module.parameters())


def test_masking_trains_on_single_scans(scans: TrainingScans) -> None:
    torch.manual_seed(0)
    config = MaskedConfig(encoder=ENCODER, decoder_dim=8, decoder_depth=1, decoder_heads=2)
    task = MaskTask(config, scans)
    loss, _ = loss_of(task, torch.arange(6), _generator())
    again, _ = loss_of(task, torch.arange(6), _generator())
    assert loss == again and torch.isfinite(loss)


def test_contrast_pulls_tokens_and_embedding(scans: TrainingScans, latents: LatentCorpus) -> None:
    generator = _generator()
    targets = Targets(
        functional.normalize(torch.randn(36, 6, generator=generator), dim=1),
        functional.normalize(torch.randn(4, 6, generator=generator), dim=1),
        latents.tokens,
        latents.caption_index,
    )
    torch.manual_seed(0)
    task = ContrastTask(PlainEncoder(FMRIEncoder(ENCODER)), scans, targets, ContrastConfig())
    optimizer = torch.optim.Adam(task.module.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss, figures = loss_of(task, torch.arange(12), _generator())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append((loss.item(), figures["tokens"]))
    assert losses[-1][0] < 0.9 * losses[0][0] and losses[-1][1] < losses[0][1]


def test_cotraining_moves_encoders_and_attention_but_no_convolution(
    scans: TrainingScans, latents: LatentCorpus
) -> None:
    torch.manual_seed(0)
    encoders = {"1": PlainEncoder(FMRIEncoder(ENCODER)), "2": PlainEncoder(FMRIEncoder(ENCODER))}
    unet = VideoUNet(tiny.UNET)
    task = CotrainTask(encoders, unet, {"1": scans, "2": scans}, latents, SCHEDULER)
    moved = set()
    for step in range(6):
        loss, _ = loss_of(task, torch.arange(3), torch.Generator().manual_seed(step))
        loss.backward()
        moved |= {n for n, p in task.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(n.startswith("encoders.1.") for n in moved) and any(n.startswith("encoders.2.") for n in moved)
    assert any(".attn_temp." in n for n in moved)
    assert not any(n.startswith("unet.") and ".conv" in n for n in moved)


def test_augmentation_silences_whole_patches_and_keeps_the_mean() -> None:
    windows = torch.ones(3000, 2, 20)
    silent = augment(windows, Patching(20, 8), drop=0.25, noise=0.0, generator=_generator())
    patches = torch.stack([silent[:, 0, :8].mean(1), silent[:, 0, 8:16].mean(1), silent[:, 0, 16:].mean(1)], 1)
    assert set(np.round(patches.unique().tolist(), 4)) == {0.0, 1.3333}
    assert torch.equal(silent[:, 0], silent[:, 1])
    assert silent.mean() == pytest.approx(1, abs=0.02)
    noisy = augment(torch.zeros(500, 2, 20), Patching(20, 8), drop=0.0, noise=0.3, generator=_generator())
    assert noisy.std() == pytest.approx(0.3, abs=0.01)
    areas = Patching(5, 2, areas=(1, 0, -1, 0, 1))
    silent = augment(torch.ones(400, 1, 5), areas, drop=0.5, noise=0.0, generator=_generator())[:, 0]
    assert torch.equal(silent[:, 0], silent[:, 4]) and torch.equal(silent[:, 1], silent[:, 3])
    assert (silent[:, 2] == 1).all() and set(silent[:, :2].unique().tolist()) == {0.0, 2.0}


def test_the_denoising_loss_weighs_channels(latents: LatentCorpus) -> None:
    generator = _generator()
    answer, target = (torch.randn(3, 4, 2, 5, 5, generator=generator) for _ in range(2))
    weights = torch.tensor([2.0, 1.0, 1.0, 0.0])
    expected = sum(w * functional.mse_loss(answer[:, c], target[:, c]) for c, w in enumerate(weights)) / 4
    torch.testing.assert_close(denoising_loss(answer, target, weights), expected)
    torch.testing.assert_close(denoising_loss(answer, target, torch.ones(4)), denoising_loss(answer, target))
    weights = latents.channel_weights
    variance = latents.latents.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(weights, variance / variance.mean())


@pytest.mark.parametrize(("image_weight", "trained"), [(0.0, "text"), (1.0, "image")])
def test_the_contrast_can_leave_images_or_texts_out(image_weight: float, trained: str) -> None:
    fmri, image, text = (functional.normalize(torch.randn(5, 4), dim=1) for _ in range(3))
    loss = contrastive_loss(fmri, image, text, torch.tensor(10.0), image_weight)
    torch.testing.assert_close(loss, info_nce(fmri, {"image": image, "text": text}[trained], 10.0))
    both = contrastive_loss(fmri, image, text, torch.tensor(10.0), 0.5)
    torch.testing.assert_close(both, 0.5 * (info_nce(fmri, image, 10.0) + info_nce(fmri, text, 10.0)))
