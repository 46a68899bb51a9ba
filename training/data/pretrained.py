"""The frozen models that the last three stages stand on, and what they make of a dataset's films and captions.

The paper takes Stable Diffusion 1.5 (section 3.3) and CLIP (section 3.2) pretrained: `StableDiffusion` and `HubClip`.
A checkpoint folder of mindviz serves too (`CheckpointParts`), small enough for a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from einops import rearrange
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from mindviz.checkpoint.folder import read_unet_config
from mindviz.data import Dataset
from mindviz.diffusion import LatentCodec, UNet2DConditionModel, VAEConfig, build_unet2d
from mindviz.diffusion.clip import ClipConfig, ClipModel
from mindviz.diffusion.pretrained import StableDiffusion
from mindviz.extensions.sketched_unet import make_unet
from mindviz.storage import (
    CONFIG_FILE,
    empty,
    fingerprint,
    load_module,
    load_state,
    load_tensors,
    read_config,
    read_json,
    require_file,
    save_tensors,
)
from mindviz.types import MindvizError
from training.data.corpus import Corpus
from training.data.latents import LatentCorpus
from training.data.targets import Targets


class GeneratorParts(Protocol):
    """What inflation and co-training need of a generator."""

    @property
    def unet(self) -> UNet2DConditionModel: ...
    @property
    def codec(self) -> LatentCodec: ...
    @property
    def schedule(self) -> dict[str, Any]: ...
    @property
    def fingerprint(self) -> str: ...
    def text_tokens(self, captions: Sequence[str]) -> Tensor: ...


class Embedder(Protocol):
    """What contrastive learning needs of CLIP: unit vectors (B, E) of pixels in 0..1 (B, 3, H, W) and of captions."""

    def embed_image(self, pixels: Tensor) -> Tensor: ...
    def embed_text(self, captions: Sequence[str]) -> Tensor: ...


# ---------------------------------------------------------------------- where they come from
class CheckpointParts:
    """VAE, CLIP, schedule and image model of a checkpoint folder of mindviz.

    The image model is its video model without the temporal attention: inflating it begins there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("unet", "vae", "clip", "scheduler"):
            require_file(folder / part / CONFIG_FILE, f"the {part} of a checkpoint")

    @cached_property
    def unet(self) -> UNet2DConditionModel:
        config = read_unet_config(self.folder / "unet")
        video = empty(lambda: make_unet(config))
        load_module(self.folder / "unet", video)
        image = empty(lambda: build_unet2d(config))
        known = image.state_dict()
        load_state(image, {n: t for n, t in video.state_dict().items() if n in known}, self.folder / "unet")
        return image

    @cached_property
    def codec(self) -> LatentCodec:
        config = read_config(self.folder / "vae", VAEConfig)
        codec = empty(lambda: LatentCodec.from_config(config))
        load_module(self.folder / "vae", codec.vae)
        return codec.requires_grad_(False).eval()

    @cached_property
    def clip(self) -> ClipModel:
        clip = ClipModel(read_config(self.folder / "clip", ClipConfig))
        load_module(self.folder / "clip", clip)
        return clip.requires_grad_(False).eval()

    @property
    def schedule(self) -> dict[str, Any]:
        return read_json(self.folder / "scheduler" / CONFIG_FILE)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.folder / "vae", self.folder / "clip")

    @torch.inference_mode()
    def text_tokens(self, captions: Sequence[str]) -> Tensor:
        return self.clip.text_tokens(captions)


