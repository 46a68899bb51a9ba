"""The whole story on one page: a `Window` of scans becomes a `Decoded`, a video and where the encoder looked.

::

    window -> normalised once -> tokens (and attention: the only fork)
           -> guided denoiser -> sampler -> latents -> VAE -> clip

Devices change only here (and in `training.loop`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mindviz import __version__
from mindviz.brain.attribution import attention_received, patches_to_voxels
from mindviz.checkpoint import (
    CONFIG_FILE,
    config_from_dict,
    empty,
    load_module,
    read_config,
    read_json,
    require_folder,
)
from mindviz.checkpoint_folder import CheckpointInfo, read_clip, read_info, read_namer
from mindviz.data import Dataset
from mindviz.diffusion import (
    LatentCodec,
    Namer,
    Naming,
    Progress,
    SketchConfig,
    UNetConfig,
    VAEConfig,
    VideoUNet,
    guided,
    initial_latents,
    make_scheduler,
    sample,
    steered,
)
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.encoder.clip import encode_captions
from mindviz.encoder.subject import (
    SINGLE,
    SubjectData,
    check_vertices,
    encoder_folder,
    read_data,
    read_encoder,
    require_subject,
)
from mindviz.types import (
    AttentionMap,
    Decoded,
    Encoding,
    LayerAttention,
    MindvizError,
    SamplingSettings,
    VideoClip,
    Window,
)


def check_device(device: str | torch.device) -> None:
    """Refuse, with `MindvizError`, a device that torch does not know or that this machine has not."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # what builds of torch without CUDA raise
        reason = str(error).splitlines()[0]
        raise MindvizError(f"expected a device of this machine (cpu, cuda, mps), found {device}: {reason}") from error


