"""The VAE of the demo model: diffusers' `AutoencoderKL` on space-to-depth patches.

With ``patch_size = 8`` the network never works at full resolution, the slowest thing a CPU can do: 64 x 64 x 3 pixels
become 8 x 8 x 192 before the first convolution. `pca_codec` sets its weights to the principal components of
the patches; here its decoder learns to do better, while the encoder, and with it every latent, stays as it is.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.diffusion import LatentCodec
from training.data.corpus import Corpus
from training.engine.batch import Batch


class Rebuild(nn.Module):
    """What is trained of a `LatentCodec`: its VAE, through which patches go there and, with noise, back."""

    def __init__(self, codec: LatentCodec) -> None:
        super().__init__()
        self.vae = codec.vae

    def forward(self, patches: Tensor, noise: Tensor) -> Tensor:
        """Patches (N, 3 p p, h, w) and noise (N, C, h', w') to add to their latents -> patches."""
        with torch.no_grad():
            latents = self.vae.encode(patches).latent_dist.mean
        return self.vae.decode(latents + noise).sample


class DecoderTask:
    """Mean squared error of the decoded patches.

    Every sample's latents get white noise of its own deviation, between 0 and `noise`: sampled latents are never exact,
    and the decoder learns to see how far off they are.
    """

    name = "codec"

    def __init__(self, codec: LatentCodec, corpus: Corpus, noise: float = 0.3) -> None:
        self.codec, self.module = codec, Rebuild(codec)
        self.corpus, self.noise = corpus, noise
        with torch.no_grad():
            self.latent_shape = codec.vae.encode(codec.fold(corpus.pixels(np.arange(1)))).latent_dist.mean.shape[1:]
        for name, parameter in codec.vae.named_parameters():
            parameter.requires_grad_(name.startswith(("decoder.", "post_quant_conv.")))

    def __len__(self) -> int:
        return len(self.corpus.frames)

    def description(self) -> dict[str, Any]:
        return {"codec": asdict(self.codec.config), "noise": self.noise, "corpus": self.corpus.fingerprint}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        level = self.noise * torch.rand(len(indices), 1, 1, 1, generator=generator)
        noise = level * torch.randn(len(indices), *self.latent_shape, generator=generator)
        return Batch({"patches": self.codec.fold(self.corpus.pixels(indices.numpy())), "noise": noise})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        patches = batch["patches"]
        error = functional.mse_loss(model(patches, batch["noise"]), patches)
        return error, {"psnr": -10 * np.log10(error.item() / 4)}
