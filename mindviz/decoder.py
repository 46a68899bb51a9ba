"""The whole story on one page: a `Window` of scans becomes a `Decoded`, a video and where the encoder looked.

::

    window -> normalised once -> tokens (and attention: the only fork)
           -> guided denoiser -> sampler -> latents -> VAE -> clip

Devices change only here (and in `training.engine.loop`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mindviz.checkpoint.folder import CheckpointInfo
from mindviz.checkpoint.loading import LoadedCheckpoint
from mindviz.diffusion import (
    LatentCodec,
    StepCallback,
    VideoUNet,
    guided,
    initial_latents,
    make_scheduler,
    sample,
)
from mindviz.extensions import cascade
from mindviz.extensions.naming import Namer
from mindviz.extensions.sketched_unet import SketchedUNet
from mindviz.types import Decoded, Encoding, LayerAttention, MindvizError, SamplingSettings, VideoClip, Window


class Decoder(LoadedCheckpoint):
    """A checkpoint that decodes. Make one with `Decoder.load`; encoders are read when first used."""

    def __init__(
        self,
        folder: Path,
        info: CheckpointInfo,
        unet: VideoUNet,
        codec: LatentCodec,
        schedule: Mapping[str, Any],
        device: str | torch.device = "cpu",
        namer: tuple[Namer, tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__(folder, info, unet, codec, schedule, device, namer)
        self._one_at_a_time = threading.Lock()

    def decode(
        self,
        window: Window,
        settings: SamplingSettings | None = None,
        negative: np.ndarray | None = None,
        callback: StepCallback | None = None,
        attention: bool = True,
    ) -> Decoded:
        """Decode one window.

        Parameters
        ----------
        settings : the checkpoint's own if left out.
        negative : (T, V) scans like ``window.bold``, in place of the stored training mean; needed when
            ``settings.negative`` is ``"given"`` or the checkpoint stores none, refused otherwise.
        callback : (step, total, latents); may raise, to cancel.
        """
        settings = settings or self.default_settings
        self.check_settings(settings)
        timings: dict[str, float] = {}
        with _timed(timings, "encode"):
            negative_tokens = self.negative_tokens(window, settings, negative)
            encoding = self.encode(window, attention)
        clip = self.decode_tokens(encoding.tokens, negative_tokens, settings, callback, timings)
        return Decoded(clip, window, encoding, settings, timings, self.provenance)

    def encode(self, window: Window, attention: bool = True, stage: str = "full") -> Encoding:
        """Tokens (S, D) of a window, and in the same pass the attention of each layer if wanted.

        `stage` names an earlier training stage whose encoder the checkpoint carries, or ``"untrained"``.
        """
        encoder = self.encoder(window.subject, stage)
        bold = self._to_device(self.normalise(window.bold, window.subject, window.run_std))
        with torch.no_grad():
            tokens, maps = encoder.encode(bold, attention)
        layers = (LayerAttention(_numpy(m.spatial), None if m.temporal is None else _numpy(m.temporal)) for m in maps)
        return Encoding(_numpy(tokens[0]), tuple(layers))

    def negative_tokens(
        self, window: Window, settings: SamplingSettings, negative: np.ndarray | None = None
    ) -> np.ndarray:
        """The tokens (S, D) that guidance leads away from when this window is decoded; arguments as of `decode`."""
        return self._tokens(window.subject, self._negative_bold(window, settings, negative))

    def decode_tokens(
        self,
        tokens: np.ndarray,
        negative_tokens: np.ndarray,
        settings: SamplingSettings,
        callback: StepCallback | None = None,
        timings: dict[str, float] | None = None,
    ) -> VideoClip:
        """The clip of condition tokens (S, D), guided away from `negative_tokens` (S, D).

        For a model with a sketch the layout token at the end may be missing, as in tokens of a caption.
        """
        self.check_settings(settings)
        timings = {} if timings is None else timings
        condition, unwanted = self._to_device(tokens), self._to_device(negative_tokens[: len(tokens)])
        side = self.info.image_size // self.codec.config.downscale
        shape = (1, self.unet.config.in_channels, settings.num_frames, side, side)
        latents = initial_latents(shape, settings.seed, settings.shared_noise).to(self.device)
        scheduler = make_scheduler(self.schedule)
        if isinstance(self.unet, SketchedUNet):  # an extension: a sketch is drawn first
            with _timed(timings, "sketch"):
                naming = self.naming if settings.name_sketch else None
                drawing = cascade.draw(self.unet, condition, unwanted, settings, naming)
            denoiser = cascade.painter(self.unet, drawing, unwanted, settings, scheduler)
        else:
            denoiser = guided(self.unet, condition, unwanted, settings.guidance_scale)
        noise = torch.Generator(self.device).manual_seed(settings.seed)
        with self._one_at_a_time, torch.no_grad():  # the U-Net holds the frame count of the pass that is running
            with _timed(timings, "sample"):
                latents = sample(denoiser, scheduler, latents, settings.num_inference_steps, callback, noise)
            with _timed(timings, "vae"):
                pixels = self.codec.decode(latents)[0]
        frames = rearrange((pixels * 255.0).round().to(torch.uint8), "c f h w -> f h w c")
        return VideoClip(np.ascontiguousarray(frames.cpu().numpy()), self.info.fps)

    def normalise(self, bold: np.ndarray, subject: str, run_std: np.ndarray | None = None) -> np.ndarray:
        """Scans (T, V) at the scale of training (`SubjectData.normalise`), after checks; nothing else normalises."""
        config, data = self.encoder_config(subject), self.data(subject)
        lengths = {config.num_voxels, config.patching.length} if config.padding == "published" else {config.num_voxels}
        if bold.ndim != 2 or bold.shape[0] != config.window_size or bold.shape[1] not in lengths:
            expected = f"{config.window_size} scans of {config.num_voxels} voxels"
            raise MindvizError(
                f"a window of subject {subject}: expected {expected} ({self.folder}), found {bold.shape}"
            )
        if not np.isfinite(bold).all():
            raise MindvizError(f"a window of subject {subject}: expected finite values, found NaN or infinity")
        return bold if data is None else data.normalise(bold, run_std)

    def _negative_bold(self, window: Window, settings: SamplingSettings, given: np.ndarray | None) -> np.ndarray:
        """The normalised scans that guidance leads away from."""
        subject = window.subject
        data = self.data(subject)
        if settings.negative == "given" or (data is None and given is not None):
            if given is None:
                raise MindvizError("settings.negative is 'given': expected the negative's scans, found none")
            return self.normalise(given, subject, window.run_std)
        if given is not None:
            raise MindvizError("settings.negative is 'training': expected no negative's scans, found some")
        if data is None:
            raise MindvizError(f"{self.folder}: expected a stored training mean, found none; give the negative's scans")
        return data.negative

    def _tokens(self, subject: str, normalised: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return _numpy(self.encoder(subject)(self._to_device(normalised))[0])

    def _to_device(self, array: np.ndarray) -> Tensor:
        """A batch of one, where the models are."""
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None].to(self.device)


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