class HubClip:
    """A CLIP of transformers, from a local folder or a hub name (the paper's: openai/clip-vit-large-patch14)."""

    def __init__(self, source: str) -> None:
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

        local = Path(source).is_dir()
        if local:
            require_file(Path(source) / CONFIG_FILE, "the configuration of a CLIP of transformers")
        try:
            self.model = CLIPModel.from_pretrained(source, local_files_only=local).requires_grad_(False).eval()
            self.tokenizer = CLIPTokenizer.from_pretrained(source, local_files_only=local)
            processor = CLIPImageProcessor.from_pretrained(source, local_files_only=local)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise MindvizError(
                f"{source}: expected a CLIP folder or hub name, found none that reads: {reason}"
            ) from error
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))

    @torch.inference_mode()
    def embed_image(self, pixels: Tensor) -> Tensor:
        size = self.model.config.vision_config.image_size
        values = (resized_pixels(pixels, size) - self.mean.to(pixels)) / self.std.to(pixels)
        hidden = self.model.vision_model(pixel_values=values).pooler_output
        return functional.normalize(self.model.visual_projection(hidden), dim=1)

    @torch.inference_mode()
    def embed_text(self, captions: Sequence[str]) -> Tensor:
        length = self.model.config.text_config.max_position_embeddings
        options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        found = self.tokenizer(list(captions), max_length=length, **options)
        hidden = self.model.text_model(input_ids=found["input_ids"], attention_mask=found["attention_mask"])
        return functional.normalize(self.model.text_projection(hidden.pooler_output), dim=1)


def open_parts(source: str) -> GeneratorParts:
    """The generator's parts: of a mindviz checkpoint folder, or of Stable Diffusion by folder or hub name."""
    if (Path(source) / "vae" / CONFIG_FILE).is_file() and (Path(source) / "clip" / CONFIG_FILE).is_file():
        return CheckpointParts(Path(source))
    return StableDiffusion(source)


def open_embedder(source: str) -> Embedder:
    """CLIP: of a mindviz checkpoint folder, or of transformers by folder or hub name."""
    if (Path(source) / "clip" / CONFIG_FILE).is_file():
        return CheckpointParts(Path(source)).clip
    return HubClip(source)


# ---------------------------------------------------------------------- what they make of films
@dataclass(frozen=True)
class PlainLatents(LatentCorpus):
    """A corpus whose channels count alike in the loss, as in the paper (Stable Diffusion has but four)."""

    @cached_property
    def channel_weights(self) -> Tensor:
        return torch.ones(self.latents.shape[1])


