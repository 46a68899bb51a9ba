"""Build from nothing everything that `assets/demo` ships: ``python -m training.demo --out runs/demo``.

The stages follow each other; each resumes where it was interrupted, and a finished one is not run again. `--only` runs
one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindviz.checkpoint import save_tensors
from mindviz.data import Dataset
from mindviz.diffusion import LatentCodec, UNet2DConditionModel, VideoUNet
from mindviz.encoder import FMRIEncoder
from mindviz.encoder.clip import ClipModel, embed_frames
from mindviz.types import MindvizError
from training import corpus as corpora
from training.checks import check_before_training
from training.clip import ClipTask
from training.codec import DecoderTask
from training.contrast import ContrastTask, Targets
from training.correct import CorrectTask
from training.cotrain import CotrainTask
from training.crossfit import unseen_tokens
from training.image import ImageTask
from training.inflate import InflateTask
from training.judge import Judge, load_judge, train_judge
from training.latents import LatentCorpus, build_latents
from training.loop import train
from training.mask import MaskTask
from training.pca_codec import begin_at_components
from training.publish import publish
from training.recipes import DEMO_FOUNDATION, DEMO_STAGES, JUDGE_FILMS, JUDGE_LOOP, FoundationRecipe, StagesRecipe
from training.ridge import RidgeFit, caption_targets, kept_ridge
from training.scans import TrainingScans, load_scans
from training.world import WorldRecipe, make_world

SEED = 0
NEARLY_EXACT = 0.05  # deviation of the noise on latents while the VAE's decoder is polished


@dataclass
class Demo:
    """The demo world's models, each made from those before it when first asked for."""

    out: Path
    foundation: FoundationRecipe = DEMO_FOUNDATION
    stages: StagesRecipe = DEMO_STAGES
    world: WorldRecipe = WorldRecipe()  # noqa: RUF009 - frozen

    @cached_property
    def dataset(self) -> Dataset:
        done = self.out / "data" / "dataset.json"
        dataset = Dataset.open(done.parent if done.exists() else make_world(self.world, self.out, discard_raw=True))
        check_before_training(dataset)
        return dataset

    @cached_property
    def corpus(self) -> corpora.Corpus:
        return corpora.from_dataset(self.dataset, self.world.train)

    # ------------------------------------------------------------------ what the paper takes pretrained
    @cached_property
    def linear_codec(self) -> LatentCodec:
        """The VAE at its principal components: its encoder, and so the latents, stay as they are from here on."""
        torch.manual_seed(SEED)
        codec = LatentCodec.from_config(self.foundation.codec)
        begin_at_components(codec, self.corpus.frames[::10])
        return codec.eval()

    @cached_property
    def codec(self) -> LatentCodec:
        """The VAE with its decoder trained."""
        task = DecoderTask(self.linear_codec, self.corpus)
        train(task, self.foundation.codec_loop, self.out / "codec")
        task.noise = NEARLY_EXACT
        train(task, self.foundation.codec_polish, self.out / "codec_polish")
        return task.codec

    @cached_property
    def clip(self) -> ClipModel:
        corpus = self.corpus  # before the seed: making what a stage needs must not change how its weights begin
        torch.manual_seed(SEED)
        task = ClipTask(self.foundation.clip, corpus)
        train(task, self.foundation.clip_loop, self.out / "clip")
        return task.module

    @cached_property
    def latents(self) -> LatentCorpus:
        return build_latents(self.linear_codec, self.clip, self.corpus, self.out)

    @cached_property
    def image(self) -> UNet2DConditionModel:
        latents = self.latents
        torch.manual_seed(SEED)
        task = ImageTask(self.foundation.unet, latents, self.foundation.scheduler)
        train(task, self.foundation.image_loop, self.out / "image")
        task.channel_weights = latents.channel_weights
        train(task, self.foundation.image_polish, self.out / "image_polish")
        return task.module

    # ------------------------------------------------------------------ the paper's stages
    @cached_property
    def scans(self) -> dict[str, TrainingScans]:
        return {s: load_scans(self.dataset, s) for s in self.dataset.subjects}

    @cached_property
    def masked(self) -> dict[str, dict[str, Tensor]]:
        """For each subject, the tensors that masked modelling gives its encoder."""
        states = {}
        for subject, scans in self.scans.items():
            torch.manual_seed(SEED)
            task = MaskTask(self.stages.masked_for(scans.windows.shape[2]), scans)
            train(task, self.stages.mask_loop, self.out / f"mask{subject}")
            states[subject] = task.module.encoder_state()
        return states

    @cached_property
    def targets(self) -> Targets:
        """CLIP's embeddings of every training frame and caption."""
        with torch.inference_mode():
            image = torch.cat(
                [embed_frames(self.clip, self._pixels(i)) for i in range(0, len(self.corpus.frames), 2048)]
            )
            text = self.clip.embed_text(self.corpus.vocabulary)
        return Targets(image.clone(), text.clone(), self.latents.tokens, self.latents.caption_index)

    def _pixels(self, first: int) -> Tensor:
        return self.corpus.pixels(np.arange(first, min(first + 2048, len(self.corpus.frames))))

    @cached_property
    def ridge(self) -> dict[str, RidgeFit]:
        """For each subject, the linear path of its encoder."""
        fits = {}
        for subject, scans in self.scans.items():
            targets = caption_targets(scans, self.latents.tokens, self.latents.caption_index)
            fits[subject] = fit = kept_ridge(self.out, scans, targets, self.stages.encoder.readout_rank)
            print(
                f"ridge, subject {subject}: squared error on unseen runs {fit.error:.3f}, "
                f"of the mean {fit.baseline:.3f}",
                flush=True,
            )
        return fits

    @cached_property
    def corrections(self) -> dict[str, dict[str, Tensor]]:
        """For each subject, the correction of its read-out."""
        states = {}
        for subject, scans in self.scans.items():
            fit, wanted = self.ridge[subject], caption_targets(scans, self.latents.tokens, self.latents.caption_index)
            torch.manual_seed(SEED)
            task = CorrectTask(self.stages.encoder_for(scans.windows.shape[2]), fit, wanted, self.stages.correct)
            states[subject] = train(task, self.stages.correct_loop, self.out / f"correct{subject}").state_dict()
        return states

    @cached_property
    def contrasted(self) -> dict[str, FMRIEncoder]:
        """For each subject, its encoder after contrastive learning."""
        encoders = {}
        for subject, scans in self.scans.items():
            config = self.stages.encoder_for(scans.windows.shape[2])
            targets, begun = self.targets, (self.masked[subject], self.ridge[subject], self.corrections[subject])
            torch.manual_seed(SEED)
            task = ContrastTask(config, scans, targets, self.stages.contrast, *begun)
            train(task, self.stages.contrast_loop, self.out / f"contrast{subject}")
            encoders[subject] = task.module.encoder
        return encoders

    @cached_property
    def inflated(self) -> VideoUNet:
        image, latents = self.image, self.latents
        torch.manual_seed(SEED)
        task = InflateTask(
            image, latents, self.foundation.scheduler,
            shared_noise=self.stages.shared_noise, frame_positions=self.stages.frame_positions,
        )  # fmt: skip
        train(task, self.stages.inflate_loop, self.out / "inflate")
        return task.module

    @cached_property
    def cotrained(self) -> tuple[dict[str, FMRIEncoder], VideoUNet]:
        """Encoders and video model after co-training (the encoders of `contrasted` are left as they were)."""
        torch.manual_seed(SEED)
        encoders = {s: _copy(e) for s, e in self.contrasted.items()}
        task = CotrainTask(
            encoders, self.inflated, self.scans, self.latents, self.foundation.scheduler, self.ridge,
            shared_noise=self.stages.shared_noise,
        )  # fmt: skip
        for i, loop in enumerate(self.stages.cotrain_loops):  # the second goes on from the first, with a new warm-up
            train(task, loop, self.out / f"cotrain{i or ''}")
        return encoders, task.module.unet

    def unseen_tokens(self, subject: str) -> Path:
        """A file of the final encoder's tokens of the training windows (`--training-tokens` of training.evaluate)."""
        path = self.out / f"tokens{subject}.safetensors"
        encoder = self.cotrained[0][subject].eval()
        save_tensors(path, {"tokens": unseen_tokens(encoder, self.ridge[subject], self.scans[subject].windows)})
        return path

    # ------------------------------------------------------------------ what is shipped
    @cached_property
    def judge(self) -> Judge:
        """An independent judge, trained on films of its own."""
        home = self.out / "judge"
        if not (home / "report.json").exists():
            train_judge(home, JUDGE_FILMS, JUDGE_LOOP)
        return load_judge(home)

    @cached_property
    def published(self) -> Path:
        """Checkpoint and test data, as assets/demo ships them."""
        encoders, unet = self.cotrained
        masked = {s: self._masked_encoder(s) for s in self.scans}
        return publish(
            self.out / "published", self.dataset, encoders, {"mask": masked, "contrast": self.contrasted}, self.scans,
            unet, self.codec, self.clip, self.judge, self.foundation.scheduler, self.latents.scale,
            self.stages.sampling,
        )  # fmt: skip

    def _masked_encoder(self, subject: str) -> FMRIEncoder:
        from mindviz.encoder import initialise_encoder

        torch.manual_seed(SEED)
        encoder = FMRIEncoder(self.stages.encoder_for(self.scans[subject].windows.shape[2]))
        initialise_encoder(encoder, self.masked[subject])
        return encoder


def _copy(encoder: FMRIEncoder) -> FMRIEncoder:
    twin = FMRIEncoder(encoder.config)
    twin.load_state_dict(encoder.state_dict())
    return twin


STAGES: dict[str, Callable[[Demo], object]] = {
    "world": lambda d: d.dataset,
    "codec": lambda d: d.codec,
    "clip": lambda d: d.clip,
    "image": lambda d: d.image,
    "mask": lambda d: d.masked,
    "correct": lambda d: d.corrections,
    "contrast": lambda d: d.contrasted,
    "inflate": lambda d: d.inflated,
    "cotrain": lambda d: d.cotrained,
    "judge": lambda d: d.judge,
    "publish": lambda d: d.published,
    "tokens": lambda d: [d.unseen_tokens(s) for s in d.scans],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of all intermediate results")
    parser.add_argument("--only", choices=STAGES, help="run this stage (and those before it that are not finished)")
    arguments = parser.parse_args()
    demo = Demo(arguments.out)
    try:
        for name in [arguments.only] if arguments.only else STAGES:
            STAGES[name](demo)
    except MindvizError as error:
        print(f"training.demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"training.demo: {stop}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
