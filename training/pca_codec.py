"""Begin a patch VAE at the principal components of its patches, in closed form.

Every residual branch starts at zero and the two group norms (one group) are held steady by a few channels of large constant
value, so that the whole network is linear to a good approximation: the encoder projects a patch on its first principal
components, the decoder rebuilds it. Training then only has to improve on that, instead of first finding it.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from mindviz.diffusion import LatentCodec
from mindviz.types import MindvizError

STEADY = 20.0  # value of the constant channels; the signals beside them have a standard deviation near 1
STEADY_CHANNELS = 16
SHIFT = 10.0  # SiLU is the identity within 1e-3 around here
LOG_VARIANCE = -6.0


def patch_components(codec: LatentCodec, frames: np.ndarray, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (K,), first `count` principal directions (count, K) and standard deviations (count,) of the patches of frames.

    `frames` is uint8 (N, H, W, 3); K = 3 * patch_size ** 2, in the order of `LatentCodec.fold`.
    """
    pixels = rearrange(torch.from_numpy(frames), "n h w c -> n c h w")
    patches = rearrange(codec.fold(pixels), "n k h w -> (n h w) k").double()
    mean = patches.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov((patches - mean).T))
    order = variance.argsort(descending=True)[:count]
    return mean.float(), directions[:, order].T.float(), variance[order].clamp_min(0).sqrt().float()


def _zero_branches(network: nn.Module) -> None:
    """Every residual branch (two-convolution blocks and attention) adds nothing at first."""
    for name, module in network.named_modules():
        if name.endswith("conv2") or name.endswith("to_out.0"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def _linear_norm(norm: nn.GroupNorm, width: int) -> None:
    """Undo the division of a group norm that the steady channels dominate, and shift into SiLU's linear part."""
    if norm.num_groups != 1:
        raise MindvizError(
            f"a VAE that begins at principal components needs norm_num_groups 1, found {norm.num_groups}"
        )
    deviation = STEADY * (STEADY_CHANNELS / width) ** 0.5
    nn.init.constant_(norm.weight, deviation)
    nn.init.constant_(norm.bias, SHIFT)


def _tap(conv: nn.Conv2d, matrix: Tensor, bias: Tensor) -> None:
    """A convolution that looks at its own place only: `matrix` (out, in) in the middle tap."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    middle = conv.kernel_size[0] // 2
    with torch.no_grad():
        conv.weight[: matrix.shape[0], : matrix.shape[1], middle, middle] = matrix
        conv.bias[: len(bias)] = bias


def _steady(conv: nn.Conv2d, first: int) -> None:
    """Alternating constants from channel `first` on: mean 0, so that they set only the deviation of the norm."""
    signs = torch.tensor([1.0, -1.0]).repeat(STEADY_CHANNELS // 2)
    with torch.no_grad():
        conv.bias[first : first + STEADY_CHANNELS] = STEADY * signs


@torch.no_grad()
def begin_at_components(codec: LatentCodec, frames: np.ndarray, whitening: float = 0.5) -> None:
    """Set the weights of `codec` so that its latents are the principal components of the patches of `frames`.

    Parameters
    ----------
    whitening : float
        A component of standard deviation s becomes a latent of s ** (1 - whitening): 1 gives every component the same
        weight in the diffusion loss, 0 gives the small ones (edges) nearly none.
    """
    encoder, decoder = codec.vae.encoder, codec.vae.decoder
    count, width = codec.vae.config.latent_channels, encoder.conv_in.out_channels
    if width < count + STEADY_CHANNELS or len(codec.vae.config.block_out_channels) != 1:
        raise MindvizError(
            f"a VAE that begins at principal components needs one level of at least {count + STEADY_CHANNELS} channels, "
            f"found {codec.vae.config.block_out_channels}"
        )
    mean, directions, deviation = patch_components(codec, frames, count)
    into = directions / deviation.clamp_min(1e-4)[:, None] ** whitening
    back = directions * deviation.clamp_min(1e-4)[:, None] ** whitening
    for network in (encoder, decoder):
        _zero_branches(network)
        _linear_norm(network.conv_norm_out, width)
    _tap(encoder.conv_in, into, -into @ mean)
    _steady(encoder.conv_in, count)
    _tap(encoder.conv_out, torch.eye(count), torch.full((count,), -SHIFT))
    encoder.conv_out.bias[count:] = LOG_VARIANCE
    _tap(codec.vae.quant_conv, torch.eye(2 * count), torch.zeros(2 * count))
    _tap(codec.vae.post_quant_conv, torch.eye(count), torch.zeros(count))
    _tap(decoder.conv_in, torch.eye(count), torch.zeros(count))
    _steady(decoder.conv_in, count)
    _tap(decoder.conv_out, back.T, mean - back.T @ torch.full((count,), SHIFT))