def film_notes(dataset: Dataset, runs: tuple[str, ...]) -> Corpus:
    """Captions and film borders of the training films, without their pixels (frames of 1 x 1).

    Raises
    ------
    MindvizError
        There is no training run, or a film lacks the caption of a frame.
    """
    if not runs:
        raise MindvizError(f"{dataset.folder}: expected training runs, found none")
    captions: list[str] = []
    starts = []
    for run in runs:
        starts.append(len(captions))
        frames = int(dataset.info.stimuli[run]["frames"]) if "frames" in dataset.info.stimuli[run] else 0
        frames = frames or len(dataset.film(run).frames)
        found = [c for i in range(frames // dataset.clip_frames) for c in dataset.captions(run, i)]
        whole = frames - frames % dataset.clip_frames
        if len(found) != whole:
            path = dataset.folder / "stimuli" / f"{run}.json"
            raise MindvizError(f"{path}: expected a caption for each of {frames} frames, found {len(found)}")
        captions.extend(found + found[-1:] * (frames - whole))  # frames after the last clip belong to none
    pixels = np.broadcast_to(np.zeros(1, np.uint8), (len(captions), 1, 1, 3))
    return Corpus(pixels, tuple(captions), np.array(starts))


def film_batches(dataset: Dataset, runs: tuple[str, ...], size: int, batch: int, what: str) -> Iterator[Tensor]:
    """All frames of the training films in order, a batch at a time: (n, 3, size, size) in 0..1; one film in memory."""
    for run in tqdm(runs, desc=what):
        frames = Dataset(dataset.folder, dataset.info).film(run).frames  # a reader of its own, whose film is let go
        for first in range(0, len(frames), batch):
            pixels = rearrange(torch.from_numpy(np.array(frames[first : first + batch])), "n h w c -> n c h w")
            yield resized_pixels(pixels.float() / 255, size)


def resized_pixels(pixels: Tensor, size: int) -> Tensor:
    """Pictures (B, 3, H, W) in 0..1 at size x size."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    return functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def _cache_key(dataset: Dataset, runs: tuple[str, ...], *more: object) -> str:
    films = [dataset.folder / "stimuli" / f"{run}{suffix}" for run in runs for suffix in (".mp4", ".json")]
    return sha256(f"{[fingerprint(p) for p in films]} {more}".encode()).hexdigest()[:16]


def film_latents(
    parts: GeneratorParts,
    dataset: Dataset,
    runs: tuple[str, ...],
    size: int,
    one_caption: bool,
    cache: Path,
    device: torch.device,
    batch: int = 8,
) -> LatentCorpus:
    """Latents of every training frame at size x size, and tokens of every caption; `cache` keeps them.

    `one_caption` leaves out clips whose captions change. Stable Diffusion's latents of 25,920 frames (18 segments of
    Wen 2018) take 425 MB, its tokens of a caption 0.24 MB.
    """
    notes = film_notes(dataset, runs)
    path = cache / f"film-latents-{_cache_key(dataset, runs, size, parts.fingerprint)}.safetensors"
    with PartialState().main_process_first():  # the others find it in the cache
        if not path.exists():
            save_tensors(path, _encoded(parts, dataset, runs, size, notes.vocabulary, device, batch))
    stored = load_tensors(path)
    return PlainLatents(
        latents=stored["latents"],
        caption_index=torch.from_numpy(notes.caption_index),
        tokens=stored["tokens"][:-1],
        empty_tokens=stored["tokens"][-1],
        clip_starts=torch.from_numpy(notes.clip_starts(dataset.clip_frames, one_caption)),
        scale=parts.codec.scaling_factor,
        clip_frames=dataset.clip_frames,
    )


@torch.inference_mode()
def _encoded(
    parts: GeneratorParts,
    dataset: Dataset,
    runs: tuple[str, ...],
    size: int,
    words: tuple[str, ...],
    device: torch.device,
    batch: int,
) -> dict[str, Tensor]:
    codec = parts.codec.to(device)
    frames = film_batches(dataset, runs, size, batch, "latents")
    latents = torch.cat([codec.encode(pixels[:, :, None].to(device))[:, :, 0].cpu() for pixels in frames])
    codec.to("cpu")
    return {"latents": latents, "tokens": tokens_of_captions(parts, (*words, ""))}


def tokens_of_captions(parts: GeneratorParts, captions: tuple[str, ...], batch: int = 64) -> Tensor:
    """Tokens (N, S, D) of captions."""
    return torch.cat([parts.text_tokens(captions[i : i + batch]) for i in range(0, len(captions), batch)])


def film_targets(
    parts: GeneratorParts,
    embedder: Embedder,
    dataset: Dataset,
    runs: tuple[str, ...],
    size: int,
    cache: Path,
    name: str,
) -> Targets:
    """CLIP's embeddings of every training frame and caption; `name` tells which CLIP, for the cache."""
    notes = film_notes(dataset, runs)
    path = cache / f"film-targets-{_cache_key(dataset, runs, size, parts.fingerprint, name)}.safetensors"
    with PartialState().main_process_first():
        if not path.exists():
            save_tensors(path, _embedded(parts, embedder, film_batches(dataset, runs, size, 32, "pictures"), notes))
    stored = load_tensors(path)
    return Targets(stored["image"], stored["text"], stored["tokens"], torch.from_numpy(notes.caption_index))


@torch.inference_mode()
def _embedded(parts: GeneratorParts, embedder: Embedder, frames: Iterator[Tensor], notes: Corpus) -> dict[str, Tensor]:
    words = notes.vocabulary
    image = torch.cat([embedder.embed_image(pixels) for pixels in frames])
    text = torch.cat([embedder.embed_text(words[i : i + 64]) for i in range(0, len(words), 64)])
    return {"image": image, "text": text, "tokens": tokens_of_captions(parts, words)}
