"""The rows that need no judge of the demo world: pixels, pretrained classifiers, the checkpoint's own CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from tqdm import tqdm

from mindviz.diffusion.clip import ClipModel, embed_frames
from mindviz.evaluate.methods import MethodClips
from mindviz.evaluate.setup import Setup
from mindviz.evaluate.tokens import as_words, true_caption_tokens
from mindviz.metrics.classifiers import WAYS, Classifier, judge_clips
from mindviz.metrics.rows import (
    DECODED,
    Row,
    identification_rows,
    n_way_rows,
    papers_rule,
    pixel_rows,
    similarity_rows,
)

BASELINES = ("grey frame", "mean training video")
"""The baselines for SSIM and PSNR: both reward blur, so a decoder must beat these."""
PICTURES = "CLIP of the checkpoint, pictures"
TOKENS = "condition tokens against the caption's"


def shared_rows(setup: Setup, made: MethodClips, classifiers: Sequence[Classifier]) -> list[Row]:
    """All rows that need no judge."""
    number, shuffles = setup.options.permutations, setup.options.ssim_shuffles
    rows = pixel_rows(made.clips, setup.test_set, BASELINES, number, shuffles)
    for classifier in classifiers:
        rows += classifier_rows(classifier, setup, made)
    return rows + picture_rows(setup, made) + token_rows(setup, DECODED, made.tokens)


def classifier_rows(classifier: Classifier, setup: Setup, made: MethodClips) -> list[Row]:
    """N-way accuracy of every method's clips by the paper's rule."""
    wanted = papers_rule(classifier.scores(setup.test_set.clips))
    rows = []
    for method, clips in tqdm(made.clips.items(), desc=classifier.name, mininterval=5):
        scores = judge_clips(classifier, clips)
        for ways in WAYS:
            rows += n_way_rows(method, classifier.name, classifier.unit, scores, wanted, setup.test_set, ways)
    return rows


def picture_rows(setup: Setup, made: MethodClips) -> list[Row]:
    """CLIP similarity of every method's frames to the true ones, and identification of the decoded clips."""
    model, test_set, number = setup.clip_model, setup.test_set, setup.options.permutations
    if model is None:
        return []
    true = picture_embeddings(model, test_set.clips)
    rows = []
    for method, clips in made.clips.items():
        seen = picture_embeddings(model, clips)
        rows += similarity_rows(method, PICTURES, seen, true, test_set, number)
        if method == DECODED:
            rows += identification_rows(PICTURES, seen, true, test_set, number)
    return rows


def token_rows(setup: Setup, method: str, tokens: np.ndarray) -> list[Row]:
    """Identification of clips from condition tokens (N, S, D), compared with those of the true captions.

    Empty if there are no captions, or their tokens have another shape.
    """
    wanted = true_caption_tokens(setup)
    words = None if wanted is None else as_words(tokens, wanted)
    if wanted is None or words is None:
        return []
    found, named = (flat(t) for t in (words, wanted))
    return identification_rows(TOKENS, found, named, setup.test_set, setup.options.permutations, method)


def flat(tokens: np.ndarray) -> np.ndarray:
    """Tokens (N, S, D) flattened to float64 (N, S D)."""
    return rearrange(tokens, "n s d -> n (s d)").astype(np.float64)


def picture_embeddings(model: ClipModel, clips: np.ndarray) -> np.ndarray:
    """CLIP image embeddings of clips uint8 (N, F, H, W, 3), averaged over frames: float64 (N, E)."""
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(clips)), "n f h w c -> (n f) c h w").float() / 255
    return reduce(embed_frames(model, pixels), "(n f) e -> n e", "mean", n=len(clips)).double().numpy()
