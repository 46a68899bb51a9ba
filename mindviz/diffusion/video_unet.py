"""The inflated U-Net: diffusers' image U-Net with the frames of a clip folded into its batch (paper section 3.3).

No block is copied. Four parts of the image model are changed in place, and each needs only to know how many frames a
clip has: its self-attention, its cross-attention (which shares keys among frames), its transformer blocks (a temporal
attention follows each) and its group norms (which take their statistics over the clip).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mindviz.diffusion.config import UNetConfig
from mindviz.diffusion.parts import build_unet2d, unet_config
from mindviz.types import MindvizError


class Frames:
    """How many frames a clip has in the pass that is running; one object, shared by all parts of a model."""

    def __init__(self) -> None:
        self.count = 1

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """Set the count for a while."""
        before, self.count = self.count, count
        try:
            yield
        finally:
            self.count = before


# ---------------------------------------------------------------------- the four changed parts
def _attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of projected (N, tokens, width) tensors, and the output projection."""
    q, k, v = (rearrange(x, "n l (a d) -> n a l d", a=attn.heads) for x in (query, key, value))
    out = rearrange(F.scaled_dot_product_attention(q, k, v, scale=attn.scale), "n a l d -> n l (a d)")
    return attn.to_out[1](attn.to_out[0](out))


