"""The VAE of the demo model: diffusers' `AutoencoderKL` on space-to-depth patches, trained on frames.

With ``patch_size = 8`` the network never works at full resolution, the slowest thing a CPU can do: 64 x 64 x 3 pixels become
8 x 8 x 192 before the first convolution.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from mindviz.diffusion import LatentCodec, VAEConfig
from training.corpus import Corpus


class CodecModel(nn.Module):
    """One pass of the VAE for training: pixels in 0..1 -> reconstruction in -1..1, mean and log variance of the latents."""

    def __init__(self, codec: LatentCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, patches: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """patches [B, 3 p p, H/p, W/p] in -1..1, noise [B, C, h, w] -> (reconstruction, mean, log variance)."""
        posterior = self.codec.vae.encode(patches).latent_dist
        rebuilt = self.codec.vae.decode(posterior.mean + posterior.std * noise).sample
        return rebuilt, posterior.mean, posterior.logvar


class CodecTask:
    """Mean squared error plus a light Kullback-Leibler term (Rombach et al. 2022, section 3.1)."""

    name = "codec"

    def __init__(self, config: VAEConfig, corpus: Corpus, kl_weight: float = 1e-6) -> None:
        self.config = config
        self.module = CodecModel(LatentCodec.from_config(config))
        self.corpus = corpus
        self.kl_weight = kl_weight

    def __len__(self) -> int:
        return len(self.corpus.frames)

    def description(self) -> dict[str, Any]:
        return {"codec": asdict(self.config), "kl_weight": self.kl_weight, "corpus": self.corpus.fingerprint}

    def loss(self, model: nn.Module, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        patches = self.module.codec.fold(self.corpus.pixels(indices.numpy()))
        side = self.corpus.frames.shape[1] // self.config.downscale
        noise = torch.randn(len(patches), self.config.latent_channels, side, side, generator=generator)
        rebuilt, mean, logvar = model(patches, noise)
        error = functional.mse_loss(rebuilt, patches)
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        psnr = -10 * torch.log10(error.detach() / 4)
        return error + self.kl_weight * divergence, {"psnr": psnr.item(), "kl": divergence.item()}


@torch.inference_mode()
def encode_frames(codec: LatentCodec, frames: np.ndarray, batch: int = 256) -> Tensor:
    """Latents of uint8 frames (N, H, W, 3), unscaled: the posterior mean, (N, C, h, w) float32."""
    parts = []
    for i in range(0, len(frames), batch):
        pixels = rearrange(torch.from_numpy(frames[i : i + batch]), "n h w c -> n c h w")
        parts.append(codec.vae.encode(codec.fold(pixels)).latent_dist.mean)
    return torch.cat(parts)


def latent_scale(latents: Tensor) -> float:
    """The factor that brings the latents' standard deviation to 1 (Rombach et al. 2022, appendix G)."""
    return float(1 / latents.std())
