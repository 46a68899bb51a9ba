"""The small CLIP: tokens, embeddings, and a vocabulary that was cut down."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mindviz.diffusion.clip import ClipConfig, ClipModel
from mindviz.types import MindvizError


def test_clip_tokens_pool_to_its_text_embedding() -> None:
    """The condition tokens are the hidden states whose end-of-text row, projected, is the text embedding."""
    torch.manual_seed(0)
    model = ClipModel(ClipConfig(8, 16, 8, 8, 1, 4, 6, 8, 1, 2)).eval()
    with torch.inference_mode():
        tokens, ids = model.text_tokens(["a red fox", "sea"]), model.token_ids(["a red fox", "sea"])
        pooled = tokens[torch.arange(2), ids.argmax(1)] @ model.clip.text_projection
        torch.testing.assert_close(functional.normalize(pooled, dim=1), model.embed_text(["a red fox", "sea"]))
        large = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        assert model.embed_image(large).norm() == pytest.approx(1, abs=1e-5)


def test_a_clip_that_keeps_some_words_says_the_same_of_them() -> None:
    torch.manual_seed(0)
    model = ClipModel(ClipConfig(8, 16, 8, 8, 1, 4, 6, 8, 1, 2)).eval()
    small = model.keeping(["a red fox", "the sea"])
    with torch.inference_mode():
        for captions in (["a red fox", "the sea"], ["a red sea", ""]):
            torch.testing.assert_close(small.text_tokens(captions), model.text_tokens(captions))
            torch.testing.assert_close(small.embed_text(captions), model.embed_text(captions))
        again = small.keeping(["the sea"])
        torch.testing.assert_close(again.embed_text(["the sea"]), model.embed_text(["the sea"]))
        torch.testing.assert_close(small.embed_text(["a red dog"]), small.embed_text(["a red cat"]))  # both unknown
    assert small.clip.token_embedding.num_embeddings == 8  # padding, six words with start and end
    with pytest.raises(MindvizError, match="kept_ids"):
        replace(model.config, kept_ids=(3, 1))
