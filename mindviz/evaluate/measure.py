"""What of a report needs no judge of the demo world: pixels, pretrained classifiers, the checkpoint's own CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from tqdm import tqdm

from mindviz.diffusion.clip import ClipModel, embed_frames
from mindviz.evaluate.methods import Shown
from mindviz.evaluate.scene import Scene
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
"""What SSIM and PSNR are read against: both reward what is blurred, so a decoder must beat these."""
PICTURES = "CLIP of the checkpoint, pictures"
TOKENS = "condition tokens against the caption's"


def shared_rows(scene: Scene, shown: Shown, classifiers: Sequence[Classifier]) -> list[Row]:
    """All rows that need no judge."""
    number, shuffles = scene.options.permutations, scene.options.ssim_shuffles
    rows = pixel_rows(shown.clips, scene.trial, BASELINES, number, shuffles)
    for classifier in classifiers:
        rows += classifier_rows(classifier, scene, shown)
    return rows + picture_rows(scene, shown) + token_rows(scene, DECODED, shown.tokens)


def classifier_rows(classifier: Classifier, scene: Scene, shown: Shown) -> list[Row]:
    """N-way accuracy of every method's clips by the paper's rule."""
    wanted = papers_rule(classifier.scores(scene.trial.clips))
    rows = []
    for method, clips in tqdm(shown.clips.items(), desc=classifier.name, mininterval=5):
        scores = judge_clips(classifier, clips)
        for ways in WAYS:
            rows += n_way_rows(method, classifier.name, classifier.unit, scores, wanted, scene.trial, ways)
    return rows


def picture_rows(scene: Scene, shown: Shown) -> list[Row]:
    """CLIP similarity of every method's pictures with the true ones, and which clip the decoded ones are taken for."""
    model, trial, number = scene.clip_model, scene.trial, scene.options.permutations
    if model is None:
        return []
    true = picture_embeddings(model, trial.clips)
    rows = []
    for method, clips in shown.clips.items():
        seen = picture_embeddings(model, clips)
        rows += similarity_rows(method, PICTURES, seen, true, trial, number)
        if method == DECODED:
            rows += identification_rows(PICTURES, seen, true, trial, number)
    return rows


def token_rows(scene: Scene, method: str, tokens: np.ndarray) -> list[Row]:
    """Which clip condition tokens (N, S, D) are taken for: they are compared with those of the true captions.

    None where there are no captions, or their tokens have another shape.
    """
    wanted = true_caption_tokens(scene)
    words = None if wanted is None else as_words(tokens, wanted)
    if wanted is None or words is None:
        return []
    found, named = (flat(t) for t in (words, wanted))
    return identification_rows(TOKENS, found, named, scene.trial, scene.options.permutations, method)


def flat(tokens: np.ndarray) -> np.ndarray:
    """Tokens (N, S, D) as float64 (N, S D)."""
    return rearrange(tokens, "n s d -> n (s d)").astype(np.float64)


def picture_embeddings(model: ClipModel, clips: np.ndarray) -> np.ndarray:
    """The mean over frames of CLIP's image embeddings, float64 (N, E), of clips uint8 (N, F, H, W, 3)."""
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(clips)), "n f h w c -> (n f) c h w").float() / 255
    return reduce(embed_frames(model, pixels), "(n f) e -> n e", "mean", n=len(clips)).double().numpy()
