"""Pixels to latents and back: the only place of the models where value ranges change."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindviz.diffusion.config import VAEConfig
from mindviz.diffusion.parts import build_vae, vae_config


class LatentCodec(nn.Module):
    """A VAE for clips, frame by frame, with space-to-depth patches and scaled latents.

    Parameters
    ----------
    vae : diffusers' AutoencoderKL, whose input channels are ``3 * patch_size ** 2``.
    patch_size : side of the squares of pixels folded into channels before the first convolution.
    scaling_factor : multiplies the latents (0.18215 in the published checkpoints).
    """

    def __init__(self, vae: AutoencoderKL, patch_size: int = 1, scaling_factor: float = 0.18215) -> None:
        super().__init__()
        self.vae = vae
        self.patch_size = patch_size
        self.scaling_factor = scaling_factor

    @classmethod
    def from_config(cls, config: VAEConfig) -> LatentCodec:
        """With random weights."""
        return cls(build_vae(config), config.patch_size, config.scaling_factor)

    @property
    def config(self) -> VAEConfig:
        """The configuration that rebuilds this codec."""
        return vae_config(self.vae, self.patch_size, self.scaling_factor)

    def fold(self, pixels: Tensor) -> Tensor:
        """uint8 0..255 or float 0..1 images (N, 3, H, W) to -1..1 patches (N, 3 p p, H/p, W/p)."""
        values = pixels.float() / 127.5 - 1.0 if pixels.dtype == torch.uint8 else pixels * 2.0 - 1.0
        return F.pixel_unshuffle(values, self.patch_size) if self.patch_size > 1 else values

    def unfold(self, patches: Tensor) -> Tensor:
        """The inverse of `fold`: -1..1 patches to float 0..1 images, clipped."""
        pixels = F.pixel_shuffle(patches, self.patch_size) if self.patch_size > 1 else patches
        return (pixels / 2.0 + 0.5).clamp(0.0, 1.0)

    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latents (B, C, F, h, w) of clips (B, 3, F, H, W), uint8 0..255 or float 0..1.

        The mean of the posterior; with a `generator`, a draw from it.
        """
        frames = rearrange(pixels, "b c f h w -> (b f) c h w")
        posterior = self.vae.encode(self.fold(frames)).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        return rearrange(latents, "(b f) c h w -> b c f h w", b=pixels.shape[0]) * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Clips (B, 3, F, H, W), float 0..1, of scaled latents (B, C, F, h, w)."""
        frames = rearrange(latents / self.scaling_factor, "b c f h w -> (b f) c h w")
        pixels = self.unfold(self.vae.decode(frames).sample)
        return rearrange(pixels, "(b f) c h w -> b c f h w", b=latents.shape[0])
