"""Named, frozen configurations of everything that is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from typing import Any

from mindviz.diffusion import UNetConfig, VAEConfig
from mindviz.encoder.clip import ClipConfig
from training.loop import LoopConfig


@dataclass(frozen=True)
class FoundationRecipe:
    """The parts that the paper takes pretrained, and that no hub gives us here: VAE, CLIP and text-to-image U-Net."""

    codec: VAEConfig
    codec_loop: LoopConfig
    clip: ClipConfig
    clip_loop: LoopConfig
    unet: UNetConfig
    scheduler: dict[str, Any]
    image_loop: LoopConfig


DEMO_FOUNDATION = FoundationRecipe(
    codec=VAEConfig(
        block_out_channels=(128,),
        layers_per_block=1,
        latent_channels=32,
        norm_num_groups=1,
        sample_size=64,
        patch_size=8,
        scaling_factor=1.0,
    ),
    codec_loop=LoopConfig(
        steps=3000, batch_size=32, lr=1.5e-3, weight_decay=0.0, warmup=100, ema_decay=0.995, save_every=1000
    ),
    clip=ClipConfig(patch_size=16, vision_width=128, vision_layers=3, vision_head_width=32, text_layers=2),
    clip_loop=LoopConfig(steps=1200, batch_size=96, lr=1e-3, weight_decay=0.05, warmup=100, save_every=500),
    unet=UNetConfig(
        sample_size=8,
        in_channels=32,
        out_channels=32,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(96, 192, 256),
        layers_per_block=1,
        cross_attention_dim=128,
        num_attention_heads=4,
    ),
    scheduler={
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    },
    image_loop=LoopConfig(
        steps=3000, batch_size=32, lr=4e-4, weight_decay=0.01, warmup=150, ema_decay=0.997, save_every=250
    ),
)
