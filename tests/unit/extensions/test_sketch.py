"""The sketch: drawn first, then painted; and co-training with it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import tiny
from support.sketched import SKETCH, generator, make_encoder, make_latents, make_scans
from support.tasks import loss_of

from mindviz.checkpoint.folder import read_unet_config
from mindviz.diffusion import VideoUNet, build_unet2d
from mindviz.extensions.sketch import Sketch, SketchConfig, most_typical
from mindviz.extensions.sketched_unet import SKETCH_INPUT, SketchedUNet, SketchedUNetConfig, make_unet
from mindviz.storage import config_from_dict, load_module, save_module
from mindviz.types import MindvizError, SamplingSettings
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.demo.conditions import DemoConditions, smudged
from training.demo.cotrain import CaptionedCotrainTask
from training.demo.readout import in_training
from training.demo.recipe import DEMO_PRETRAINED
from training.demo.sketch import SketchTask, begin_sketch
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


# ---------------------------------------------------------------------- the sketch
def test_codes_are_the_principal_components_of_clips(sketch: Sketch, latents: LatentCorpus) -> None:
    """Against numpy's own decomposition: what codes keep of a clip is its projection."""
    clips = latents.clips(latents.clip_starts)[:, :2]
    flat = clips.flatten(1).numpy()
    _, _, directions = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    wanted = flat.mean(0) + (flat - flat.mean(0)) @ directions[:12].T @ directions[:12]
    codes = sketch.codes(latents.clips(latents.clip_starts))
    kept = sketch.clip(codes).flatten(1).numpy()
    assert ((flat - kept) ** 2).sum() < 1.05 * ((flat - wanted) ** 2).sum()  # the randomized one is nearly as good
    assert codes.var(0).mean() == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(sketch.codes(sketch.clip(codes)), codes, atol=1e-3, rtol=1e-3)


def test_the_layout_is_the_first_codes(sketch: Sketch, latents: LatentCorpus) -> None:
    clips = latents.clips(latents.clip_starts[:5])
    expected = (clips[:, :2].flatten(1) - sketch.clip_mean) @ sketch.clip_directions[:8].T / sketch.clip_scale[0]
    torch.testing.assert_close(sketch.layout(clips), expected)


def test_a_drawing_of_a_known_answer(sketch: Sketch) -> None:
    """A network that always tells the same codes draws these, whatever the noise; guidance goes beyond them."""
    tokens, negative = torch.randn(2, 4, 8), torch.zeros(1, 4, 8)
    told, other = torch.randn(12), torch.randn(12)
    asked = sketch.condition(tokens)

    def clean(x: torch.Tensor, angle: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        assert torch.equal(conditions[:, 0, 0], asked) and not torch.equal(conditions[:, 1, 0], asked)
        return torch.stack([told, other])[None, :, None].expand(len(x), -1, x.shape[2], -1)

    sketch.clean = clean  # type: ignore[method-assign]
    for scale in (1.0, 3.0):
        drawn = sketch.draw(tokens, negative, scale, torch.randn(2, 3, 12), num_inference_steps=4).latents
        expected = sketch.clip((other + scale * (told - other))[None]).expand(2, -1, -1, -1, -1)
        torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=1e-4)


def test_what_drawings_share_is_found_once_and_alike(sketch: Sketch) -> None:
    """Broadcast over drawings and conditions, the network says of each pair what it says of it alone."""
    noisy, condition, angle = torch.randn(2, 3, 12), torch.randn(2, 4, 17), torch.tensor(0.7)
    together = sketch.clean(noisy[:, None], angle, condition[:, :, None])
    assert together.shape == (2, 4, 3, 12)
    for b, c, n in itertools.product(range(2), range(4), range(3)):
        alone = sketch.clean(noisy[b, n][None], angle[None], condition[b, c][None])[0]
        torch.testing.assert_close(together[b, c, n], alone, atol=1e-5, rtol=1e-5)


def test_the_layout_token_speaks_and_may_be_missing(sketch: Sketch) -> None:
    words, layout = torch.randn(2, 4, 8), torch.randn(2, 1, 8)
    alone, both = sketch.condition(words), sketch.condition(torch.cat([words, layout], 1))
    assert torch.equal(alone[:, :8], both[:, :8])
    assert torch.equal(alone[:, 8:], torch.zeros(2, 9))
    assert torch.equal(both[:, 8:], torch.cat([layout[:, 0], torch.ones(2, 1)], 1))


