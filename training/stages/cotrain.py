"""Stage 4, co-training: encoders and the attention layers of the video model together (paper section 3.3).

Every subject keeps an encoder of its own (the voxels differ); the video model is shared. At the stated rate a sample's
condition becomes the encoding of the mean training scan, the negative of adversarial guidance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.diffusion import VideoUNet
from mindviz.encoder import FMRIEncoder
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans, augment
from training.demo.crossfit import CrossFitted, folds
from training.demo.ridge import RidgeFit
from training.demo.telling import Heard, heard_digest
from training.engine.processes import WHOLE_BATCH, local
from training.stages.denoising import Noising, denoising_loss
from training.stages.inflate import bases_of, freeze_all_but_attention, said_of, smudged


class FullModel(nn.Module):
    """The encoders of all subjects and the video model they share."""

    def __init__(self, encoders: dict[str, CrossFitted], unet: VideoUNet) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.unet = unet

    def forward(
        self,
        subject: str | None,
        windows: Tensor,
        fold: Tensor,
        negative: Tensor,
        dropped: Tensor,
        noisy: Tensor,
        timesteps: Tensor,
        *drawn: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One subject's windows (B, T, V), their folds (B,), its mean scan (T, V), which samples to drop (B,), noisy
        latents, timesteps and, for a model that has one, a sketch -> (answer, tokens).

        Without a subject, `windows` are captions' tokens (B, S, D) and `negative` those of the empty one.
        """
        if subject is None:
            return self.unet(noisy, timesteps, torch.where(dropped[:, None, None], negative, windows), *drawn), windows
        trained = self.encoders[subject]
        assert isinstance(trained, CrossFitted)
        tokens = trained(windows, fold)
        given = torch.where(dropped[:, None, None], trained.encoder(negative[None]), tokens)
        return self.unet(noisy, timesteps, given, *drawn), tokens

    def set_gradient_checkpointing(self, enable: bool) -> None:
        """As `VideoUNet.set_gradient_checkpointing`."""
        self.unet.set_gradient_checkpointing(enable)


class CotrainTask:
    """Predict the noise (or v) in the latents of the clip that a window of scans saw.

    Each step takes one subject at random; `caption_rate` of the steps take captions instead, or clips as a subject of
    `heard` would have told them, as inflation did.
    `token_weight` keeps the tokens near the captions' own. Both are there so that few scans do not undo what many
    captions taught.
    """

    name = "cotrain"

    def __init__(
        self,
        encoders: dict[str, FMRIEncoder],
        unet: VideoUNet,
        scans: dict[str, TrainingScans],
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        ridge: dict[str, RidgeFit] | None = None,
        dropout: float = 0.1,
        noise: float = 0.3,
        patch_drop: float = 0.2,
        token_weight: float = 0.1,
        shared_noise: float = 0.0,
        caption_rate: float = 0.0,
        corrections: Mapping[str, Sequence[Mapping[str, Tensor]]] | None = None,
        heard: Sequence[Heard] = (),
    ) -> None:
        self.heard, self.bases = tuple(heard), bases_of(unet, heard)
        fits, halves = ridge or {}, corrections or {}
        crossed = {s: CrossFitted(e, fits.get(s), halves.get(s, ())) for s, e in encoders.items()}
        self.module = FullModel(crossed, unet)
        self.configs = {s: e.config for s, e in encoders.items()}
        self.trained = freeze_all_but_attention(unet)
        self.scans, self.corpus, self.scheduler = scans, corpus, scheduler
        self.options = {"dropout": dropout, "noise": noise, "patch_drop": patch_drop, "token_weight": token_weight}
        self.options |= {"caption_rate": caption_rate} if caption_rate else {}
        self.caption_rate = caption_rate
        self.noising = Noising(scheduler, shared_noise)
        self.fold = {s: folds(fits.get(s), len(scans[s])) for s in encoders}
        self.negatives = {s: torch.from_numpy(scan.data.negative) for s, scan in scans.items()}

    def __len__(self) -> int:
        return len(self.scans) * max(len(s) for s in self.scans.values())

    def description(self) -> dict[str, Any]:
        return {
            "scheduler": self.scheduler,
            "options": self.options | {"shared_noise": self.noising.shared},
            "encoders": {s: asdict(c) for s, c in self.configs.items()},
            "scans": {s: scan.fingerprint for s, scan in self.scans.items()},
            "corpus": self.corpus.fingerprint,
            **({"heard": heard_digest(self.heard)} if self.heard else {}),
        }

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        if self.caption_rate and float(torch.rand((), generator=generator)) < self.caption_rate:
            return self._caption_loss(model, indices, generator, rows)
        subject = list(self.scans)[int(torch.randint(len(self.scans), (1,), generator=generator))]
        scans, o = self.scans[subject], self.options
        which = indices % len(scans)
        patch_size = self.configs[subject].patch_size
        windows = augment(scans.windows[which], patch_size, o["patch_drop"], o["noise"], generator)
        starts = scans.first_frame[which]
        noisy, timesteps, target, *drawn = self._noisy(self.corpus.clips(starts), generator)
        dropped = torch.rand(len(which), generator=generator) < o["dropout"]
        wanted = self.corpus.tokens_of(starts + scans.clip_frames // 2)
        windows, fold, dropped, noisy, timesteps, target, wanted, *drawn = local(
            model, rows, windows, self.fold[subject][which], dropped, noisy, timesteps, target, wanted, *drawn
        )
        (negative,) = local(model, WHOLE_BATCH, self.negatives[subject])
        answer, tokens = model(subject, windows, fold, negative, dropped, noisy, timesteps, *drawn)
        distance = functional.mse_loss(tokens[:, : wanted.shape[1]], wanted)
        error = denoising_loss(answer, target, self.corpus.channel_weights)
        return error + o["token_weight"] * distance, {"denoising": error.item(), "tokens": distance.item()}

    def _noisy(self, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noisy latents of clips, timesteps, targets and, for a model that has one, sketches."""
        noised = self.noising(clips, generator)
        return (*noised, *(smudged(self.bases, clips, generator) if self.bases else ()))

    def _caption_loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice
    ) -> tuple[Tensor, dict[str, float]]:
        corpus = self.corpus
        starts = corpus.clip_starts[torch.randint(len(corpus.clip_starts), indices.shape, generator=generator)]
        clips = corpus.clips(starts)
        tokens, negative = said_of(starts, clips, corpus, self.bases, self.heard, generator)
        noisy, timesteps, target, *drawn = self._noisy(clips, generator)
        dropped = torch.rand(len(starts), generator=generator) < self.options["dropout"]
        tokens, dropped, noisy, timesteps, target, *drawn = local(
            model, rows, tokens, dropped, noisy, timesteps, target, *drawn
        )
        (negative,) = local(model, WHOLE_BATCH, negative)
        answer, _ = model(None, tokens, dropped, negative, dropped, noisy, timesteps, *drawn)
        error = denoising_loss(answer, target, corpus.channel_weights)
        return error, {"denoising": error.item(), "tokens": 0.0}
