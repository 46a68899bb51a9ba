"""Metrics with their chance levels and baselines. All on arrays: clips are uint8 (N, F, H, W, 3)."""

from mindviz.metrics.identification import Identification, cosine_similarity, identify
from mindviz.metrics.inference import Permutation, bootstrap_interval, permutation_test, shuffled_by_shot
from mindviz.metrics.nway import n_way_chance, n_way_top_k, top_classes
from mindviz.metrics.pixels import SSIMWindow, grey_clip, mean_clip, psnr, ssim
from mindviz.metrics.scores import Chance, Score, chance_levels, label_score, mean_score

__all__ = [
    "Chance",
    "Identification",
    "Permutation",
    "SSIMWindow",
    "Score",
    "bootstrap_interval",
    "chance_levels",
    "cosine_similarity",
    "grey_clip",
    "identify",
    "label_score",
    "mean_clip",
    "mean_score",
    "n_way_chance",
    "n_way_top_k",
    "permutation_test",
    "psnr",
    "shuffled_by_shot",
    "ssim",
    "top_classes",
]
