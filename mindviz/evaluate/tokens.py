"""Captions as condition tokens of the checkpoint's CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindviz.diffusion.clip import as_words, text_tokens
from mindviz.evaluate.setup import Setup

__all__ = ["as_words", "text_tokens", "training_caption_tokens", "true_caption_tokens"]


def true_caption_tokens(setup: Setup) -> np.ndarray | None:
    """Tokens (N, S, D) of the caption of each test clip's middle frame; None without captions or CLIP."""
    if setup.clip_model is None or not setup.captions:
        return None
    return text_tokens(setup.clip_model, setup.captions)


def training_caption_tokens(setup: Setup, clips: Sequence[tuple[str, int]]) -> np.ndarray | None:
    """The mean tokens (N, S, D) of the captions of each training clip's frames; None without captions or CLIP.

    `clips` are pairs of run and index, as from `methods.training_clips`.
    """
    if setup.clip_model is None or setup.training is None:
        return None
    captions = [setup.training.captions(run, index) for run, index in clips]
    if not all(captions):
        return None
    vocabulary = sorted({c for of_clip in captions for c in of_clip})
    place = {caption: i for i, caption in enumerate(vocabulary)}
    tokens = text_tokens(setup.clip_model, vocabulary)
    return np.stack([tokens[[place[c] for c in of_clip]].mean(axis=0) for of_clip in captions])
