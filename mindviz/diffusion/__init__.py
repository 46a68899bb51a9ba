"""The inflated U-Net, guidance, sampling, and the parts that come from diffusers."""

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from mindviz.diffusion.codec import LatentCodec
from mindviz.diffusion.config import UNetConfig, VAEConfig
from mindviz.diffusion.guidance import Denoiser, guided
from mindviz.diffusion.parts import build_unet2d, build_vae, make_scheduler, published_schedule, unet_config
from mindviz.diffusion.sampling import StepCallback, clip_noise, initial_latents, sample
from mindviz.diffusion.video_unet import VideoUNet, attention_parameters

__all__ = [
    "Denoiser",
    "LatentCodec",
    "StepCallback",
    "UNet2DConditionModel",
    "UNetConfig",
    "VAEConfig",
    "VideoUNet",
    "attention_parameters",
    "build_unet2d",
    "build_vae",
    "clip_noise",
    "guided",
    "initial_latents",
    "make_scheduler",
    "published_schedule",
    "sample",
    "unet_config",
]
