"""What the generator trains on: the latents of every training frame and the tokens of every caption, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mindviz.diffusion import LatentCodec
from mindviz.diffusion.clip import ClipModel
from mindviz.storage import load_tensors, save_tensors
from training.data.corpus import Corpus


@dataclass(frozen=True)
class LatentCorpus:
    """Latents and condition tokens of a corpus.

    Attributes
    ----------
    latents : Tensor (N, C, h, w), scaled to a standard deviation of 1; float16 saves memory
    caption_index : Tensor (N,): each frame's row in `tokens`
    tokens : Tensor (captions, S, D)
    empty_tokens : Tensor (S, D), of the empty caption
    clip_starts : Tensor: frames at which a clip of one caption begins
    scale : float, the factor that `latents` were multiplied with
    """

    latents: Tensor
    caption_index: Tensor
    tokens: Tensor
    empty_tokens: Tensor
    clip_starts: Tensor
    scale: float
    clip_frames: int = 6

    def tokens_of(self, frames: Tensor) -> Tensor:
        """Condition tokens (B, S, D) of frames."""
        return self.tokens[self.caption_index[frames]]

    def clips(self, starts: Tensor) -> Tensor:
        """Latents (B, C, F, h, w) of the clips that begin at `starts`."""
        frames = starts[:, None] + torch.arange(self.clip_frames)
        return rearrange(self.latents[frames].float(), "b f c h w -> b c f h w")

    @cached_property
    def channel_weights(self) -> Tensor:
        """Variance (C,) of each channel over the corpus, scaled to a mean of 1: how much of the picture it holds."""
        variance = self.latents.float().var((0, 2, 3))
        return variance / variance.mean()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of latents, tokens and captions."""
        digest = sha256()
        for tensor in (self.latents, self.tokens, self.caption_index):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def build_latents(
    codec: LatentCodec, clip: ClipModel, corpus: Corpus, cache: Path, clip_frames: int = 6
) -> LatentCorpus:
    """Encode frames and captions with the frozen codec and CLIP; `cache` keeps the result for the next call."""
    key = sha256(corpus.fingerprint.encode())
    weights = {n: t for n, t in codec.vae.state_dict().items() if n.startswith(("encoder.", "quant_conv."))}
    for tensor in (*weights.values(), *clip.state_dict().values()):
        key.update(tensor.contiguous().numpy().tobytes())
    path = cache / f"latents-{key.hexdigest()[:16]}.safetensors"
    if not path.exists():
        with torch.inference_mode():
            latents = encode_frames(codec, corpus.frames)
            tokens = caption_tokens(clip, (*corpus.vocabulary, ""))
        scale = 1 / latents.std()
        save_tensors(path, {"latents": latents * scale, "tokens": tokens, "scale": scale})
    stored = load_tensors(path)
    return LatentCorpus(
        latents=stored["latents"],
        caption_index=torch.from_numpy(corpus.caption_index),
        tokens=stored["tokens"][:-1],
        empty_tokens=stored["tokens"][-1],
        clip_starts=torch.from_numpy(np.asarray(corpus.clip_starts(clip_frames))),
        scale=float(stored["scale"]),
        clip_frames=clip_frames,
    )


@torch.inference_mode()
def encode_frames(codec: LatentCodec, frames: np.ndarray, batch: int = 256) -> Tensor:
    """Latents of uint8 frames (N, H, W, 3), unscaled: the posterior mean, (N, C, h, w) float32."""
    parts = []
    for i in range(0, len(frames), batch):
        pixels = rearrange(torch.from_numpy(frames[i : i + batch]), "n h w c -> n c h w")
        parts.append(codec.vae.encode(codec.fold(pixels)).latent_dist.mean)
    return torch.cat(parts)


@torch.inference_mode()
def caption_tokens(model: ClipModel, captions: tuple[str, ...], batch: int = 512) -> Tensor:
    """The condition tokens of many captions: [N, S, D] float32."""
    parts = [model.text_tokens(captions[i : i + batch]) for i in range(0, len(captions), batch)]
    return torch.cat(parts)