def test_it_learns_to_draw_what_captions_say(latents: LatentCorpus) -> None:
    """Two captions, each with its own clip: what is drawn of a caption is its clip, not the other's."""
    torch.manual_seed(0)
    frames = torch.randn(2, 1, 4, 8, 8).repeat_interleave(40, 1).flatten(0, 1)
    frames = frames + 0.01 * torch.randn(frames.shape)
    corpus = replace(
        latents,
        latents=frames,
        tokens=latents.tokens[:2],
        caption_index=torch.arange(80) // 40,
        clip_starts=torch.cat([torch.arange(34), torch.arange(40, 74)]),
    )
    sketch = begin_sketch(SKETCH, corpus)
    task, g = SketchTask(sketch, corpus), generator()
    optimizer = torch.optim.Adam(sketch.parameters(), 3e-3)
    for _ in range(300):
        loss = loss_of(task, torch.randint(len(task), (32,), generator=g), g, sketch)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = sketch.draw(corpus.tokens, corpus.empty_tokens[None], 1.0, torch.randn(2, 4, 12, generator=g)).latents
    true = corpus.clips(torch.tensor([0, 40]))[:, :2]
    distances = torch.cdist(drawn.flatten(1), true.flatten(1))
    assert (distances.argmin(1) == torch.tensor([0, 1])).all()
    assert distances.diagonal().max() < 0.3 * distances[0, 1]


def test_the_most_typical_drawing_is_the_mean_of_the_larger_cluster() -> None:
    g = generator()
    many, few = 3 + 0.1 * torch.randn(7, 5, generator=g), -3 + 0.1 * torch.randn(4, 5, generator=g)
    found = most_typical(torch.stack([torch.cat([few, many]), torch.cat([many, few])]))
    off = (found - many.mean(0)).norm(dim=1)
    assert (off < 0.5 * (many - many.mean(0)).norm(dim=1).mean()).all()  # nearer to the middle than a drawing is
    torch.testing.assert_close(found[0], found[1])  # in whatever order they come
    assert torch.equal(most_typical(many[None, :1]), many[:1])
    for count in (3, 4):  # the first lies apart from all others
        apart = torch.cat([torch.full((1, 1, 5), 9.0), torch.randn(1, count - 1, 5, generator=g)], 1)
        assert most_typical(apart).max() < 5


def test_of_many_drawings_the_typical_one_is_kept(sketch: Sketch) -> None:
    tokens, negative, noise = torch.randn(2, 4, 8), torch.zeros(1, 4, 8), torch.randn(2, 6, 12)
    each = [sketch.draw(tokens, negative, 2.0, noise[:, i : i + 1]).latents for i in range(6)]
    kept = sketch.draw(tokens, negative, 2.0, noise).latents
    drawn = torch.stack([sketch.codes(latents) * sketch.clip_scale for latents in each], 1)
    expected = sketch.clip(most_typical(drawn) / sketch.clip_scale)
    torch.testing.assert_close(kept, expected, atol=1e-3, rtol=1e-3)
    same = drawn[:, :1].expand(-1, 6, -1)
    torch.testing.assert_close(most_typical(same), same[:, 0])


def test_latents_held_to_a_drawing_show_it(sketch: Sketch) -> None:
    latents, drawn = torch.randn(2, 4, 6, 8, 8), sketch.clip(torch.randn(2, 12))
    assert torch.equal(sketch.held(latents, drawn, 0.0), latents)
    shown = sketch.held(latents, drawn, 1.0)
    torch.testing.assert_close(sketch.clip(sketch.codes(shown)), drawn, atol=1e-4, rtol=1e-4)
    assert torch.equal(shown[:, 2:], latents[:, 2:])  # channels that are not drawn
    rest = [z[:, :2] - sketch.clip(sketch.codes(z)) for z in (latents, shown)]
    torch.testing.assert_close(rest[0], rest[1], atol=1e-4, rtol=1e-4)  # and what the codes do not tell
    half = sketch.held(latents, drawn, 0.5)
    torch.testing.assert_close(half, (latents + shown) / 2, atol=1e-5, rtol=1e-5)
    assert sketch.held(torch.randn(2, 4, 9, 4, 4), drawn, 0.5).shape == (2, 4, 9, 4, 4)


@pytest.mark.parametrize("changes", [{"codes": 4}, {"channels": 5}, {"depth": 0}])
def test_bad_sizes_of_a_sketch(changes: dict) -> None:
    with pytest.raises(MindvizError):
        replace(SKETCH, **changes)


