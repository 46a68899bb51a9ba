"""The image and text embedding that fMRI is aligned with, and whose text tokens condition the generator: a CLIP of
open_clip.

The demo model's is small and trained here (`training/clip.py`); the same class holds a published one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mindviz.types import MindvizError


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of a CLIP (Radford et al. 2021). `context_length` is S, `text_width` is D of the condition tokens.

    `kept_ids`, ascending, names the ids of the tokenizer that have an embedding, all of them where it is empty. A small
    model need not carry thousands of words that it never read; any other word then counts as padding.
    """

    embed_dim: int = 128
    image_size: int = 64
    patch_size: int = 8
    vision_width: int = 192
    vision_layers: int = 4
    vision_head_width: int = 48
    context_length: int = 16
    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 4
    vocab_size: int = 49408
    kept_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        kept = self.kept_ids
        if kept and (kept[0] != 0 or list(kept) != sorted(set(kept)) or kept[-1] >= self.vocab_size):
            raise MindvizError("kept_ids of a CLIP: expected ascending ids from 0 (padding) to below vocab_size")


class ClipModel(nn.Module):
    """open_clip's CLIP, which takes pixels in 0..1 and plain captions."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        import open_clip  # here, since it takes seconds and decoding a scan does not need it

        self.config = config
        self.clip = open_clip.CLIP(
            config.embed_dim,
            open_clip.CLIPVisionCfg(
                layers=config.vision_layers,
                width=config.vision_width,
                head_width=config.vision_head_width,
                patch_size=config.patch_size,
                image_size=config.image_size,
            ),
            open_clip.CLIPTextCfg(
                context_length=config.context_length,
                vocab_size=len(config.kept_ids) or config.vocab_size,
                width=config.text_width,
                heads=config.text_heads,
                layers=config.text_layers,
            ),
        )
        self._tokenizer = open_clip.SimpleTokenizer(context_length=config.context_length)

    def token_ids(self, captions: Sequence[str]) -> Tensor:
        """Captions -> int64 [B, S], cut off or zero-padded at S: rows of the token embedding."""
        ids = self._tokenizer(list(captions)).to(self.clip.positional_embedding.device)
        if not self.config.kept_ids:
            return ids
        kept = torch.tensor(self.config.kept_ids, device=ids.device)
        place = torch.searchsorted(kept, ids).clamp(max=len(kept) - 1)
        return place * (kept[place] == ids)

    def keeping(self, captions: Sequence[str]) -> ClipModel:
        """A copy that knows the words of these captions only, and says the same of them.

        The ids keep their order, so the end of the text stays the largest, by which open_clip finds it.
        """
        rows = torch.unique(torch.cat([self.token_ids(captions).flatten(), torch.zeros(1, dtype=torch.int64)]))
        known = torch.tensor(self.config.kept_ids or range(self.config.vocab_size))
        twin = ClipModel(dataclasses.replace(self.config, kept_ids=tuple(known[rows].tolist())))
        state = self.state_dict()
        state["clip.token_embedding.weight"] = state["clip.token_embedding.weight"][rows]
        twin.load_state_dict(state)
        return twin.train(self.training)

    def text_tokens(self, captions: Sequence[str]) -> Float[Tensor, "B S D"]:
        """The last hidden states of the text transformer: what Stable Diffusion is conditioned on."""
        ids = self.token_ids(captions)
        hidden = self.clip.token_embedding(ids) + self.clip.positional_embedding
        hidden = self.clip.transformer(hidden, attn_mask=self.clip.attn_mask)
        return self.clip.ln_final(hidden)

    def embed_text(self, captions: Sequence[str]) -> Float[Tensor, "B E"]:
        """Unit vectors in the joint space."""
        return self.clip.encode_text(self.token_ids(captions), normalize=True)

    def embed_image(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
        """Unit vectors in the joint space, of pixels in 0..1; other sizes are resized first."""
        size = self.config.image_size
        if pixels.shape[-2:] != (size, size):
            pixels = functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
        return self.clip.encode_image(pixels * 2 - 1, normalize=True)

    def forward(self, pixels: Float[Tensor, "B 3 H W"], ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(image unit vectors [B, E], text unit vectors [B, E], the learnt inverse temperature) for training."""
        image = self.clip.encode_image(pixels * 2 - 1, normalize=True)
        return image, self.clip.encode_text(ids, normalize=True), self.clip.logit_scale.exp()


@torch.inference_mode()
def embed_frames(model: ClipModel, pixels: Tensor, batch: int = 256) -> Tensor:
    """`ClipModel.embed_image` of many pictures, a batch at a time: [N, E]."""
    return torch.cat([model.embed_image(part) for part in pixels.split(batch)])


@torch.inference_mode()
def encode_captions(model: ClipModel, captions: Sequence[str], batch: int = 64) -> Float[Tensor, "B S D"]:
    """`ClipModel.text_tokens` of many captions, a batch at a time."""
    return torch.cat([model.text_tokens(captions[i : i + batch]) for i in range(0, len(captions), batch)])


def text_tokens(model: ClipModel, captions: Sequence[str]) -> np.ndarray:
    """Tokens float32 (N, S, D) of captions; each different caption is read once."""
    vocabulary, place = np.unique(np.array(captions), return_inverse=True)
    return encode_captions(model, vocabulary.tolist()).float().numpy()[place]


def as_words(tokens: np.ndarray, captions: np.ndarray) -> np.ndarray | None:
    """The part of condition tokens (N, S, D) that captions like `captions` (M, S', D) have, too: all of it, or all but
    the layout token at its end. None where the shapes do not match."""
    length, width = captions.shape[1:]
    fits = tokens.shape[2] == width and tokens.shape[1] in (length, length + 1)
    return tokens[:, :length] if fits else None
