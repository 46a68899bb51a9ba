"""Stage 2, multimodal contrast: the fMRI embedding learns to find the picture and the caption it belongs to.

Paper section 3.2: symmetric InfoNCE against frozen image and text embeddings, half weight each. `token_weight` adds
what the demo needs and the paper leaves to co-training: the condition tokens are drawn towards the caption's own
tokens, in which the generator already speaks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.encoder import ContrastiveConfig, ContrastiveHead, FMRIEncoder, contrastive_loss
from training.data.scans import TrainingScans, augment
from training.data.targets import Targets
from training.engine.batch import Batch
from training.engine.processes import gathered
from training.stages.encoders import PlainEncoder


@dataclass(frozen=True)
class ContrastConfig:
    """`drop` and `noise` are those of `training.data.scans.augment`.

    `image_weight` is the images' share of the contrast, half in the paper; 0 is text only, 1 images only. The paper's
    loss alone has `contrast_weight` 1 and `token_weight` 0.
    """

    drop: float = 0.2
    noise: float = 0.3
    image_weight: float = 0.5
    contrast_weight: float = 1.0
    token_weight: float = 1.0


class EncoderWithHead(nn.Module):
    """An encoder in training and the head that takes its tokens to CLIP's space."""

    def __init__(self, trained: PlainEncoder, clip_dim: int) -> None:
        super().__init__()
        self.trained = trained
        token_dim = trained.encoder.config.token_dim
        self.head = ContrastiveHead(ContrastiveConfig(token_dim=token_dim, clip_dim=clip_dim))

    @property
    def encoder(self) -> FMRIEncoder:
        return self.trained.encoder

    def forward(self, windows: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows (B, T, V) of indices (B,) -> tokens (B, S, D), unit vectors (B, E) in CLIP's space, scale."""
        tokens = self.trained(windows, which)
        return tokens, self.head(tokens), self.head.scale


class ContrastTask:
    """Windows against the pictures and captions of the clips they saw."""

    name = "contrast"

    def __init__(self, encoder: PlainEncoder, scans: TrainingScans, targets: Targets, contrast: ContrastConfig) -> None:
        self.scans, self.targets, self.contrast = scans, targets, contrast
        self.config = encoder.encoder.config
        self.module = EncoderWithHead(encoder, targets.image.shape[1])

    def __len__(self) -> int:
        return len(self.scans)

    def description(self) -> dict[str, Any]:
        return {
            "encoder": asdict(self.config),
            "contrast": asdict(self.contrast),
            "scans": self.scans.fingerprint,
        }

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        c = self.contrast
        windows = augment(self.scans.windows[indices], self.config.patching, c.drop, c.noise, generator)
        image, text, wanted = self.targets.of(self.scans.first_frame[indices], self.scans.clip_frames, generator)
        return Batch({"windows": windows, "which": indices, "image": image, "text": text, "wanted": wanted})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        c, wanted = self.contrast, batch["wanted"]
        tokens, embedding, scale = model(batch["windows"], batch["which"])
        embedding, image, text = gathered(embedding), gathered(batch["image"]), gathered(batch["text"])
        contrast = contrastive_loss(embedding, image, text, scale, c.image_weight)
        distance = functional.mse_loss(tokens[:, : wanted.shape[1]], wanted)  # a layout token has no caption
        hit = ((embedding @ image.T).argmax(1) == torch.arange(len(image), device=image.device)).float().mean()
        figures = {"contrast": contrast.item(), "tokens": distance.item(), "accuracy": hit.item()}
        return c.contrast_weight * contrast + c.token_weight * distance, figures