# ---------------------------------------------------------------------- the U-Net that paints it
@pytest.fixture
def plain() -> VideoUNet:
    torch.manual_seed(0)
    return VideoUNet.inflate(build_unet2d(tiny.UNET)).eval()


def test_untrained_it_paints_as_before(plain: VideoUNet, sketch: Sketch) -> None:
    model = SketchedUNet.of(plain, sketch).eval()
    x, t, tokens = torch.randn(2, 4, 6, 8, 8), torch.tensor([7, 400]), torch.randn(2, 5, 8)
    drawn = torch.randn(2, 2, 6, 8, 8)
    assert torch.equal(model(x, t, tokens, drawn), plain(x, t, tokens[:, :4]))
    torch.nn.init.normal_(model.conv_in.sketch.weight)
    assert not torch.equal(model(x, t, tokens, drawn), plain(x, t, tokens[:, :4]))
    shared = model.painting(drawn)(torch.cat([x, x]), torch.cat([t, t]), torch.cat([tokens, tokens]))
    torch.testing.assert_close(shared[2:], model(x, t, tokens, drawn), atol=1e-5, rtol=1e-5)
    longer = torch.randn(2, 4, 8, 8, 8)
    assert model(longer, t, tokens, drawn).shape == longer.shape  # the sketch is stretched
    with pytest.raises(MindvizError, match="a sketch for each of 2 clips, found none"):
        model(x, t, tokens)


def test_only_the_new_way_in_is_trained_beside_attention(plain: VideoUNet, sketch: Sketch, latents) -> None:
    video = SketchedUNet.of(plain, sketch)
    task = VideoTask(video, latents, SCHEDULER, conditions=DemoConditions(video, latents), also=(SKETCH_INPUT,))
    trained = {name for name, p in task.module.named_parameters() if p.requires_grad}
    assert {"conv_in.sketch.weight", "conv_in.sketch.bias"} <= trained
    assert not any(name.startswith("sketch.") for name in trained) and "conv_in.weight" not in trained
    loss_of(task, torch.arange(4), generator())[0].backward()
    assert task.module.conv_in.sketch.weight.grad.abs().max() > 0


def test_smudges_are_noise_on_codes(sketch: Sketch, latents: LatentCorpus) -> None:
    clips = latents.clips(latents.clip_starts[:64])
    drawn = smudged(sketch, clips, generator())
    rest = (sketch.codes(torch.cat([drawn, clips[:, 2:]], 1)) - sketch.codes(clips)).std(1)
    assert rest.max() < 0.5 * 2 and rest.min() < 0.1  # levels from none to half


def test_a_model_with_a_sketch_is_stored_whole(plain: VideoUNet, sketch: Sketch, tmp_path) -> None:
    model = SketchedUNet.of(plain, sketch)
    save_module(tmp_path, model, model.config)
    config = read_unet_config(tmp_path)
    assert config == model.config and isinstance(config.sketch, SketchConfig)
    twin = make_unet(config)
    load_module(tmp_path, twin)
    for name, tensor in model.state_dict().items():
        assert torch.equal(twin.state_dict()[name], tensor), name
    with pytest.raises(MindvizError, match="sketch: expected exactly the keys of SketchConfig, found missing"):
        values = {"sketch": {"words": 4}}
        config_from_dict(SketchedUNetConfig, {**vars(config), **values}, "unet.json")


def test_guidance_of_a_sketch_is_a_finite_number() -> None:
    with pytest.raises(MindvizError, match="sketch_guidance must be finite"):
        SamplingSettings(sketch_guidance=math.nan)


# ---------------------------------------------------------------------- co-training
def test_co_training_with_sketches_and_captions(
    plain: VideoUNet, sketch: Sketch, scans: TrainingScans, latents: LatentCorpus
) -> None:
    encoder, fit = make_encoder(scans, latents)
    seen = []
    for rate in (0.0, 1.0):
        trained = {"1": in_training(encoder, fit)}
        video = SketchedUNet.of(plain, sketch)
        task = CaptionedCotrainTask(trained, video, {"1": scans}, latents, SCHEDULER, caption_rate=rate)
        loss, figures = loss_of(task, torch.arange(4), generator())
        loss.backward()
        seen.append(figures["tokens"])
        assert task.module.unet.conv_in.sketch.weight.grad.abs().max() > 0
    assert seen[0] > 0 and seen[1] == 0
