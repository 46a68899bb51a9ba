"""The `paper` recipe: the published hyper-parameters of every stage at full size.

Where a number comes from:

- *paper*: Chen, Qing & Zhou 2023 (arXiv 2305.11675), implementation details: encoder of 24 layers of 1024 with patches
  of 16, mask ratio 0.75, 77 x 768 tokens, Stable Diffusion 1.5 tuned at 256 x 256 and 3 frames a second, 6 frames a
  clip, eight RTX 3090 for pretraining and one for the rest. It refers to MinD-Vis for all that concerns pretraining.
- *MinD-Vis*: Chen et al. 2023 (CVPR), its published settings of masked modelling, on many people and on the subject.
- *published checkpoints*: what is stored in them, or in the settings file beside them: window 2, guidance 12.5, 200
  steps, PNDM.
- *ours*: the authors published no training code for the three later stages, so their rates and lengths are choices.
  With them, in bf16 and with gradient checkpointing where it is set, every stage fits one GPU of 24 GB (`memory`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mindviz.diffusion import UNetConfig, VAEConfig
from mindviz.encoder import EncoderConfig, MaskedConfig
from mindviz.types import MindvizError, SamplingSettings
from training.engine.loop import LoopConfig
from training.stages.contrast import ContrastConfig


@dataclass(frozen=True)
class Epochs:
    """A `LoopConfig` whose lengths are counted in epochs: they become steps once the size of the data is known.

    The loop draws each batch at random with replacement; an epoch is as many draws as there are samples.
    """

    epochs: float
    batch_size: int
    lr: float
    weight_decay: float
    warmup_epochs: float
    grad_clip: float = 0.8
    accumulate: int = 1
    mixed_precision: str = "bf16"
    gradient_checkpointing: bool = False

    def loop(self, samples: int) -> LoopConfig:
        """The loop's configuration for data of `samples` samples."""
        if samples < 1:
            raise MindvizError(f"epochs need at least one sample, found {samples}")
        per_epoch = -(-samples // self.batch_size)
        return LoopConfig(
            steps=max(1, round(self.epochs * per_epoch)),
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup=max(1, round(self.warmup_epochs * per_epoch)),
            grad_clip=self.grad_clip,
            accumulate=self.accumulate,
            mixed_precision=self.mixed_precision,
            gradient_checkpointing=self.gradient_checkpointing,
        )


@dataclass(frozen=True)
class Recipe:
    """All that `python -m training.stage` must know to train on somebody's own dataset.

    Attributes
    ----------
    encoder : its number of voxels, and the number and width of its tokens, are stand-ins: the scans give the former,
        the generator's text encoder the latter.
    mask, mask_subject : masked modelling on many people, and on the target subject's training scans afterwards.
    image_size : side of the frames that the VAE sees.
    one_caption : whether clips whose captions change stay out of inflation.
    token_weight : of `CotrainTask`; 0 is the paper's loss alone.
    shared_noise, frame_positions : as in `training.demo.recipe.StagesRecipe`; the paper has neither.
    """

    encoder: EncoderConfig
    masked: MaskedConfig
    mask: Epochs | LoopConfig
    mask_subject: Epochs | LoopConfig
    contrast: Epochs | LoopConfig
    inflate: Epochs | LoopConfig
    cotrain: Epochs | LoopConfig
    contrast_config: ContrastConfig
    image_size: int
    one_caption: bool
    token_weight: float
    shared_noise: float
    frame_positions: bool
    sampling: SamplingSettings

    def masked_for(self, num_voxels: int, mask_ratio: float | None = None) -> MaskedConfig:
        """The masked model's configuration for scans of `num_voxels` voxels; another mask ratio is the ablation."""
        ratio = self.masked.mask_ratio if mask_ratio is None else mask_ratio
        encoder = replace(self.masked.encoder, num_voxels=num_voxels)
        return replace(self.masked, encoder=encoder, mask_ratio=ratio)

    def encoder_for(self, num_voxels: int, num_tokens: int, token_dim: int) -> EncoderConfig:
        """The encoder's configuration for a subject, and for a generator that takes such tokens."""
        return replace(self.encoder, num_voxels=num_voxels, num_tokens=num_tokens, token_dim=token_dim)


PAPER_ENCODER = EncoderConfig(
    num_voxels=6016,  # published checkpoints, subject 1
    patch_size=16,  # paper
    embed_dim=1024,  # paper
    depth=24,  # paper
    num_heads=16,  # MinD-Vis
    mlp_ratio=1.0,  # MinD-Vis
    window_size=2,  # paper
    num_tokens=77,  # paper
    token_dim=768,  # paper
)

_VIDEO = Epochs(
    epochs=10, batch_size=8, lr=3e-5, weight_decay=0.01, warmup_epochs=0.5, grad_clip=1.0, gradient_checkpointing=True
)

PAPER = Recipe(
    encoder=PAPER_ENCODER,
    # ratio: paper; decoder: MinD-Vis
    masked=MaskedConfig(PAPER_ENCODER, mask_ratio=0.75, decoder_dim=512, decoder_depth=8, decoder_heads=16),
    # MinD-Vis, to which the paper refers
    mask=Epochs(epochs=500, batch_size=100, lr=2.5e-4, weight_decay=0.05, warmup_epochs=40, grad_clip=0.8),
    # MinD-Vis, its tuning of the masked model on the target's scans (batch 4 there for the larger of two datasets)
    mask_subject=Epochs(epochs=15, batch_size=16, lr=5.3e-5, weight_decay=0.05, warmup_epochs=2, grad_clip=0.8),
    # ours: the rate at which MinD-Vis tunes its encoder; as many samples as give InfoNCE something to tell apart
    contrast=Epochs(
        epochs=100, batch_size=64, lr=5.3e-5, weight_decay=0.05, warmup_epochs=5, gradient_checkpointing=True
    ),
    # ours: the rate of Tune-A-Video (Wu et al. 2023), from which the paper takes its attention
    inflate=_VIDEO,
    cotrain=replace(_VIDEO, epochs=20, warmup_epochs=1),
    # the loss is the paper's, half images and half text; what is dropped and the noise are ours
    contrast_config=ContrastConfig(drop=0.2, noise=0.3, token_weight=0.0),
    image_size=256,  # paper
    one_caption=False,  # ours: captions of real films change within a shot
    token_weight=0.0,
    shared_noise=0.0,
    frame_positions=False,
    sampling=SamplingSettings(num_inference_steps=200, guidance_scale=12.5, num_frames=6),  # published checkpoints
)

# ---------------------------------------------------------------------- Stable Diffusion 1.5, as its own files say
SD15_UNET = UNetConfig(cross_attention_dim=768)
SD15_VAE = VAEConfig(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    latent_channels=4,
    sample_size=512,
    scaling_factor=0.18215,
)
SD15_SCHEDULE: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
