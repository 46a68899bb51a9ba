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

from mindviz.encoder import ContrastiveConfig, ContrastiveHead, EncoderConfig, FMRIEncoder, initialise_encoder
from mindviz.types import MindvizError
from training.ridge import RidgeFit, set_linear_path
from training.scans import TrainingScans, augment


@dataclass(frozen=True)
class ContrastConfig:
    """`drop` and `noise` are those of `training.scans.augment`; `token_weight` 0 is the paper's loss alone."""

    drop: float = 0.2
    noise: float = 0.3
    token_weight: float = 1.0


@dataclass(frozen=True)
class Targets:
    """Frozen embeddings of every training frame.

    Attributes
    ----------
    image : Tensor (N, E), unit vectors
    text : Tensor (captions, E), unit vectors
    tokens : Tensor (captions, S, D)
    caption_index : Tensor (N,): each frame's row in `text` and `tokens`
    """

    image: Tensor
    text: Tensor
    tokens: Tensor
    caption_index: Tensor

    def of(self, first_frame: Tensor, clip_frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Image and text embeddings (B, E) and tokens (B, S, D) of one random frame of each clip."""
        frame = first_frame + torch.randint(clip_frames, first_frame.shape, generator=generator)
        caption = self.caption_index[frame]
        return self.image[frame], self.text[caption], self.tokens[caption]


class EncoderWithHead(nn.Module):
    """The encoder and the head that takes its tokens to CLIP's space."""

    def __init__(self, encoder: FMRIEncoder, clip_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = ContrastiveHead(ContrastiveConfig(token_dim=encoder.config.token_dim, clip_dim=clip_dim))

    def forward(self, windows: Tensor, direct: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (B, T, V), tokens of the linear path (B, S, D) or 0 -> all tokens, unit vectors in CLIP's space."""
        tokens = self.encoder.attend(windows)[0] + direct
        return tokens, self.head(tokens)


def direct_tokens(config: EncoderConfig, ridge: RidgeFit | None, count: int) -> Tensor:
    """What the linear path says of each training window when fitted without it, (N, S, D); 0 where there is none."""
    if (ridge is None) != (config.linear_rank == 0):
        found = "none" if ridge is None else "one"
        raise MindvizError(
            f"expected a ridge fit where linear_rank is above 0; it is {config.linear_rank}, found {found}"
        )
    return torch.zeros(count, 1, 1) if ridge is None else ridge.unseen


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
    ) -> None:
        self.direct = direct_tokens(config, ridge, len(scans))
        encoder = FMRIEncoder(config)
        if masked_state is not None:
            initialise_encoder(encoder, masked_state)
        if ridge is not None:
            set_linear_path(encoder, ridge)
        self.config, self.scans, self.targets, self.contrast = config, scans, targets, contrast
        self.module = EncoderWithHead(encoder, targets.image.shape[1])

    def __len__(self) -> int:
        return len(self.scans)

    def description(self) -> dict[str, Any]:
        return {
            "encoder": asdict(self.config),
            "contrast": asdict(self.contrast),
            "scans": self.scans.fingerprint,
        }

    def loss(self, model: nn.Module, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        c = self.contrast
        windows = augment(self.scans.windows[indices], self.config.patch_size, c.drop, c.noise, generator)
        image, text, wanted = self.targets.of(self.scans.first_frame[indices], self.scans.clip_frames, generator)
        tokens, embedding = model(windows, self.direct[indices])
        head = self.module.head
        contrast = head.loss(tokens, image, text)
        distance = functional.mse_loss(tokens, wanted)
        hit = ((embedding @ image.T).argmax(1) == torch.arange(len(image))).float().mean()
        figures = {"contrast": contrast.item(), "tokens": distance.item(), "accuracy": hit.item()}
        return contrast + c.token_weight * distance, figures
