"""Films that no subject saw: kept, told apart from the test, and joined to the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mindviz.diffusion import LatentCodec, VAEConfig
from mindviz.diffusion.clip import ClipConfig, ClipModel
from mindviz.simulate.films import Film, make_film
from mindviz.types import MindvizError
from training.data.latents import LatentCorpus, caption_tokens, encode_frames
from training.demo import more_films
from training.demo.more_films import FIRST_SEED, with_more_films

SECONDS = 20


@pytest.fixture(scope="module")
def codec() -> LatentCodec:
    torch.manual_seed(0)
    config = VAEConfig(block_out_channels=(16,), latent_channels=4, norm_num_groups=1, patch_size=8, scaling_factor=1.0)
    return LatentCodec.from_config(config).eval()


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    torch.manual_seed(0)
    return ClipModel(ClipConfig(8, 64, 16, 8, 1, 4, 6, 8, 1, 2)).eval()


@pytest.fixture
def corpus() -> LatentCorpus:
    return LatentCorpus(
        torch.zeros(10, 4, 8, 8),
        torch.zeros(10, dtype=torch.int64),
        torch.ones(1, 6, 8),
        torch.zeros(6, 8),
        torch.arange(5),
        0.5,
    )


@pytest.fixture(scope="module")
def first() -> Film:
    return make_film("film0", FIRST_SEED, SECONDS)


def test_the_new_films_follow_the_old(
    corpus: LatentCorpus, codec: LatentCodec, clip: ClipModel, first: Film, tmp_path: Path
) -> None:
    more = with_more_films(corpus, 2, codec, clip, {}, tmp_path, SECONDS)
    assert len(more.latents) == len(more.caption_index) == 10 + 2 * 60 and more.latents.dtype == torch.float16
    torch.testing.assert_close(
        more.latents[10:70].float(), 0.5 * encode_frames(codec, first.frames), atol=2e-3, rtol=2e-3
    )
    starts = more.clip_starts[more.clip_starts >= 10]
    for shot in first.shots:
        clips = range(10 + shot.start, 10 + shot.stop - 5)
        assert set(clips) <= set(starts.tolist())  # all clips of a shot, none over a cut or the film's end
        with torch.inference_mode():
            said = caption_tokens(clip, (shot.caption,))[0]
        torch.testing.assert_close(more.tokens_of(torch.tensor([*clips]))[0], said, atol=1e-5, rtol=1e-5)
    assert int((starts < 70).sum()) == sum(s.stop - s.start - 5 for s in first.shots)
    assert more.clips(starts[:3]).dtype == torch.float32
    assert torch.equal(more.tokens[0], corpus.tokens[0]) and (more.caption_index[:10] == 0).all()


def test_films_are_drawn_once(
    corpus: LatentCorpus, codec: LatentCodec, clip: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = with_more_films(corpus, 1, codec, clip, {}, tmp_path, SECONDS)
    monkeypatch.setattr(more_films, "make_film", lambda *a: pytest.fail("drawn again"))
    again = with_more_films(corpus, 1, codec, clip, {}, tmp_path, SECONDS)
    assert again.fingerprint == drawn.fingerprint
    assert with_more_films(corpus, 0, codec, clip, {}, tmp_path) is corpus


def test_a_test_frame_or_pair_is_refused(
    corpus: LatentCorpus,
    codec: LatentCodec,
    clip: ClipModel,
    first: Film,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test = {"test1": np.concatenate([np.zeros((3, 64, 64, 3), np.uint8), first.frames[7:8]])}
    with pytest.raises(MindvizError, match=r"frame 3 of test run test1 is frame \d+ of training run film0"):
        with_more_films(corpus, 1, codec, clip, test, tmp_path, SECONDS)
    shot = first.shots[0]
    monkeypatch.setattr(more_films, "PAIRS_HELD_OUT", frozenset({(shot.object, shot.setting)}))
    with pytest.raises(MindvizError, match="film0: expected no pair that is kept for the test"):
        with_more_films(corpus, 1, codec, clip, {}, tmp_path, SECONDS)
    assert not list(tmp_path.iterdir())
