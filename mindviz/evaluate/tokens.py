"""Captions as condition tokens, by the checkpoint's CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindviz.encoder.clip import ClipModel, encode_captions
from mindviz.evaluate.scene import Scene


def text_tokens(model: ClipModel, captions: Sequence[str]) -> np.ndarray:
    """Tokens float32 (N, S, D) of captions; each different caption is read once."""
    vocabulary, place = np.unique(np.array(captions), return_inverse=True)
    return encode_captions(model, vocabulary.tolist()).float().numpy()[place]


def as_words(tokens: np.ndarray, captions: np.ndarray) -> np.ndarray | None:
    """The part of condition tokens (N, S, D) that speaks of captions like `captions` (M, S', D): all of it, or all but
    the layout token at its end. None where the shapes do not match."""
    length, width = captions.shape[1:]
    fits = tokens.shape[2] == width and tokens.shape[1] in (length, length + 1)
    return tokens[:, :length] if fits else None


def true_caption_tokens(scene: Scene) -> np.ndarray | None:
    """Tokens (N, S, D) of the middle frame's caption of each test clip; None without captions or CLIP."""
    if scene.clip_model is None or not scene.captions:
        return None
    return text_tokens(scene.clip_model, scene.captions)


def training_caption_tokens(scene: Scene, clips: Sequence[tuple[str, int]]) -> np.ndarray | None:
    """The mean tokens (N, S, D) of the captions of each training clip's frames; None without captions or CLIP.

    `clips` are runs and indices in them, as of `methods.training_clips`.
    """
    if scene.clip_model is None or scene.training is None:
        return None
    captions = [scene.training.captions(run, index) for run, index in clips]
    if not all(captions):
        return None
    vocabulary = sorted({c for of_clip in captions for c in of_clip})
    place = {caption: i for i, caption in enumerate(vocabulary)}
    tokens = text_tokens(scene.clip_model, vocabulary)
    return np.stack([tokens[[place[c] for c in of_clip]].mean(axis=0) for of_clip in captions])
