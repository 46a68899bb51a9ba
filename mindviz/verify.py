"""Does a checkpoint do what its authors' code does? Compare with tensors made by that code; import such checkpoints.

A folder to verify holds ``checkpoint/`` (of the published layout, or ours), ``tensors.safetensors`` and
``sampling.json``, as `shared/parity/reference-a` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mindviz import __version__
from mindviz.checkpoint.folder import CheckpointInfo, write_checkpoint
from mindviz.checkpoint.subject import SINGLE
from mindviz.decoder import Decoder
from mindviz.diffusion import (
    LatentCodec,
    UNetConfig,
    VAEConfig,
    VideoUNet,
    guided,
    make_scheduler,
    published_schedule,
    sample,
)
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.storage import (
    CONFIG_FILE,
    empty,
    fingerprint,
    load_state,
    load_tensors,
    read_json,
    read_published_weights,
    require_file,
    require_folder,
)
from mindviz.types import MindvizError, SamplingSettings

TOLERANCE = 1e-4
INPUTS = ("fmri", "fmri_negative", "timestep", "noisy_latents", "initial_latents")
OUTPUTS = ("fmri_embedding", "noise_pred", "video")
WEIGHTS = ("model.pth", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors")
WHOLE = (torch.int64, torch.int32)
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the VAE's attention in old diffusers, and today's."""

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class Comparison:
    """One tensor: the largest absolute error, and the largest absolute value expected."""

    name: str
    error: float
    scale: float


@dataclass(frozen=True)
class PublishedParts:
    """A checkpoint's models; `schedule` configures the scheduler, `without_effect` are keys that change nothing."""

    encoder: FMRIEncoder
    unet: VideoUNet
    codec: LatentCodec
    schedule: dict[str, Any]
    published: dict[str, Any]
    without_effect: dict[str, Any]


# ---------------------------------------------------------------------- verify
def verify(folder: Path | str) -> list[Comparison]:
    """Compute every tensor beside a checkpoint with our models and compare.

    Raises
    ------
    MindvizError
        For a missing or truncated file, a missing or misshapen tensor, NaN, or an option that we do not build.
    """
    folder = require_folder(folder, "a folder with checkpoint/, tensors.safetensors and sampling.json")
    path = folder / "tensors.safetensors"
    tensors, settings = load_tensors(path), read_sampling(folder / "sampling.json")
    parts = read_parts(folder / "checkpoint")
    _check_tensors(path, tensors, parts, settings)
    with torch.no_grad():
        found = _encoder_outputs(parts, tensors)
        found["noise_pred"] = parts.unet(tensors["noisy_latents"], tensors["timestep"], tensors["fmri_embedding"])
        found["video"] = _video(parts, tensors, settings)
    return [_compare(name, found[name], tensors[name], path) for name in sorted(found) if name in tensors]


