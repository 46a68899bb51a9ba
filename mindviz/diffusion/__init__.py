"""The inflated U-Net, guidance, sampling, and the parts that come from diffusers."""

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from .codec import LatentCodec
from .config import UNetConfig, VAEConfig
from .guidance import Denoiser, guided
from .parts import build_unet2d, build_vae, make_scheduler, published_schedule, unet_config
from .sampling import Progress, initial_latents, sample
from .video_unet import VideoUNet, attention_parameters

__all__ = [
    "Denoiser",
    "LatentCodec",
    "Progress",
    "UNet2DConditionModel",
    "UNetConfig",
    "VAEConfig",
    "VideoUNet",
    "attention_parameters",
    "build_unet2d",
    "build_vae",
    "guided",
    "initial_latents",
    "make_scheduler",
    "published_schedule",
    "sample",
    "unet_config",
]