class Decoder:
    """A checkpoint folder, ready to decode. Make one with `Decoder.load`; encoders are read when first used."""

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
        self.folder, self.info, self.schedule = folder, info, dict(schedule)
        self.device = torch.device(device)
        self.unet, self.codec = unet.to(self.device).eval(), codec.to(self.device).eval()
        self.default_settings = config_from_dict(SamplingSettings, info.sampling, folder / CONFIG_FILE)
        self._namer = namer
        self._encoders: dict[tuple[str, str], FMRIEncoder] = {}
        self._configs: dict[str, EncoderConfig] = {}
        self._data: dict[str, SubjectData | None] = {}
        self._one_at_a_time = threading.Lock()

    # ------------------------------------------------------------------ the story
    def decode(
        self,
        window: Window,
        settings: SamplingSettings | None = None,
        negative: np.ndarray | None = None,
        callback: Progress | None = None,
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
        bold = self._to_device(self.normalise(window.bold, window.subject, window.deviation))
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
        callback: Progress | None = None,
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
        sketch: Tensor | None = None
        if self.unet.config.sketch is not None:
            with _timed(timings, "sketch"):
                sketch, condition = self._sketch(self.unet.config.sketch, condition, unwanted, settings)
        noise = torch.Generator(self.device).manual_seed(settings.seed)
        with self._one_at_a_time, torch.no_grad():  # the U-Net holds the frame count of the pass that is running
            with _timed(timings, "sample"):
                scheduler = make_scheduler(self.schedule)
                denoiser = guided(self.unet.painting(sketch), condition, unwanted, settings.guidance_scale)
                if sketch is not None and settings.sketch_fidelity:
                    hold = partial(self.unet.sketch.held, drawn=sketch, fidelity=settings.sketch_fidelity)
                    shares = getattr(scheduler, "alphas_cumprod", None)
                    denoiser = steered(denoiser, shares, scheduler.config.get("prediction_type", ""), hold)
                latents = sample(denoiser, scheduler, latents, settings.num_inference_steps, callback, noise)
            with _timed(timings, "vae"):
                pixels = self.codec.decode(latents)[0]
        frames = rearrange((pixels * 255.0).round().to(torch.uint8), "c f h w -> f h w c")
        return VideoClip(np.ascontiguousarray(frames.cpu().numpy()), self.info.fps)

    def _sketch(
        self, config: SketchConfig, tokens: Tensor, negative: Tensor, settings: SamplingSettings
    ) -> tuple[Tensor, Tensor]:
        """The sketch of a model that draws one first, (1, channels, F, h, w), and the tokens to paint it to."""
        generator = torch.Generator("cpu").manual_seed(settings.seed)
        noise = torch.randn(1, settings.sketch_draws, config.codes, generator=generator)
        naming = self.naming if settings.name_sketch else None
        guidance = settings.sketch_guidance
        return self.unet.sketch.draw(tokens, negative, guidance, noise.to(self.device), naming=naming)

    def check_settings(self, settings: SamplingSettings) -> None:
        """Refuse settings that this checkpoint cannot follow."""
        if settings.name_sketch and self._namer is None:
            raise MindvizError(f"{self.folder}: settings.name_sketch is true: expected a namer, found none")

    @cached_property
    def naming(self) -> Naming:
        """The namer and the tokens of all captions that it chooses from, read when first asked for (seconds)."""
        clip = read_clip(self.folder)
        assert self._namer is not None and clip is not None  # `check_settings` and `read_namer` have seen to it
        namer, captions = self._namer
        return Naming(namer.to(self.device), encode_captions(clip, captions).clone().to(self.device))

    def attention_map(
        self, decoded: Decoded | Encoding, subject: str, layer: int = -1, head: int = -1, stage: str = ""
    ) -> AttentionMap:
        """Attention received by each voxel, mean over the window; 1 is what uniform attention would give.

        `layer` and `head` -1 are means. `stage` is that of the encoder that made the encoding, if not the last.
        """
        encoding = decoded.encoding if isinstance(decoded, Decoded) else decoded
        by_patch = attention_received(encoding.attention, layer, head).mean(axis=0)
        values = encoder_voxels(by_patch, self.encoder_config(subject))
        return AttentionMap(values, layer, head, stage or self.info.stage, "received")

    def normalise(self, bold: np.ndarray, subject: str, deviation: np.ndarray | None = None) -> np.ndarray:
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
        return bold if data is None else data.normalise(bold, deviation)

    def _negative_bold(self, window: Window, settings: SamplingSettings, given: np.ndarray | None) -> np.ndarray:
        """The normalised scans that guidance leads away from."""
        subject = window.subject
        data = self.data(subject)
        if settings.negative == "given" or (data is None and given is not None):
            if given is None:
                raise MindvizError("settings.negative is 'given': expected the negative's scans, found none")
            return self.normalise(given, subject, window.deviation)
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

    # ------------------------------------------------------------------ what the checkpoint holds
    @classmethod
    def load(cls, folder: Path | str, device: str | torch.device = "cpu") -> Decoder:
        """Read a checkpoint folder; all that it promises must be there.

        Raises
        ------
        MindvizError
            Naming the file, what was expected and what was found; for a device that this machine has not.
        """
        folder = require_folder(folder, "a checkpoint folder")
        check_device(device)
        info = read_info(folder)
        for subject in info.subjects or (SINGLE,):
            require_subject(folder, subject)
        unet_config, vae_config = read_config(folder / "unet", UNetConfig), read_config(folder / "vae", VAEConfig)
        if unet_config.in_channels != vae_config.latent_channels:
            expected, found = vae_config.latent_channels, unet_config.in_channels
            raise MindvizError(f"{folder}: expected a U-Net of {expected} channels, as the VAE has, found {found}")
        namer = read_namer(folder, unet_config.sketch)
        unet, codec = empty(lambda: VideoUNet(unet_config)), empty(lambda: LatentCodec.from_config(vae_config))
        load_module(folder / "unet", unet)
        load_module(folder / "vae", codec.vae)
        return cls(folder, info, unet, codec, read_json(folder / "scheduler" / CONFIG_FILE), device, namer)

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def simulated(self) -> bool:
        """Whether it was trained on simulated subjects."""
        return self.info.simulated

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects with an encoder of their own; empty if one encoder serves any (an imported checkpoint)."""
        return self.info.subjects

    @property
    def provenance(self) -> dict[str, Any]:
        """Where a decoded clip comes from."""
        facts = {"checkpoint": self.info.name, "stage": self.info.stage, "simulated": self.info.simulated}
        return facts | {"dataset": self.info.dataset, "mindviz": __version__, "torch": torch.__version__}

    def check(self, dataset: Dataset) -> None:
        """Refuse a dataset whose mesh, test runs' vertices (and their order) or windows are not those of training."""
        if self.info.mesh and dataset.mesh != self.info.mesh:
            raise MindvizError(f"{dataset.folder}: expected the mesh {self.info.mesh}, found {dataset.mesh}")
        shared = [subject for subject in dataset.subjects if subject in self.subjects or not self.subjects]
        if not shared:
            raise MindvizError(f"{dataset.folder}: expected subjects of {self.subjects}, found {dataset.subjects}")
        for subject in shared:
            config, data = self.encoder_config(subject), self.data(subject)
            spec, lag = dataset.window_spec, self.info.lag
            if spec.size != config.window_size or lag not in (None, spec.lag):
                expected = f"windows of {config.window_size} scans" + (f" with lag {lag}" if lag is not None else "")
                raise MindvizError(f"{dataset.folder}: expected {expected}, found {spec.size} with lag {spec.lag}")
            for run in dataset.runs(subject, "test"):
                where = f"{dataset.folder}: run {run} of subject {subject}"
                check_vertices(dataset.run(subject, run).vertices, config, data, where)

    def trained_on(self, dataset: Dataset) -> bool:
        """Whether the dataset is the very one of training (its fingerprint); scans of the same voxels need not be."""
        return bool(self.info.dataset) and dataset.fingerprint == self.info.dataset

    def encoder_config(self, subject: str) -> EncoderConfig:
        """The configuration of a subject's encoder."""
        subject = self._known(subject)
        if subject not in self._configs:
            self._configs[subject] = read_config(encoder_folder(self.folder, subject), EncoderConfig)
        return self._configs[subject]

    def encoder(self, subject: str, stage: str = "full") -> FMRIEncoder:
        """A subject's encoder, read when first asked for; ``"untrained"`` has random weights (seed 0)."""
        key = (self._known(subject), "full" if stage == self.info.stage else stage)
        if key not in self._encoders:
            encoder = read_encoder(self.folder, *key)
            width, found = self.unet.config.cross_attention_dim, encoder.config.token_dim
            if found != width:
                raise MindvizError(f"{self.folder}: expected tokens of width {width} for the U-Net, found {found}")
            self._encoders[key] = encoder.to(self.device).eval()
        return self._encoders[key]

    def data(self, subject: str) -> SubjectData | None:
        """A subject's statistics; None for an imported checkpoint, which takes scans as its authors normalised them."""
        subject = self._known(subject)
        if subject == SINGLE:
            return None
        if subject not in self._data:
            self._data[subject] = read_data(self.folder, subject, self.encoder_config(subject))
        return self._data[subject]

    def vertices(self, subject: str) -> np.ndarray:
        """The cortical vertex of each voxel, int64 (V,)."""
        data = self.data(subject)
        if data is None:
            raise MindvizError(
                f"{self.folder}: expected stored vertices, found none: where its voxels lie is not known"
            )
        return data.vertices

    def _known(self, subject: str) -> str:
        if not self.subjects:
            return SINGLE
        if subject not in self.subjects:
            raise MindvizError(f"{self.folder}: expected a subject of {', '.join(self.subjects)}, found {subject!r}")
        return subject


def encoder_voxels(by_patch: np.ndarray, config: EncoderConfig) -> np.ndarray:
    """Values by voxel (..., V) of values by patch (..., P); voxels that the encoder leaves out are 0."""
    patching = config.patching
    covered = min(patching.num_voxels, patching.length)
    padding = "published" if patching.padding == "published" else "minimal"
    values = np.zeros((*by_patch.shape[:-1], patching.num_voxels), dtype=np.float32)
    values[..., :covered] = patches_to_voxels(by_patch, covered, patching.patch_size, padding)
    return values


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
