"""Stage 4, co-training: encoders and the attention layers of the video model together (paper section 3.3).

Every subject keeps an encoder of its own (the voxels differ); the video model is shared. At the stated rate a sample's
condition becomes the encoding of the mean training scan, the negative of adversarial guidance (section 3.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.diffusion import VideoUNet
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans, augment
from training.engine.batch import Batch
from training.stages.conditions import CaptionConditions, ClipConditions
from training.stages.denoising import Noising, denoising_loss
from training.stages.encoders import PlainEncoder
from training.stages.inflate import freeze_all_but_attention, further_inputs, model_inputs


class FullModel(nn.Module):
    """The encoders of all subjects and the video model they share."""

    def __init__(self, encoders: Mapping[str, PlainEncoder], unet: VideoUNet) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.unet = unet

    def encode(self, subject: Any, windows: Tensor, which: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, D) of a subject's windows (B, T, V), and those (1, S, D) of its mean scan (T, V)."""
        trained = self.encoders[subject]
        assert isinstance(trained, PlainEncoder)
        return trained(windows, which), trained.encoder(negative[None])

    def forward(
        self,
        subject: Any,
        windows: Tensor,
        which: Tensor,
        negative: Tensor,
        dropped: Tensor,
        noisy: Tensor,
        timesteps: Tensor,
        **inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The video model's answer and the tokens (B, S, D) of what it was conditioned on.

        `dropped` (B,) are the samples whose condition becomes the negative; `inputs` go to the video model.
        """
        tokens, unwanted = self.encode(subject, windows, which, negative)
        given = torch.where(dropped[:, None, None], unwanted, tokens)
        return self.unet(noisy, timesteps, given, **inputs), tokens

    def set_gradient_checkpointing(self, enable: bool) -> None:
        """As `VideoUNet.set_gradient_checkpointing`."""
        self.unet.set_gradient_checkpointing(enable)


class CotrainTask:
    """Predict the noise (or v) in the latents of the clip that a window of scans saw; each step takes one subject.

    Parameters
    ----------
    dropout : share of the samples whose condition is the negative.
    noise, patch_drop : of `training.data.scans.augment`.
    token_weight : of the tokens' squared distance to the captions' own; the paper has none.
    conditions : what else the video model is given of a clip; the paper has nothing.
    """

    name = "cotrain"
    full_model: type[FullModel] = FullModel

    def __init__(
        self,
        encoders: Mapping[str, PlainEncoder],
        unet: VideoUNet,
        scans: Mapping[str, TrainingScans],
        corpus: LatentCorpus,
        scheduler: dict[str, Any],
        dropout: float = 0.1,
        noise: float = 0.3,
        patch_drop: float = 0.2,
        token_weight: float = 0.0,
        shared_noise: float = 0.0,
        conditions: ClipConditions | None = None,
        also: Sequence[str] = (),
    ) -> None:
        self.module = self.full_model(encoders, unet)
        self.configs = {s: e.encoder.config for s, e in encoders.items()}
        self.trained = freeze_all_but_attention(unet, also)
        self.scans, self.corpus, self.scheduler = scans, corpus, scheduler
        self.conditions = conditions or CaptionConditions(corpus)
        self.options = {"dropout": dropout, "noise": noise, "patch_drop": patch_drop, "token_weight": token_weight}
        self.noising = Noising(scheduler, shared_noise)
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
            **self.conditions.description(),
        }

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        subject = list(self.scans)[int(torch.randint(len(self.scans), (1,), generator=generator))]
        scans, o = self.scans[subject], self.options
        which = indices % len(scans)
        patching = self.configs[subject].patching
        windows = augment(scans.windows[which], patching, o["patch_drop"], o["noise"], generator)
        starts = scans.first_frame[which]
        samples = {"windows": windows, "which": which} | self.noised(self.corpus.clips(starts), generator)
        samples["wanted"] = self.corpus.tokens_of(starts + scans.clip_frames // 2)
        return Batch(samples, {"subject": subject, "negative": self.negatives[subject]})

    def noised(self, clips: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Noisy latents of clips (B, C, F, h, w), their targets, and which samples lose their condition."""
        noisy, timesteps, target = self.noising(clips, generator)
        samples = {"noisy": noisy, "timesteps": timesteps, "target": target}
        samples |= further_inputs(self.conditions, clips, generator)
        return samples | {"dropped": torch.rand(len(clips), generator=generator) < self.options["dropout"]}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        given = (batch[n] for n in ("subject", "windows", "which", "negative", "dropped", "noisy", "timesteps"))
        answer, tokens = model(*given, **model_inputs(batch))
        wanted = batch["wanted"]
        distance = functional.mse_loss(tokens[:, : wanted.shape[1]], wanted)
        error = denoising_loss(answer, batch["target"], self.corpus.channel_weights)
        figures = {"denoising": error.item(), "tokens": distance.item()}
        return error + self.options["token_weight"] * distance, figures
