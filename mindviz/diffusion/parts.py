"""The pretrained kinds of parts, built from our configurations: the image U-Net, the VAE, the noise schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from mindviz.diffusion.config import UNetConfig, VAEConfig
from mindviz.storage import config_from_dict
from mindviz.types import MindvizError


def build_unet2d(config: UNetConfig) -> UNet2DConditionModel:
    """diffusers' image U-Net with random weights."""
    return UNet2DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        center_input_sample=config.center_input_sample,
        flip_sin_to_cos=config.flip_sin_to_cos,
        freq_shift=config.freq_shift,
        down_block_types=config.down_block_types,
        up_block_types=config.up_block_types,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        downsample_padding=config.downsample_padding,
        mid_block_scale_factor=config.mid_block_scale_factor,
        act_fn=config.act_fn,
        norm_num_groups=config.norm_num_groups,
        norm_eps=config.norm_eps,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.num_attention_heads,  # diffusers kept the old name; it means a number of heads
        use_linear_projection=config.use_linear_projection,
        upcast_attention=config.upcast_attention,
        resnet_time_scale_shift=config.resnet_time_scale_shift,
    )


def unet_config(unet: UNet2DConditionModel) -> UNetConfig:
    """The configuration of an image U-Net of diffusers, refused if it has parts that we would not rebuild."""
    known = UNetConfig.__dataclass_fields__
    values: dict[str, Any] = {name: unet.config[name] for name in known if name in unet.config}
    values["num_attention_heads"] = unet.config["attention_head_dim"]
    values["frame_positions"] = False  # an image has none
    config = config_from_dict(UNetConfig, values, "the image U-Net")
    expected = {name: tuple(tensor.shape) for name, tensor in build_unet2d(config).state_dict().items()}
    if expected != {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}:
        raise MindvizError("the image U-Net has parts that an inflated U-Net does not know (see UNetConfig)")
    return config


def build_vae(config: VAEConfig) -> AutoencoderKL:
    """diffusers' AutoencoderKL with random weights; its input channels hold whole patches (space to depth)."""
    folded = config.patch_size**2
    return AutoencoderKL(
        in_channels=config.in_channels * folded,
        out_channels=config.out_channels * folded,
        down_block_types=config.down_block_types,
        up_block_types=config.up_block_types,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        act_fn=config.act_fn,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        sample_size=config.sample_size,
        scaling_factor=config.scaling_factor,
    )


def vae_config(vae: AutoencoderKL, patch_size: int, scaling_factor: float) -> VAEConfig:
    """The configuration of a VAE of diffusers that takes patches of `patch_size`."""
    values: dict[str, Any] = {name: vae.config[name] for name in VAEConfig.__dataclass_fields__ if name in vae.config}
    values |= {"patch_size": patch_size, "scaling_factor": scaling_factor}
    for name in ("in_channels", "out_channels"):
        values[name] //= patch_size**2
    return config_from_dict(VAEConfig, values, "the VAE")


def make_scheduler(config: Mapping[str, Any]) -> Any:
    """Any scheduler of diffusers from its own configuration; ``_class_name`` says which.

    Raises
    ------
    MindvizError
        If ``_class_name`` names no scheduler of diffusers, or if it cannot be made with these options.
    """
    name = config.get("_class_name")
    cls: Any = getattr(diffusers, str(name), None)
    known = isinstance(cls, type) and issubclass(cls, SchedulerMixin)
    if not known:
        raise MindvizError(
            f"the scheduler configuration: expected _class_name of a diffusers scheduler, found {name!r}"
        )
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    # diffusers drops the options of other scheduler classes in the same file, with a warning that helps nobody
    logger = logging.getLogger("diffusers.configuration_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return cls.from_config(options)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        reason = str(error).partition("\n")[0]
        raise MindvizError(
            f"the scheduler configuration: expected options of {name}, found {options}: {reason}"
        ) from error
    finally:
        logger.setLevel(level)


def published_schedule(config: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """A published schedule as the authors' pipeline runs it: ``steps_offset`` 1 and ``clip_sample`` False, always.

    Parameters
    ----------
    name : ``"ddim"`` or ``"pndm"`` runs that scheduler, whatever class the file names; empty keeps the file's class.
    """
    classes = {"ddim": "DDIMScheduler", "pndm": "PNDMScheduler"}
    kind = name.lower().removesuffix("scheduler")
    if name and kind not in classes:
        raise MindvizError(f"the sampling settings: expected scheduler to be ddim or pndm, found {name!r}")
    fixed = dict(config)
    if name:
        fixed["_class_name"] = classes[kind]
    if fixed.get("_class_name") in classes.values():
        fixed["steps_offset"] = 1
    if fixed.get("_class_name") == "DDIMScheduler":
        fixed["clip_sample"] = False
    return fixed
