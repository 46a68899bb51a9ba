"""Naming: drawings are put into words, and drawn again to the caption that these and the brain's words agree on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny
from support.sketched import SKETCH, generator, make_latents
from support.tasks import loss_of

from mindviz.checkpoint.folder import CheckpointInfo, write_checkpoint
from mindviz.checkpoint.subject import SINGLE
from mindviz.decoder import Decoder
from mindviz.diffusion import LatentCodec, VideoUNet
from mindviz.diffusion.clip import ClipConfig, ClipModel, encode_captions
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.extensions.naming import Namer, NamerConfig, read_captions, write_captions
from mindviz.extensions.sketch import Naming, Sketch
from mindviz.extensions.sketched_unet import SketchedUNet
from mindviz.simulate.films import caption_phrases, make_film
from mindviz.storage import write_json
from mindviz.types import MindvizError, SamplingSettings
from training.demo.naming import NameTask
from training.demo.sketch import begin_sketch, clip_codes

CONFIG = NamerConfig(codes=12, rank=8, hidden=16)
PHRASES = (("a fox", "a fish"), ("at sea", "in snow", "at night"))
CAPTIONS = ("a fox at sea", "a fox in snow", "a fox at night", "a fish at sea", "a fish in snow", "a fish at night")
SETTINGS = SamplingSettings(num_inference_steps=2, guidance_scale=2.0, sketch_draws=4, name_sketch=True)


@pytest.fixture
def sketch() -> Sketch:
    return begin_sketch(SKETCH, make_latents())


@pytest.fixture
def namer() -> Namer:
    torch.manual_seed(0)
    return Namer(CONFIG).eval()


# ---------------------------------------------------------------------- the choice
def test_the_caption_that_words_and_drawings_agree_on(namer: Namer) -> None:
    """Against numpy: the largest sum of the two cosines; words alone would choose otherwise."""
    g = generator()
    said, drawn, candidates = (torch.randn(*shape, generator=g) for shape in ((5, 8), (5, 3, 12), (40, 8)))
    shown = np.stack([namer(d).detach().numpy().mean(0) for d in drawn])

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    scores = unit(said.numpy()) @ unit(candidates.numpy()).T
    expected = (scores + unit(shown) @ unit(candidates.numpy()).T).argmax(1)
    assert namer.name(said, drawn, candidates).tolist() == expected.tolist()
    assert expected.tolist() != scores.argmax(1).tolist()


def test_the_second_drawing_is_to_the_words_and_to_the_caption(sketch: Sketch, namer: Namer) -> None:
    """A network that tells one answer to the brain's tokens and another to the caption: what is drawn is their mean."""
    tokens, negative, candidates = torch.randn(2, 5, 8), torch.zeros(1, 5, 8), torch.randn(3, 4, 8)
    answers = torch.randn(3, 12)
    namer.name = lambda said, drawn, codes: torch.tensor([2, 0])  # type: ignore[method-assign]
    named = sketch.condition(torch.cat([candidates[[2, 0]], tokens[:, 4:]], 1))
    asked = sketch.condition(tokens)

    def clean(x: torch.Tensor, angle: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        each = [c[:, 0] for c in conditions.unbind(1)]
        which = [0 if torch.equal(c, asked) else 1 if torch.equal(c, named) else 2 for c in each]
        return answers[which][None, :, None].expand(len(x), -1, x.shape[2], -1)

    sketch.clean = clean  # type: ignore[method-assign]
    drawn = sketch.draw(tokens, negative, 2.0, torch.randn(2, 3, 12), 4, Naming(namer, candidates))
    wanted = answers[2] + 2.0 * (answers[:2].mean(0) - answers[2])
    expected = sketch.clip(wanted[None]).expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(drawn.latents, expected, atol=1e-4, rtol=1e-4)
    painted = torch.cat([(tokens[:, :4] + candidates[[2, 0]]) / 2, tokens[:, 4:]], 1)  # the layout is the brain's own
    torch.testing.assert_close(drawn.tokens, painted)


def test_a_namer_learns_what_clips_show() -> None:
    """Two captions, each with clips of its own: new clips of either are named rightly."""
    torch.manual_seed(0)
    frames = torch.randn(2, 1, 4, 8, 8).repeat_interleave(40, 1).flatten(0, 1)
    corpus = make_latents()
    corpus = replace(
        corpus,
        latents=frames + 0.3 * torch.randn(frames.shape),
        tokens=corpus.tokens[:2],
        caption_index=torch.arange(80) // 40,
        clip_starts=torch.cat([torch.arange(24), torch.arange(40, 64)]),
    )
    sketch = begin_sketch(SKETCH, corpus)
    task, g = NameTask(CONFIG, sketch, corpus), generator()
    optimizer = torch.optim.Adam(task.module.parameters(), 3e-3)
    for _ in range(150):
        loss = loss_of(task, torch.randint(len(task), (32,), generator=g), g)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = clip_codes(sketch, corpus, torch.cat([torch.arange(24, 34), torch.arange(64, 74)]))
    silent = torch.zeros(20, 8)
    chosen = task.namer.eval().name(silent, unseen[:, None], sketch.words(corpus.tokens))
    assert (chosen == torch.arange(20) // 10).float().mean() >= 0.9
    assert task.description()["namer"] == asdict(CONFIG)


def test_every_caption_of_a_film_is_a_combination_of_its_phrases() -> None:
    film, phrases = make_film("test", 3, seconds=60), caption_phrases()
    every = {f"{a} {b} {c}" for a in phrases[0] for b in phrases[1] for c in phrases[2]}
    assert set(film.captions) <= every and len(every) == 48 * 8 * 8


# ---------------------------------------------------------------------- on disk
def test_captions_come_back_as_every_combination(tmp_path: Path) -> None:
    write_captions(tmp_path, PHRASES)
    assert read_captions(tmp_path) == CAPTIONS


@pytest.mark.parametrize("content", [{}, {"phrases": []}, {"phrases": [[]]}, {"phrases": [["a", 1]]}, {"phrases": "a"}])
def test_a_file_without_phrases(tmp_path: Path, content: dict) -> None:
    write_json(tmp_path / "captions.json", content)
    with pytest.raises(MindvizError, match=r'captions\.json: expected {"phrases": \[\[a phrase, \.\.\.\]'):
        read_captions(tmp_path)


def test_too_many_captions(tmp_path: Path) -> None:
    write_captions(tmp_path, [[str(i) for i in range(400)]] * 2)
    with pytest.raises(MindvizError, match="at most 100000 combinations of phrases, found 160000"):
        read_captions(tmp_path)


def test_bad_sizes_of_a_namer() -> None:
    with pytest.raises(MindvizError, match="all sizes of a namer"):
        NamerConfig(hidden=0)


# ---------------------------------------------------------------------- in a checkpoint
@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported kind of checkpoint, of one encoder, with a sketch, a namer and a CLIP of fitting sizes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("named") / "checkpoint"
    unet = SketchedUNet.of(VideoUNet(tiny.UNET), begin_sketch(SKETCH, make_latents()))
    torch.nn.init.normal_(unet.conv_in.sketch.weight)
    encoder = EncoderConfig(num_voxels=40, embed_dim=16, depth=1, num_heads=2, num_tokens=4, token_dim=8)
    clip = ClipModel(ClipConfig(8, 16, 8, 8, 1, 4, 4, 8, 1, 2))
    info = CheckpointInfo(name="named", image_size=64, sampling=asdict(SETTINGS))
    schedule = {"_class_name": "DDIMScheduler", "clip_sample": False}
    write_checkpoint(
        folder,
        info,
        unet,
        LatentCodec.from_config(tiny.VAE),
        schedule,
        {SINGLE: FMRIEncoder(encoder)},
        clip=clip.keeping(CAPTIONS),
        naming=(Namer(CONFIG), PHRASES),
    )
    return folder


def test_a_decoder_draws_again_to_the_named_caption(checkpoint: Path) -> None:
    decoder = Decoder.load(checkpoint)
    tokens, negative = np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)
    named = decoder.decode_tokens(tokens, negative, SETTINGS).frames
    assert np.array_equal(named, decoder.decode_tokens(tokens, negative, SETTINGS).frames)
    plain = decoder.decode_tokens(tokens, negative, replace(SETTINGS, name_sketch=False)).frames
    assert not np.array_equal(named, plain)
    held = decoder.decode_tokens(tokens, negative, replace(SETTINGS, sketch_fidelity=1.0)).frames
    assert not np.array_equal(named, held)
    longer = replace(SETTINGS, sketch_fidelity=1.0, num_frames=4)  # other than the sketch's six
    assert decoder.decode_tokens(tokens, negative, longer).frames.shape == (4, 64, 64, 3)
    assert decoder.naming.candidates.shape == (6, 4, 8)
    clip = ClipModel(ClipConfig(8, 16, 8, 8, 1, 4, 4, 8, 1, 2))
    assert encode_captions(clip, CAPTIONS, batch=4).shape == (6, 4, 8)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_a_schedule_that_cannot_be_led_back_to_the_sketch_is_a_sentence(checkpoint: Path, name: str) -> None:
    decoder, tokens = Decoder.load(checkpoint), np.ones((4, 8), np.float32)
    decoder.schedule = {"_class_name": name}
    with pytest.raises(MindvizError, match="steering needs a scheduler with alphas_cumprod"):
        decoder.decode_tokens(tokens, -tokens, replace(SETTINGS, sketch_fidelity=0.5))


def test_a_checkpoint_that_cannot_name(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    without = shutil.copytree(checkpoint, tmp_path / "without")
    shutil.rmtree(without / "namer")
    tokens = np.zeros((4, 8), np.float32)
    with pytest.raises(MindvizError, match=r"settings\.name_sketch is true: expected a namer, found none"):
        Decoder.load(without).decode_tokens(tokens, tokens, SETTINGS)

    mute = shutil.copytree(checkpoint, tmp_path / "mute")
    shutil.rmtree(mute / "clip")
    with pytest.raises(MindvizError, match="expected a CLIP to read the captions with"):
        Decoder.load(mute)

    other = shutil.copytree(checkpoint, tmp_path / "other")
    config = other / "unet" / "config.json"
    content = json.loads(config.read_text())
    content["sketch"]["rank"] = 7
    write_json(config, content)
    with pytest.raises(MindvizError, match=r"expected a sketch of 12 codes and 8 .*, found \(12, 7\)"):
        Decoder.load(other)