def _encoder_outputs(parts: PublishedParts, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tokens, attention = parts.encoder.encode(tensors["fmri"], attention=True)
    found = {"fmri_embedding": tokens}
    for layer, maps in enumerate(attention):
        found[f"attn_spatial_{layer}"] = maps.spatial / maps.spatial.norm(dim=-1, keepdim=True)
        if maps.temporal is not None:
            found[f"attn_temporal_{layer}"] = maps.temporal / maps.temporal.norm(dim=-1, keepdim=True)
    return found


def _video(parts: PublishedParts, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Tensor:
    """The guided clip, sampled as the authors' pipeline does, which guides only for a scale above 1."""
    scale = max(float(settings["guidance_scale"]), 1.0)
    tokens, negative = parts.encoder(tensors["fmri"]), parts.encoder(tensors["fmri_negative"])
    scheduler = make_scheduler(published_schedule(parts.schedule, settings["scheduler"]))
    denoiser = guided(parts.unet, tokens, negative, scale)
    return parts.codec.decode(sample(denoiser, scheduler, tensors["initial_latents"], settings["num_inference_steps"]))


def _compare(name: str, found: Tensor, expected: Tensor, path: Path) -> Comparison:
    if found.shape != expected.shape:
        raise MindvizError(f"{path}: expected {name} of shape {tuple(found.shape)}, found {tuple(expected.shape)}")
    return Comparison(name, float((found - expected).abs().max()), float(expected.abs().max()))


def passed(comparisons: list[Comparison], tolerance: float = TOLERANCE) -> bool:
    """Whether every error is a number no larger than `tolerance`, and something was compared."""
    return bool(comparisons) and all(c.error <= tolerance for c in comparisons)


def report(comparisons: list[Comparison], tolerance: float = TOLERANCE) -> str:
    """A table of names, largest absolute errors and scales, the worst at the end."""
    width = max([len(c.name) for c in comparisons] + [len("tensor")])
    lines = [f"{'tensor':{width}}  largest error      scale"]
    lines += [f"{c.name:{width}}  {c.error:13.2e}  {c.scale:9.2e}" for c in comparisons]
    worst = max((c.error if not math.isnan(c.error) else math.inf for c in comparisons), default=math.inf)
    verdict = "at most" if passed(comparisons, tolerance) else "ABOVE"
    return "\n".join([*lines, f"worst error {worst:.2e}, {verdict} {tolerance:.0e}"])


def read_sampling(path: Path) -> dict[str, Any]:
    """``sampling.json``, checked."""
    settings = read_json(path)
    number = (int, float)
    kinds = {"video_length": int, "height": int, "width": int, "num_inference_steps": int, "guidance_scale": number}
    for key, kind in {**kinds, "scheduler": str}.items():
        if not isinstance(settings.get(key), kind):  # type: ignore[arg-type]
            raise MindvizError(f"{path}: expected {key} to be given, found {settings.get(key)!r}")
    return settings


def _check_tensors(
    path: Path, tensors: Mapping[str, Tensor], parts: PublishedParts, settings: Mapping[str, Any]
) -> None:
    config = parts.encoder.config
    layers = range(config.depth) if config.use_temporal else ()
    attention = [f"attn_{kind}_{layer}" for layer in layers for kind in ("spatial", "temporal")]
    missing = [name for name in (*INPUTS, *OUTPUTS, *attention) if name not in tensors]
    if missing:
        raise MindvizError(f"{path}: expected the tensors {', '.join(missing)}, found {', '.join(sorted(tensors))}")
    shapes = _shapes(tensors, parts, settings)
    unknown = sorted(set(tensors) - set(shapes))
    if unknown:
        raise MindvizError(f"{path}: expected only tensors that this checkpoint gives, found {', '.join(unknown)}")
    for name in (n for n in shapes if n in tensors):
        tensor = tensors[name]
        if tensor.dtype not in ((torch.float32, *WHOLE) if name == "timestep" else (torch.float32,)):
            raise MindvizError(f"{path}: expected {name} of float32, found {tensor.dtype}")
        if tuple(tensor.shape) not in shapes[name]:
            expected = " or ".join(map(str, shapes[name]))
            raise MindvizError(f"{path}: expected {name} of shape {expected}, found {tuple(tensor.shape)}")
        if not tensor.numel():
            raise MindvizError(f"{path}: expected values in {name}, found none: its shape is {tuple(tensor.shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise MindvizError(f"{path}: expected finite values in {name}, found NaN or infinity")


def _shapes(
    tensors: Mapping[str, Tensor], parts: PublishedParts, settings: Mapping[str, Any]
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The shapes that each tensor may have; how many windows and noisy frames there are, the tensors say."""
    encoder, unet, vae = parts.encoder.config, parts.unet.config, parts.codec.config
    batch, frames = (*tensors["fmri"].shape, 1)[0], settings["video_length"]
    size = tuple(settings[side] // vae.downscale for side in ("height", "width"))
    noisy = tuple(tensors["noisy_latents"].shape)[2:5]
    noisy += (1,) * (3 - len(noisy))
    patches, heads, window = encoder.patching.num_patches, encoder.num_heads, encoder.window_size
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "fmri": ((batch, window, encoder.num_voxels),),
        "fmri_negative": ((batch, window, encoder.num_voxels),),
        "timestep": ((), (1,), (batch,)),
        "noisy_latents": ((batch, unet.in_channels, *noisy),),
        "initial_latents": ((batch, unet.in_channels, frames, *size),),
        "fmri_embedding": ((batch, encoder.num_tokens, encoder.token_dim),),
        "noise_pred": ((batch, unet.out_channels, *noisy),),
        "video": ((batch, vae.out_channels, frames, *(side * vae.downscale for side in size)),),
    }
    for layer in range(encoder.depth):
        shapes[f"attn_spatial_{layer}"] = ((batch * window, heads, patches, patches),)
        if encoder.use_temporal:
            shapes[f"attn_temporal_{layer}"] = ((batch * patches, heads, window, window),)
    return shapes


# ---------------------------------------------------------------------- reading checkpoints
def read_parts(folder: Path | str) -> PublishedParts:
    """The models of a single-subject checkpoint, ours or of the published layout."""
    folder = require_folder(folder, "a checkpoint folder")
    if not (folder / CONFIG_FILE).is_file():
        return read_published(folder)
    decoder = Decoder.load(folder)
    if decoder.subjects:
        raise MindvizError(
            f"{folder}: expected a single-subject checkpoint, found subjects {', '.join(decoder.subjects)}"
        )
    return PublishedParts(decoder.encoder(SINGLE), decoder.unet, decoder.codec, decoder.schedule, {}, {})


def read_published(folder: Path | str) -> PublishedParts:
    """The models of a checkpoint in the authors' layout, loaded strictly; nothing in it is run."""
    folder = require_folder(folder, "a checkpoint folder")
    files = {name: folder / name / CONFIG_FILE for name in ("fmri_encoder", "unet", "vae")}
    files["scheduler"] = folder / "scheduler" / "scheduler_config.json"
    published = {name: read_json(path) for name, path in files.items()}
    encoder, no_effect_encoder = EncoderConfig.from_published(published["fmri_encoder"], files["fmri_encoder"])
    unet, no_effect_unet = UNetConfig.from_published(published["unet"], files["unet"])
    vae, no_effect_vae = VAEConfig.from_published(published["vae"], files["vae"])
    if encoder.token_dim != unet.cross_attention_dim:
        raise MindvizError(
            f"{files['unet']}: expected cross_attention_dim {encoder.token_dim}, the encoder's out_dim, "
            f"found {unet.cross_attention_dim}"
        )
    codec = empty(lambda: LatentCodec.from_config(vae))
    _fill(codec.vae, folder / "vae", OLD_ATTENTION)
    return PublishedParts(
        encoder=_fill(empty(lambda: FMRIEncoder(encoder)), folder / "fmri_encoder"),
        unet=_fill(empty(lambda: VideoUNet(unet)), folder / "unet"),
        codec=codec.eval(),
        schedule=published["scheduler"],
        published=published,
        without_effect={"fmri_encoder": no_effect_encoder, "unet": no_effect_unet, "vae": no_effect_vae},
    )


def _fill(module: _Module, folder: Path, renamed: Mapping[str, str] | None = None) -> _Module:
    """Load a published part's weights strictly; `renamed` are dotted parts of old names."""
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    path = files[0] if files else require_file(folder / WEIGHTS[1], "the published weights")
    state = load_tensors(path) if path.suffix == ".safetensors" else read_published_weights(path)
    load_state(module, {_renamed(name, renamed or {}): tensor for name, tensor in state.items()}, path)
    return module.eval()


def _renamed(name: str, parts: Mapping[str, str]) -> str:
    return ".".join(parts.get(part, part) for part in name.split("."))


# ---------------------------------------------------------------------- import
def import_checkpoint(source: Path | str, target: Path | str) -> None:
    """Turn a checkpoint of the authors' layout into ours: safetensors and JSON only, all or nothing.

    Raises
    ------
    MindvizError
        If `target` exists, or `source` is incomplete or holds something that we do not build.
    """
    source, target = Path(source), Path(target)
    if target.exists():
        raise MindvizError(f"{target}: expected a folder that does not exist yet, found one that does")
    parts = read_published(source)
    unet = parts.unet.config
    info = CheckpointInfo(
        name=source.resolve().name,
        image_size=min(unet.sample_size * parts.codec.config.downscale, 256),  # 256: what the paper samples (sec. 4)
        sampling=asdict(SamplingSettings(num_inference_steps=200, guidance_scale=12.5, negative="given")),
        provenance={
            "source": str(source.resolve()),
            "sha256": fingerprint(source),
            "layout": "MinD-Video, as published",
            "published": parts.published,
            "without_effect": parts.without_effect,
            "mindviz": __version__,
        },
    )
    schedule = published_schedule(parts.schedule)
    write_checkpoint(target, info, parts.unet, parts.codec, schedule, {SINGLE: parts.encoder})