def _projected(attn: Attention, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of `x`, keys and values of `context`."""
    return attn.to_q(x), attn.to_k(context), attn.to_v(context)


class SparseCausalAttention:
    """Self-attention of frame i to frames i-2 and i-1, clamped at 0; frame 0 looks at itself."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __call__(self, attn: Attention, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        query, key, value = _projected(attn, hidden_states, hidden_states)
        if self.frames.count > 1:  # a single frame would see itself twice, which a softmax cannot tell from once
            key, value = (self._former(x) for x in (key, value))
        return _attend(attn, query, key, value)

    def _former(self, x: Tensor) -> Tensor:
        index = torch.arange(self.frames.count, device=x.device)
        clips = rearrange(x, "(b f) n c -> b f n c", f=self.frames.count)
        pair = torch.cat([clips[:, (index - 2).clamp(min=0)], clips[:, (index - 1).clamp(min=0)]], dim=2)
        return rearrange(pair, "b f n c -> (b f) n c")


class ClipCrossAttention:
    """Attention of all frames of a clip to its condition tokens, whose keys and values are computed once a clip."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any, **__: Any
    ) -> Tensor:
        clips = rearrange(hidden_states, "(b f) n c -> b (f n) c", f=self.frames.count)
        out = _attend(attn, *_projected(attn, clips, encoder_hidden_states))
        return rearrange(out, "b (f n) c -> (b f) n c", f=self.frames.count)


class TemporalAttention:
    """Attention of each place over the frames, in front of which stands a layer norm; adds to its input.

    With `positions` it knows the frames apart: a sine-cosine code of the frame's number is added after the norm.
    """

    def __init__(self, frames: Frames, positions: bool = False) -> None:
        self.frames, self.positions = frames, positions

    def __call__(self, block: Any, _: Any, hidden_states: Tensor) -> Tensor:
        """A forward hook of a transformer block: runs after its feed-forward."""
        places = rearrange(hidden_states, "(b f) n c -> (b n) f c", f=self.frames.count)
        attn, normed = block.attn_temp, block.norm_temp(places)
        if self.positions:
            normed = normed + _frame_codes(places.shape[1], places.shape[2]).to(normed)
        out = _attend(attn, *_projected(attn, normed, normed))
        return hidden_states + rearrange(out, "(b n) f c -> (b f) n c", n=hidden_states.shape[1])


@functools.lru_cache(maxsize=32)
def _frame_codes(count: int, width: int) -> Tensor:
    """Sine-cosine codes (F, C) of the frames of a clip."""
    return get_1d_sincos_pos_embed_from_grid(width, torch.arange(count), output_type="pt").float()


class ClipGroupNorm(nn.GroupNorm):
    """Group norm whose statistics span all frames of a clip."""

    def __init__(self, norm: nn.GroupNorm, frames: Frames) -> None:
        super().__init__(norm.num_groups, norm.num_channels, eps=norm.eps, affine=True)
        self.load_state_dict(norm.state_dict())
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        if self.frames.count == 1:
            return super().forward(x)
        f = self.frames.count
        clips = rearrange(x, "(b f) c h w -> b c f h w", f=f)
        return rearrange(super().forward(clips), "b c f h w -> (b f) c h w")


def _inflate_block(block: Any, frames: Frames, config: UNetConfig) -> None:
    upcast = config.upcast_attention
    heads, width = block.attn1.heads, block.attn1.query_dim
    block.attn1.set_processor(SparseCausalAttention(frames))
    block.attn2.set_processor(ClipCrossAttention(frames))
    block.attn_temp = Attention(query_dim=width, heads=heads, dim_head=width // heads, upcast_attention=upcast)
    nn.init.zeros_(block.attn_temp.to_out[0].weight)
    nn.init.zeros_(block.attn_temp.to_out[0].bias)
    block.norm_temp = nn.LayerNorm(width)
    block.register_forward_hook(TemporalAttention(frames, config.frame_positions))


def _inflate_parts(unet: UNet2DConditionModel, frames: Frames, config: UNetConfig) -> None:
    for module in list(unet.modules()):
        if isinstance(module, BasicTransformerBlock):
            _inflate_block(module, frames, config)
        elif isinstance(module, ResnetBlock2D):
            module.norm1 = ClipGroupNorm(module.norm1, frames)
            module.norm2 = ClipGroupNorm(module.norm2, frames)
    unet.conv_norm_out = ClipGroupNorm(unet.conv_norm_out, frames)


# ---------------------------------------------------------------------- the model
class VideoUNet(nn.Module):
    """The inflated U-Net; its parameter names are those of the published checkpoints.

    Its children are the (changed) children of an image U-Net, which itself stays out of sight, so that no prefix enters
    the names. The temporal attention starts at zero: a new model treats each frame much as the image model does,
    and a clip of one frame exactly so.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self._frames = Frames()
        unet = build_unet2d(config)
        _inflate_parts(unet, self._frames, config)
        self.extend(unet)
        self._hidden = (unet,)  # in a tuple: not registered, so its parameters are counted once
        for name, child in unet.named_children():
            self.add_module(name, child)

    def extend(self, unet: UNet2DConditionModel) -> None:
        """Change the inflated model further; the paper does not."""

    @classmethod
    def inflate(cls, unet2d: UNet2DConditionModel, frame_positions: bool = False) -> VideoUNet:
        """An inflated copy of an image U-Net: the same weights, temporal attention that adds nothing yet."""
        model = cls(dataclasses.replace(unet_config(unet2d), frame_positions=frame_positions))
        state = model.state_dict()
        state.update(unet2d.state_dict())
        model.load_state_dict(state, strict=True)
        return model.to(next(unet2d.parameters()).device)

    def forward(self, latents: Tensor, timestep: Tensor | float, tokens: Tensor) -> Tensor:
        """The predicted noise.

        Parameters
        ----------
        latents : (B, C, F, h, w)
        timestep : a number, or (B,)
        tokens : condition tokens, (B, S, D)
        """
        batch, count = latents.shape[0], latents.shape[2]
        if tokens.ndim != 3 or tokens.shape[0] != batch or tokens.shape[2] != self.config.cross_attention_dim:
            raise MindvizError(
                f"the U-Net: expected tokens of shape ({batch}, S, {self.config.cross_attention_dim}), "
                f"found {tuple(tokens.shape)}"
            )
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(batch)
        frames = rearrange(latents, "b c f h w -> (b f) c h w")
        unet = self._hidden[0]
        with self._frames.of(count):
            noise = unet(frames, repeat(timesteps, "b -> (b f)", f=count), tokens, return_dict=False)[0]
        return rearrange(noise, "(b f) c h w -> b c f h w", b=batch)

    def set_gradient_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: recompute the blocks in the backward pass."""
        unet = self._hidden[0]
        if enable:
            unet.enable_gradient_checkpointing(functools.partial(_checkpointed, self._frames))
        else:
            unet.disable_gradient_checkpointing()


def _checkpointed(frames: Frames, module: Callable[..., Any], *args: Any) -> Any:
    """Checkpoint a block; its second pass sees the frame count of its first, whatever ran in between."""
    count = frames.count

    def run(*inputs: Any) -> Any:
        with frames.of(count):
            return module(*inputs)

    return checkpoint(run, *args, use_reentrant=False)


ATTENTION_KINDS = {"sparse_causal": (".attn1.",), "cross": (".attn2.",), "temporal": (".attn_temp.", ".norm_temp.")}


def attention_parameters(
    model: nn.Module, kinds: tuple[str, ...] = ("sparse_causal", "cross", "temporal")
) -> dict[str, nn.Parameter]:
    """The attention parameters of a `VideoUNet` by name, the only ones the paper tunes on video (section 3.3)."""
    parts = tuple(part for kind in kinds for part in ATTENTION_KINDS[kind])
    return {name: value for name, value in model.named_parameters() if any(part in name for part in parts)}
