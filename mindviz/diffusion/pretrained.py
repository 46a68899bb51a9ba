"""Stable Diffusion from a local folder or a hub name: the image model that the paper inflates (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch import Tensor

from mindviz.diffusion.codec import LatentCodec
from mindviz.diffusion.parts import make_scheduler
from mindviz.storage import require_file
from mindviz.types import MindvizError

PARTS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}
"""The folders of a Stable Diffusion 1 pipeline that are read, each with the file that must be in it."""


class StableDiffusion:
    """The frozen parts of a Stable Diffusion 1 pipeline, each read when first asked for.

    Parameters
    ----------
    source : a folder in the layout that diffusers writes (``unet/``, ``vae/``, ``text_encoder/``, ``tokenizer/``,
        ``scheduler/``), or the name of such a one on the Hugging Face hub, as ``owner/name``.
    """

    def __init__(self, source: str) -> None:
        self.source, self.local = source, Path(source).is_dir()
        if self.local:
            for part, file in PARTS.items():
                require_file(Path(source) / part / file, f"the {part} of a Stable Diffusion 1 pipeline")
        elif source.startswith((".", "/", "~")) or source.count("/") != 1:
            raise MindvizError(f"{source}: expected a Stable Diffusion folder or owner/name on the hub, found nothing")

    def _read(self, cls: Any, part: str) -> Any:
        try:
            return cls.from_pretrained(self.source, subfolder=part, local_files_only=self.local)
        except (OSError, ValueError, RuntimeError) as error:
            raise _unreadable(self.source, part, error) from error

    @cached_property
    def unet(self) -> UNet2DConditionModel:
        return self._read(UNet2DConditionModel, "unet")

    @cached_property
    def codec(self) -> LatentCodec:
        """The VAE, with the factor that its latents are multiplied with (0.18215 in Stable Diffusion 1)."""
        vae = self._read(AutoencoderKL, "vae")
        return LatentCodec(vae, 1, vae.config["scaling_factor"]).requires_grad_(False).eval()

    @cached_property
    def schedule(self) -> dict[str, Any]:
        """The noise schedule's configuration, with ``_class_name``."""
        try:
            schedule = PNDMScheduler.load_config(self.source, subfolder="scheduler", local_files_only=self.local)
        except (OSError, ValueError) as error:
            raise _unreadable(self.source, "scheduler", error) from error
        make_scheduler(schedule)  # refuses what is none
        return dict(schedule)

    @cached_property
    def text_encoder(self) -> Any:
        from transformers import CLIPTextModel  # here, since it takes seconds and decoding a scan does not need it

        return self._read(CLIPTextModel, "text_encoder").requires_grad_(False).eval()

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        return self._read(CLIPTokenizer, "tokenizer")

    @torch.inference_mode()
    def text_tokens(self, captions: Sequence[str]) -> Tensor:
        """The last hidden states (B, S, D) of the text encoder, 77 x 768 in Stable Diffusion 1; cuts long captions."""
        length = self.text_encoder.config.max_position_embeddings
        options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        ids = self.tokenizer(list(captions), max_length=length, **options)["input_ids"]
        return self.text_encoder(ids.to(next(self.text_encoder.parameters()).device)).last_hidden_state

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights that make latents and tokens."""
        digest = sha256()
        for module in (self.codec.vae, self.text_encoder):
            for name, tensor in module.state_dict().items():
                digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _unreadable(source: str, part: str, error: Exception) -> MindvizError:
    reason = str(error).partition("\n")[0]
    return MindvizError(f"{source}: expected the {part} of a Stable Diffusion 1 pipeline that reads, found: {reason}")
