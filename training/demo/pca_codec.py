"""Begin a patch VAE at the principal components of its patches, in closed form.

Every residual branch starts at zero and the two group norms (one group) are held steady by a few channels of large
constant value, so that the whole network is linear to a good approximation: the encoder projects a patch on its first
principal components, the decoder rebuilds it. Training then only has to improve on that, instead of first finding it.
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
    """Mean (K,), first `count` principal directions (count, K) and standard deviations (count,) of the patches of
    frames.

    `frames` is uint8 (N, H, W, 3); K = 3 * patch_size ** 2, in the order of `LatentCodec.fold`.
    """
    pixels = rearrange(torch.from_numpy(frames), "n h w c -> n c h w")
    patches = rearrange(codec.fold(pixels), "n k h w -> (n h w) k").double()
    mean = patches.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov((patches - mean).T))
    order = variance.argsort(descending=True)[:count]
    return mean.float(), directions[:, order].T.float(), variance[order].clamp_min(0).sqrt().float()


def _set(parameter: Tensor | None, values: Tensor | float, *place: int | slice) -> None:
    """Set a parameter to zero, then the part of it at `place` to `values`."""
    assert parameter is not None
    parameter.zero_()
    parameter[place] = values


def _zero_branches(network: nn.Module) -> None:
    """Every residual branch (two-convolution blocks and attention) adds nothing at first."""
    for name, parameter in network.named_parameters():
        if ".conv2." in name or ".to_out.0." in name:
            parameter.zero_()


def _linear_norm(norm: nn.Module, width: int) -> None:
    """Undo the division of a group norm that the steady channels dominate, and shift into SiLU's linear part."""
    if not isinstance(norm, nn.GroupNorm) or norm.num_groups != 1:
        raise MindvizError(f"a VAE that begins at principal components needs norm_num_groups 1, found {norm}")
    norm.weight.fill_(STEADY * (STEADY_CHANNELS / width) ** 0.5)
    norm.bias.fill_(SHIFT)


def _tap(conv: nn.Conv2d | None, matrix: Tensor, bias: Tensor, steady: int | None = None) -> None:
    """A convolution that looks at its own place only: `matrix` (out, in) in the middle tap.

    From channel `steady` on it gives alternating constants: of mean 0, so that they set only the deviation of the norm.
    """
    assert conv is not None and conv.bias is not None
    middle = conv.kernel_size[0] // 2
    _set(conv.weight, matrix, slice(matrix.shape[0]), slice(matrix.shape[1]), middle, middle)
    _set(conv.bias, bias, slice(len(bias)))
    if steady is not None:
        conv.bias[steady : steady + STEADY_CHANNELS] = STEADY * torch.tensor([1.0, -1.0]).repeat(STEADY_CHANNELS // 2)


@torch.no_grad()
def begin_at_components(codec: LatentCodec, frames: np.ndarray, whitening: float = 0.5) -> None:
    """Set the weights of `codec` so that its latents are the principal components of the patches of `frames`.

    Parameters
    ----------
    whitening : float
        A component of standard deviation s becomes a latent of s ** (1 - whitening): 1 gives every component the same
        weight in the diffusion loss, 0 gives the small ones (edges) nearly none.
    """
    encoder, decoder, config = codec.vae.encoder, codec.vae.decoder, codec.config
    count, width = config.latent_channels, config.block_out_channels[0]
    if width < count + STEADY_CHANNELS or len(config.block_out_channels) != 1:
        raise MindvizError(
            f"a VAE that begins at principal components needs one level of at least {count + STEADY_CHANNELS} "
            f"channels, found {config.block_out_channels}"
        )
    mean, directions, deviation = patch_components(codec, frames, count)
    size = deviation.clamp_min(1e-4)[:, None] ** whitening
    into, back = directions / size, (directions * size).T
    for network in (encoder, decoder):
        _zero_branches(network)
        _linear_norm(network.conv_norm_out, width)
    variance = torch.full((count,), LOG_VARIANCE)
    _tap(encoder.conv_in, into, -into @ mean, steady=count)
    _tap(encoder.conv_out, torch.eye(count), torch.cat([torch.full((count,), -SHIFT), variance]))
    _tap(codec.vae.quant_conv, torch.eye(2 * count), torch.zeros(2 * count))
    _tap(codec.vae.post_quant_conv, torch.eye(count), torch.zeros(count))
    _tap(decoder.conv_in, torch.eye(count), torch.zeros(count), steady=count)
    _tap(decoder.conv_out, back, mean - back @ torch.full((count,), SHIFT))
