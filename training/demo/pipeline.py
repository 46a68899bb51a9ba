"""Build from nothing everything that `assets/demo` ships: ``python -m training.demo --out runs/demo``.

The stages follow each other; each resumes where it was interrupted, and a finished one is not run again. `--only` runs
one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindviz.brain import Parcellation, parcellations
from mindviz.data import Dataset
from mindviz.diffusion import LatentCodec, UNet2DConditionModel, VideoUNet
from mindviz.diffusion.clip import ClipModel, embed_frames
from mindviz.encoder import FMRIEncoder, initialise_encoder
from mindviz.extensions.naming import Namer
from mindviz.extensions.questions import QuestionConfig, QuestionEncoder, make_encoder
from mindviz.extensions.sketch import Sketch
from mindviz.extensions.sketched_unet import SKETCH_INPUT, SketchedUNet
from mindviz.simulate.films import caption_phrases
from mindviz.storage import load_module, load_tensors, save_module, save_tensors
from training.data import corpus as corpora
from training.data.checks import check_before_training
from training.data.latents import LatentCorpus, build_latents
from training.data.scans import TrainingScans, load_scans
from training.data.targets import Targets
from training.demo.asked import DemoQuestions
from training.demo.clip import ClipTask
from training.demo.codec import DecoderTask
from training.demo.conditions import DemoConditions
from training.demo.cotrain import CaptionedCotrainTask
from training.demo.finish import FinishTask
from training.demo.image import ImageTask
from training.demo.judge import Judge, load_judge, train_judge
from training.demo.more_films import with_more_films
from training.demo.naming import NameTask
from training.demo.pca_codec import begin_at_components
from training.demo.publish import publish_demo
from training.demo.readout import (
    AreaFit,
    AttendTask,
    SharedQuestions,
    fit_areas,
    in_training,
    unseen_answers,
    with_areas,
)
from training.demo.recipe import DEMO_PRETRAINED, DEMO_STAGES, JUDGE_FILMS, JUDGE_LOOP, PretrainedRecipe, StagesRecipe
from training.demo.sketch import SketchTask, begin_sketch
from training.demo.telling import Heard, Teller
from training.demo.world import WorldRecipe, make_world
from training.engine.loop import LoopConfig, Task, train
from training.stages.contrast import ContrastTask
from training.stages.inflate import InflateTask, VideoTask
from training.stages.mask import MaskTask

DEMO_SEED = 0
NEARLY_EXACT = 0.05  # deviation of the noise on latents while the VAE's decoder is polished


@dataclass
class Demo:
    """The demo world's models, each made from those before it when first asked for."""

    out: Path
    pretrained: PretrainedRecipe = DEMO_PRETRAINED
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
        torch.manual_seed(DEMO_SEED)
        codec = LatentCodec.from_config(self.pretrained.codec)
        begin_at_components(codec, self.corpus.frames[::10])
        return codec.eval()

    @cached_property
    def codec(self) -> LatentCodec:
        """The VAE with its decoder trained."""
        task = DecoderTask(self.linear_codec, self.corpus)
        train(task, self.pretrained.codec_loop, self.out / "codec")
        task.noise = NEARLY_EXACT
        train(task, self.pretrained.codec_polish, self.out / "codec_polish")
        return task.codec

    @cached_property
    def clip(self) -> ClipModel:
        corpus = self.corpus  # before the seed: making what a stage needs must not change how its weights begin
        torch.manual_seed(DEMO_SEED)
        task = ClipTask(self.pretrained.clip, corpus)
        train(task, self.pretrained.clip_loop, self.out / "clip")
        return task.module

    @cached_property
    def latents(self) -> LatentCorpus:
        return build_latents(self.linear_codec, self.clip, self.corpus, self.out)

    @cached_property
    def many(self) -> LatentCorpus:
        """The latents, and those of films that no subject saw."""
        shown = {run: self.dataset.film(run).frames for run in self.world.test}
        count = self.pretrained.more_films
        return with_more_films(self.latents, count, self.linear_codec, self.clip, shown, self.out / "more_films")

    @cached_property
    def image(self) -> UNet2DConditionModel:
        latents = self.latents
        torch.manual_seed(DEMO_SEED)
        task = ImageTask(self.pretrained.unet, latents, self.pretrained.scheduler)
        train(task, self.pretrained.image_loop, self.out / "image")
        task.channel_weights = latents.channel_weights
        train(task, self.pretrained.image_polish, self.out / "image_polish")
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
            torch.manual_seed(DEMO_SEED)
            task = MaskTask(replace(self.stages.mask_decoder, encoder=self.published_config(scans)), scans)
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
    def layouts(self) -> Tensor:
        """The layout (N, D) of the clip that begins at each of the N frames that one can begin at."""
        path = self.out / "layouts.safetensors"  # kept, as the bases are
        if not path.exists():
            starts = torch.arange(len(self.latents.latents) - self.latents.clip_frames + 1)
            with torch.inference_mode():
                parts = [self.bases.layout(self.latents.clips(some)) for some in starts.split(1024)]
            save_tensors(path, {"layouts": torch.cat(parts)})
        return load_tensors(path)["layouts"]

    @cached_property
    def contrasted(self) -> dict[str, FMRIEncoder]:
        """For each subject, the paper's encoder after contrastive learning."""
        encoders = {}
        for subject, scans in self.scans.items():
            targets, masked = self.targets, self.masked[subject]
            torch.manual_seed(DEMO_SEED)
            encoders[subject] = encoder = make_encoder(self.published_config(scans))
            initialise_encoder(encoder, masked)
            task = ContrastTask(in_training(encoder, None), scans, targets, self.stages.contrast)
            train(task, self.stages.contrast_loop, self.out / f"contrast{subject}")
        return encoders

    # ------------------------------------------------------------------ the read-out by questions
    @cached_property
    def parcels(self) -> Parcellation:
        return parcellations.load(self.stages.parcellation, self.dataset.mesh)

    @cached_property
    def asked(self) -> DemoQuestions:
        return DemoQuestions.of(self.corpus.vocabulary, self.latents.tokens, self.layouts)

    def question_config(self, scans: TrainingScans) -> QuestionConfig:
        """The encoder of a subject: areas are its patches, and it is asked questions."""
        found: QuestionConfig = with_areas(self.stages.encoder, scans.data.vertices, self.parcels)
        return self.asked.questions.put_into(found)

    def published_config(self, scans: TrainingScans) -> QuestionConfig:
        """The paper's encoder of a subject, with areas as patches and the tokens of captions alone."""
        config: QuestionConfig = with_areas(self.stages.encoder, scans.data.vertices, self.parcels)
        return replace(config, num_tokens=config.num_tokens - 1)

    @cached_property
    def fits(self) -> dict[str, AreaFit]:
        """For each subject, the codes of its areas; seconds, so that nothing is kept."""
        return {s: self.fitted(scans) for s, scans in self.scans.items()}

    def fitted(self, scans: TrainingScans) -> AreaFit:
        config, targets = self.question_config(scans), self.asked.targets(scans, self.latents)
        return fit_areas(scans.windows, targets, config.patching, config.sizes)

    @cached_property
    def attention(self) -> dict[str, SharedQuestions]:
        """For each subject, which areas are asked."""
        return {s: self.attended({s: scans}, self.out / f"attend{s}") for s, scans in self.scans.items()}

    def attended(self, people: Mapping[str, TrainingScans], folder: Path) -> SharedQuestions:
        """Which areas are asked, learnt from all of `people`."""
        fitted = [(self.question_config(scans), self.fits[s]) for s, scans in people.items()]
        torch.manual_seed(DEMO_SEED)
        task = AttendTask(fitted, self.asked.recall)
        train(task, self.stages.attend_loop, folder)
        return task.module

    @cached_property
    def readouts(self) -> dict[str, QuestionEncoder]:
        """For each subject, the encoder that is asked questions."""
        found = self.scans.items()
        return {s: self.attention[s].encoder(self.question_config(scans), self.fits[s]) for s, scans in found}

    # ------------------------------------------------------------------ the generator
    @cached_property
    def inflated(self) -> VideoUNet:
        image, latents = self.image, self.latents
        torch.manual_seed(DEMO_SEED)
        task = InflateTask(
            image,
            latents,
            self.pretrained.scheduler,
            shared_noise=self.stages.shared_noise,
            frame_positions=self.stages.frame_positions,
        )
        train(task, self.stages.inflate_loop, self.out / "inflate")
        return task.module

    @cached_property
    def bases(self) -> Sketch:
        """A sketch that knows its bases, and nothing else yet."""
        folder = self.out / "sketch_bases"  # kept: another number of threads would round them differently
        if not folder.exists():
            save_module(folder, begin_sketch(self.stages.sketch, self.latents, DEMO_SEED), self.stages.sketch)
        sketch = Sketch(self.stages.sketch)
        load_module(folder, sketch)
        return sketch

    @cached_property
    def sketch(self) -> Sketch:
        """Which clips to expect of a caption, and of what a brain says."""
        task = SketchTask(copy.deepcopy(self.bases), self.many, self.heard)
        self._train_on(task, self.stages.sketch_loops, "sketch")
        return task.sketch

    @cached_property
    def namer(self) -> Namer:
        """What puts drawings into words."""
        task = NameTask(self.stages.namer, self.bases, self.many, seed=DEMO_SEED)
        train(task, self.stages.name_loop, self.out / "name")
        return task.namer

    @cached_property
    def painting(self) -> VideoUNet:
        """The video model with a sketch of each clip beside its noisy latents."""
        video = SketchedUNet.of(self.inflated, self.bases)  # sketches are of the clips themselves: nothing is drawn yet
        scheduler, shared = self.pretrained.scheduler, self.stages.shared_noise
        conditions = DemoConditions(video, self.latents)
        task = VideoTask(
            video, self.latents, scheduler, shared_noise=shared, conditions=conditions, also=(SKETCH_INPUT,)
        )
        train(task, self.stages.sketched_loop, self.out / "inflate_sketch")
        conditions = DemoConditions(video, self.many, self.heard)
        task = VideoTask(video, self.many, scheduler, shared_noise=shared, conditions=conditions, also=(SKETCH_INPUT,))
        self._train_on(task, self.stages.painting_loops, "inflate_painting")
        return task.module

    @cached_property
    def heard(self) -> tuple[Heard, ...]:
        """What the encoders say before co-training."""
        return tuple(self._heard(subject) for subject in self.scans)

    @torch.no_grad()
    def _heard(self, subject: str) -> Heard:
        encoder, scans, fit = self.readouts[subject].eval(), self.scans[subject], self.fits[subject]
        answers = unseen_answers(encoder, fit).clone()
        mean = torch.from_numpy(scans.data.negative)[None].float()
        teller = Teller.of(encoder, answers, fit.targets)
        return Heard(encoder.readout.prior(answers), encoder(mean)[0], scans.first_frame, teller)

    @cached_property
    def cotrained(self) -> tuple[dict[str, QuestionEncoder], VideoUNet]:
        """Encoders and video model after co-training (the encoders of `readouts` are left as they were)."""
        encoders = copy.deepcopy(self.readouts)
        video = SketchedUNet.of(self.painting, self.sketch)
        torch.manual_seed(DEMO_SEED)
        trained = {s: in_training(e, self.fits[s]) for s, e in encoders.items()}
        task = CaptionedCotrainTask(
            trained,
            video,
            self.scans,
            self.many,
            self.pretrained.scheduler,
            shared_noise=self.stages.shared_noise,
            caption_rate=self.stages.caption_rate,
            heard=self.heard,
        )
        self._train_on(task, self.stages.cotrain_loops, "cotrain")
        return encoders, task.module.unet

    @cached_property
    def finished(self) -> VideoUNet:
        """The video model trained whole, to tokens as the encoders say them."""
        task = FinishTask(
            copy.deepcopy(self.cotrained[1]),
            self.many,
            self.pretrained.scheduler,
            shared_noise=self.stages.shared_noise,
            heard=self.heard,
        )
        self._train_on(task, self.stages.finish_loops, "finish")
        return task.module

    def _train_on(self, task: Task, loops: Sequence[LoopConfig], name: str) -> None:
        """Each loop goes on from the one before, with a new warm-up."""
        for i, loop in enumerate(loops):
            train(task, loop, self.out / f"{name}{i or ''}")

    def unseen_tokens(self, subject: str) -> Path:
        """A file of the final encoder's tokens of the training windows (`--training-tokens` of `studies.report`)."""
        path, encoder = self.out / f"tokens{subject}.safetensors", self.cotrained[0][subject].eval()
        with torch.inference_mode():
            save_tensors(path, {"tokens": encoder.readout.prior(unseen_answers(encoder, self.fits[subject])).clone()})
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
        encoders, unet = self.cotrained[0], self.finished
        masked = {s: self._masked_encoder(s) for s in self.scans}
        return publish_demo(
            self.out / "published",
            self.dataset,
            encoders,
            {"mask": masked, "contrast": self.contrasted},
            self.scans,
            unet,
            self.codec,
            self.clip,
            self.judge,
            self.pretrained.scheduler,
            self.latents.scale,
            self.stages.sampling,
            (self.namer, caption_phrases()),
        )

    def _masked_encoder(self, subject: str) -> FMRIEncoder:
        torch.manual_seed(DEMO_SEED)
        encoder = make_encoder(self.published_config(self.scans[subject]))
        initialise_encoder(encoder, self.masked[subject])
        return encoder
