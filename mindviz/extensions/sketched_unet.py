"""The inflated U-Net with a sketch beside its noisy latents (a cascade; Ho et al. 2022); the paper has none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindviz.diffusion import UNet2DConditionModel, UNetConfig, VideoUNet
from mindviz.extensions.sketch import Sketch, SketchConfig
from mindviz.types import MindvizError

SKETCH_INPUT = "conv_in.sketch."
"""Prefix of the parameters by which the sketch enters the U-Net: new, so they are trained with the attention."""


@dataclass(frozen=True)
class SketchedUNetConfig(UNetConfig):
    """A U-Net that may paint over a `Sketch`; `sketch` None is the paper's."""

    sketch: SketchConfig | None = None


class SketchedUNet(VideoUNet):
    """A `VideoUNet` that holds a sketch model and takes a drawn sketch as one more input."""

    config: SketchedUNetConfig

    def __init__(self, config: SketchedUNetConfig) -> None:
        if config.sketch is None:
            raise MindvizError("a sketched U-Net: expected the configuration of a sketch, found none")
        super().__init__(config)
        self.sketch = Sketch(config.sketch)

    def extend(self, unet: UNet2DConditionModel) -> None:
        assert self.config.sketch is not None
        unet.conv_in = SketchedConv(unet.conv_in, self.config.sketch.channels)

    @classmethod
    def of(cls, unet: VideoUNet, sketch: Sketch) -> SketchedUNet:
        """A copy of a video model that draws `sketch` first and, untrained, pays no attention to it."""
        plain = {field.name: getattr(unet.config, field.name) for field in dataclasses.fields(UNetConfig)}
        model = cls(SketchedUNetConfig(**plain, sketch=sketch.config))
        state = model.state_dict()
        state.update(unet.state_dict())
        state.update({f"sketch.{name}": tensor for name, tensor in sketch.state_dict().items()})
        model.load_state_dict(state, strict=True)
        return model.to(next(unet.parameters()).device)

    def painting(self, sketch: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The model with a sketch (B, channels, F, h, w) given; batches of several B share it (guidance)."""
        return lambda latents, timestep, tokens: self(
            latents, timestep, tokens, sketch.repeat(len(latents) // len(sketch), 1, 1, 1, 1)
        )

    def forward(
        self, latents: Tensor, timestep: Tensor | float, tokens: Tensor, sketch: Tensor | None = None
    ) -> Tensor:
        """As `VideoUNet.forward`; a token after the sketch's words speaks to the sketch alone.

        `sketch` is (B, channels, F, h, w) of `Sketch.draw`, stretched to the clip's F.
        """
        assert self.config.sketch is not None
        self.get_submodule("conv_in").drawn = self._drawn(sketch, latents.shape[0], latents)
        return super().forward(latents, timestep, tokens[:, : self.config.sketch.words])

    def _drawn(self, sketch: Tensor | None, batch: int, latents: Tensor) -> Tensor:
        """A sketch as frames (B F, channels, h, w) of the clip's own number and size."""
        if sketch is None or len(sketch) != batch:
            found = "none" if sketch is None else str(len(sketch))
            raise MindvizError(f"the U-Net: expected a sketch for each of {batch} clips, found {found}")
        if sketch.shape[2:] != latents.shape[2:]:
            sketch = F.interpolate(sketch, size=latents.shape[2:], mode="trilinear", align_corners=True)
        return rearrange(sketch, "b c f h w -> (b f) c h w").to(latents)


class SketchedConv(nn.Conv2d):
    """The first convolution of an image U-Net, and beside it one for the sketch that begins at zero."""

    def __init__(self, conv: nn.Conv2d, channels: int) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1)
        self.load_state_dict(conv.state_dict())
        self.sketch = nn.Conv2d(channels, conv.out_channels, 3, padding=1)
        nn.init.zeros_(self.sketch.weight)
        assert self.sketch.bias is not None
        nn.init.zeros_(self.sketch.bias)
        self.drawn: Tensor | None = None  # (B F, channels, h, w) for the pass that is running

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.drawn is None else out + self.sketch(self.drawn)


def make_unet(config: UNetConfig) -> VideoUNet:
    """The video model that a configuration describes: the paper's, or one with a sketch."""
    if isinstance(config, SketchedUNetConfig) and config.sketch is not None:
        return SketchedUNet(config)
    return VideoUNet(config)


def sketch_of(config: UNetConfig) -> SketchConfig | None:
    """The sketch of a video model's configuration, if it has one."""
    return config.sketch if isinstance(config, SketchedUNetConfig) else None
