"""A denoiser whose clean latents are led towards something known, such as a sketch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mindviz.diffusion.guidance import Denoiser
from mindviz.types import MindvizError


def steered(
    denoiser: Denoiser, alphas_cumprod: Tensor | None, prediction_type: str, change: Callable[[Tensor], Tensor]
) -> Denoiser:
    """A denoiser that foretells other clean latents: `change` of those that `denoiser` foretells at every step.

    The remaining noise is what these leave of the noisy latents, so that any sampler may follow (ILVR does so with the
    coarse part of pictures; Choi et al. 2021). The paper has nothing like it.

    Parameters
    ----------
    alphas_cumprod : Tensor (num_train_timesteps,), of the scheduler; None for one that has none, which is refused.
    prediction_type : what `denoiser` predicts and the result does: ``"epsilon"`` or ``"v_prediction"``.
    change : clean latents (B, C, F, h, w) to clean latents of the same shape.

    Raises
    ------
    MindvizError
        For a scheduler or prediction that cannot be steered; by the denoiser, for a timestep that the schedule does not
        have, or at which noise cannot be told from what is drawn (`_parts`).
    """
    if alphas_cumprod is None:
        raise MindvizError("steering needs a scheduler with alphas_cumprod (DDIM, PNDM, Euler, …), found one without")
    shares = alphas_cumprod
    if prediction_type not in ("epsilon", "v_prediction"):
        raise MindvizError(f"steering needs a model that predicts epsilon or v_prediction, found {prediction_type!r}")

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        signal, noise = (part.to(latents) for part in _parts(shares, timestep, latents.ndim, prediction_type))
        said = denoiser(latents, timestep)
        if prediction_type == "epsilon":
            clean = change((latents - noise * said) / signal)
            return (latents - signal * clean) / noise
        clean = change(signal * latents - noise * said)
        return (signal * latents - clean) / noise  # signal * epsilon - noise * clean

    return denoise


def _parts(shares: Tensor, timestep: Tensor, ndim: int, prediction_type: str) -> tuple[Tensor, Tensor]:
    """The amplitudes of signal and noise at a timestep (), or (B,) and then shaped to multiply latents of `ndim` axes.

    Between two timesteps the ratio of the amplitudes is interpolated, as the Euler schedulers do.
    """
    timestep = torch.as_tensor(timestep).to(shares.device)
    if bool(((timestep < 0) | (timestep > len(shares) - 1)).any()):
        raise MindvizError(f"steering needs timesteps from 0 to {len(shares) - 1}, found {timestep.tolist()}")
    below = timestep.floor().long()
    share, above = shares[below], shares[(below + 1).clamp_max(len(shares) - 1)]
    ratio, ratio_above = (((1 - part) / part).sqrt() for part in (share, above))
    part = timestep - below
    share = torch.where(part > 0, 1 / (1 + (ratio + part * (ratio_above - ratio)) ** 2), share)
    nothing = (share >= 1) | (share <= 0) if prediction_type == "epsilon" else share >= 1
    if bool(nothing.any()):
        raise MindvizError(
            f"steering a model that predicts {prediction_type} needs signal and noise in its latents: the schedule "
            f"lacks one of them at timestep {timestep[nothing].flatten()[0].item():g} (a zero terminal SNR needs "
            "v_prediction)"
        )
    share = share.reshape(-1, *[1] * (ndim - 1)) if share.ndim else share
    return share.sqrt(), (1 - share).sqrt()
