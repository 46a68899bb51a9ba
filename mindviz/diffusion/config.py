"""Frozen configurations of the diffusion parts, and how the published configurations become these."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindviz.storage import adopt_config
from mindviz.types import MindvizError


@dataclass(frozen=True)
class UNetConfig:
    """The denoiser, 2-D and inflated alike; defaults are those of Stable Diffusion 1 (the paper's image model).

    `num_attention_heads` is a number of heads (an int, or one per level); published files store it under
    ``attention_head_dim``, as old diffusers did. `cross_attention_dim` is the width of the condition tokens.
    `frame_positions` tells the temporal attention which frame is which (sine-cosine, as in AnimateDiff, Guo et al.
    2023); the published model has none, and cannot know at the start of denoising which way time runs.
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    cross_attention_dim: int = 1280
    num_attention_heads: int | tuple[int, ...] = 8
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    act_fn: str = "silu"
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1.0
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    use_linear_projection: bool = False
    upcast_attention: bool = False
    resnet_time_scale_shift: str = "default"
    frame_positions: bool = False

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        if len(self.down_block_types) != levels or len(self.up_block_types) != levels:
            raise MindvizError(
                f"a U-Net of {levels} widths needs {levels} down and up blocks, "
                f"found {len(self.down_block_types)} and {len(self.up_block_types)}"
            )
        if any(width % self.norm_num_groups for width in self.block_out_channels):
            raise MindvizError(
                f"each width of {self.block_out_channels} must be a multiple of {self.norm_num_groups} norm groups"
            )

    @classmethod
    def from_published(cls, published: Mapping[str, Any], source: Path | str) -> tuple[UNetConfig, dict[str, Any]]:
        """From the ``config.json`` of a published 3-D (or 2-D) U-Net; also the keys without effect."""
        values = dict(published)
        for key in ("down_block_types", "up_block_types", "mid_block_type"):
            if key in values:
                values[key] = _block_types_2d(values[key])
        return adopt_config(cls, values, source, renamed=_UNET_FIELDS, fixed=_UNET_FIXED, defaults=cls())


_UNET_FIELDS = {
    field.name: field.name for field in dataclasses.fields(UNetConfig) if field.name != "num_attention_heads"
} | {"attention_head_dim": "num_attention_heads"}
_UNET_FIXED = {
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_attention_heads": None,
}


def _block_types_2d(names: Any) -> Any:
    if isinstance(names, str):
        return names.replace("3D", "2D")
    return tuple(_block_types_2d(name) for name in names)


@dataclass(frozen=True)
class VAEConfig:
    """diffusers' AutoencoderKL on space-to-depth patches; `patch_size` 1 is the published one.

    `in_channels` and `out_channels` count colours, before the patches are folded in. `scaling_factor` multiplies the
    latents, so that their standard deviation is near 1.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int = 32
    scaling_factor: float = 0.18215
    patch_size: int = 1

    def __post_init__(self) -> None:
        if self.patch_size < 1 or not self.scaling_factor > 0:
            raise MindvizError(
                f"a VAE needs patch_size >= 1 and scaling_factor > 0, found {self.patch_size} and {self.scaling_factor}"
            )

    @property
    def downscale(self) -> int:
        """Pixels along one side of a latent."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    @classmethod
    def from_published(cls, published: Mapping[str, Any], source: Path | str) -> tuple[VAEConfig, dict[str, Any]]:
        """From the ``config.json`` of a published AutoencoderKL; also the keys without effect."""
        renamed = {field.name: field.name for field in dataclasses.fields(cls) if field.name != "patch_size"}
        # force_upcast only chooses a precision for half-precision pipelines; we decode in the model's own.
        values = {key: value for key, value in published.items() if key != "force_upcast"}
        config, harmless = adopt_config(cls, values, source, renamed=renamed, fixed=_VAE_FIXED, defaults=cls())
        return config, harmless | {key: published[key] for key in ("force_upcast",) if key in published}


_VAE_FIXED = {
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}
