"""Stage 2, multimodal contrast: the fMRI embedding learns to find the picture and the caption it belongs to.

Paper section 3.2: symmetric InfoNCE against frozen image and text embeddings, half weight each. `token_weight` adds
what the demo needs and the paper leaves to co-training: the condition tokens are drawn towards the caption's own
tokens, in which the generator already speaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.encoder import ContrastiveConfig, ContrastiveHead, EncoderConfig, FMRIEncoder, info_nce, initialise_encoder
from training.data.scans import TrainingScans, augment
from training.data.targets import Targets
from training.demo.crossfit import CrossFitted, folds
from training.demo.ridge import RidgeFit, set_read_out
from training.engine.processes import WHOLE_BATCH, gathered, local


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
    """The encoder and the head that takes its tokens to CLIP's space."""

    def __init__(self, encoder: FMRIEncoder, fit: RidgeFit | None, clip_dim: int) -> None:
        super().__init__()
        self.trained = CrossFitted(encoder, fit)
        self.head = ContrastiveHead(ContrastiveConfig(token_dim=encoder.config.token_dim, clip_dim=clip_dim))

    @property
    def encoder(self) -> FMRIEncoder:
        return self.trained.encoder

    def forward(self, windows: Tensor, fold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows (B, T, V), folds (B,) -> tokens (B, S, D), unit vectors (B, E) in CLIP's space, scale of cosines."""
        tokens = self.trained(windows, fold)
        return tokens, self.head(tokens), self.head.scale


class ContrastTask:
    """Windows against the pictures and captions of the clips they saw."""

    name = "contrast"

    def __init__(
        self,
        config: EncoderConfig,
        scans: TrainingScans,
        targets: Targets,
        contrast: ContrastConfig,
        masked_state: dict[str, Tensor] | None = None,
        ridge: RidgeFit | None = None,
        correction: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.fold = folds(ridge, len(scans))
        encoder = FMRIEncoder(config)
        if masked_state is not None:
            initialise_encoder(encoder, masked_state)
        if ridge is not None:
            set_read_out(encoder, ridge)
        if correction is not None:
            encoder.readout.correction.load_state_dict(correction)
        self.config, self.scans, self.targets, self.contrast = config, scans, targets, contrast
        self.module = EncoderWithHead(encoder, ridge, targets.image.shape[1])

    def __len__(self) -> int:
        return len(self.scans)

    def description(self) -> dict[str, Any]:
        return {
            "encoder": asdict(self.config),
            "contrast": asdict(self.contrast),
            "scans": self.scans.fingerprint,
        }

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        c = self.contrast
        windows = augment(self.scans.windows[indices], self.config.patch_size, c.drop, c.noise, generator)
        image, text, wanted = self.targets.of(self.scans.first_frame[indices], self.scans.clip_frames, generator)
        windows, fold, image, text, wanted = local(model, rows, windows, self.fold[indices], image, text, wanted)
        tokens, embedding, scale = model(windows, fold)
        embedding, image, text = gathered(embedding), gathered(image), gathered(text)
        contrast = weighted_contrast(embedding, image, text, scale, c.image_weight)
        distance = functional.mse_loss(tokens[:, : wanted.shape[1]], wanted)  # a layout token has no caption
        hit = ((embedding @ image.T).argmax(1) == torch.arange(len(image), device=image.device)).float().mean()
        figures = {"contrast": contrast.item(), "tokens": distance.item(), "accuracy": hit.item()}
        return c.contrast_weight * contrast + c.token_weight * distance, figures


def weighted_contrast(fmri: Tensor, image: Tensor, text: Tensor, scale: Tensor, image_weight: float) -> Tensor:
    """Symmetric InfoNCE (paper equation 2) against images and texts (B, E), the former with `image_weight`."""
    parts = [(image_weight, image), (1 - image_weight, text)]
    return sum((w * info_nce(fmri, target, scale) for w, target in parts if w), torch.zeros(()))
