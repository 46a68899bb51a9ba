"""One stage of training on a prepared dataset of one's own: masked modelling, contrast, inflation or co-training.

::

    python -m training.stage mask     --data ARRAYS  --out people                # many people, no labels
    python -m training.stage mask     --data DATASET --subject 1 --out mask      --init people
    python -m training.stage contrast --data DATASET --subject 1 --out contrast  --init mask --sd SD --clip CLIP
    python -m training.stage inflate  --data DATASET --subject 1 --out video     --sd SD
    python -m training.stage cotrain  --data DATASET --subject 1 --out full      --init contrast --video video --sd SD

DATASET is what ``python -m mindviz prepare`` writes; ARRAYS a folder of arrays (time, voxels); SD Stable Diffusion 1.5,
as a folder or by its name on the hub, or a checkpoint folder of mindviz. Each OUT holds the run, which resumes when
called again, and ``OUT/model`` once it is done; ``full/checkpoint`` is what the app opens. ``--mask-ratio`` is the
ablation of stage 1. Several processes: ``accelerate launch … -m training.stage …``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from mindviz import __version__
from mindviz.checkpoint.folder import CheckpointInfo, read_unet_config, write_checkpoint
from mindviz.checkpoint.subject import read_encoder_config
from mindviz.data import Dataset
from mindviz.data.arrays import ScanArrays
from mindviz.diffusion import VideoUNet
from mindviz.encoder import EncoderConfig, FMRIEncoder, MaskedAutoencoder, MaskedConfig, initialise_encoder
from mindviz.encoder.masked import random_order
from mindviz.extensions.questions import QuestionConfig, QuestionEncoder, make_encoder
from mindviz.extensions.sketched_unet import SKETCH_INPUT, make_unet
from mindviz.storage import load_arrays, load_state, load_tensors, require_folder, save_arrays, save_module
from mindviz.types import MindvizError
from training.data.checks import check_before_training, check_checkpoint_voxels
from training.data.latents import LatentCorpus
from training.data.pretrained import GeneratorParts, film_latents, film_targets, open_embedder, open_parts
from training.data.scans import TrainingScans, load_scans
from training.demo.conditions import DemoConditions
from training.demo.people import (
    adapt,
    asked_of,
    load_population,
    person_config,
    population,
    runs_of,
    save_population,
    wanted_answers,
    window_tokens,
)
from training.demo.readout import fit_areas, in_training
from training.demo.recipe import ATTEND_LOOP, OWN_DATA
from training.engine.batch import Batch
from training.engine.loop import LoopConfig, Task, train
from training.engine.recompute import Recomputable
from training.paper.recipe import PAPER, Epochs, Recipe
from training.stages.contrast import ContrastTask, EncoderWithHead
from training.stages.cotrain import CotrainTask
from training.stages.encoders import PlainEncoder
from training.stages.inflate import InflateTask
from training.stages.mask import MaskTask

RECIPES = {"paper": PAPER, "demo": OWN_DATA}
STAGE_SEED = 0
MODEL = "model"
VOXELS = "voxels.safetensors"
"""Beside a model: the vertices of the voxels that it was made for."""
LOOP_OPTIONS: dict[str, type] = {
    "steps": int,
    "batch_size": int,
    "lr": float,
    "accumulate": int,
    "mixed_precision": str,
    "save_every": int,
}
POSITIONS = ("pos_embed", "decoder_pos_embed")
"""Fixed tables of a masked model, which depend on the number of patches alone: they are not taken over."""


@dataclass(frozen=True)
class Order:
    """What the command line asks for; `loop` holds fields of `LoopConfig` that replace the recipe's."""

    stage: str
    recipe: Recipe
    data: Path
    out: Path
    subject: str | None = None
    init: Path | None = None
    video: Path | None = None
    sd: str | None = None
    clip: str | None = None
    mask_ratio: float | None = None
    every: int = 1
    runs: int | None = None
    cache: Path | None = None
    device: str = "cpu"
    loop: tuple[tuple[str, Any], ...] = ()

    @property
    def caches(self) -> Path:
        """Where latents, embeddings and statistics are kept."""
        return self.cache or self.out / "cache"

    def need(self, name: str) -> Any:
        """An option that this stage cannot do without."""
        value = getattr(self, name)
        if value is None:
            raise MindvizError(f"training.stage {self.stage}: expected --{name}, found none")
        return value


class UnlabelledMaskTask:
    """`MaskTask` on the scans of many people, drawn from disk."""

    name = "mask"

    def __init__(self, config: MaskedConfig, scans: ScanArrays) -> None:
        self.config, self.scans = config, scans
        self.module = MaskedAutoencoder(config)
        self.num_patches = config.encoder.patching.num_patches

    def __len__(self) -> int:
        return len(self.scans)

    def description(self) -> dict[str, Any]:
        return {"masked": dataclasses.asdict(self.config), "scans": self.scans.fingerprint}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        return Batch({"which": indices, "order": random_order(len(indices), self.num_patches, generator)})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        # read here and not in `draw`, so that each process reads only its own scans from the disk
        order, which = batch["order"], batch["which"].cpu().numpy()
        return model(torch.from_numpy(self.scans.scans(which)).to(order.device), order).loss, {}


# ---------------------------------------------------------------------- what an earlier stage left
def model_state(folder: Path) -> dict[str, Tensor]:
    """The weights that a finished stage left in its folder."""
    home = require_folder(folder, "the folder of an earlier stage") / MODEL
    return load_tensors(require_folder(home, "the model of a finished stage") / "model.safetensors")


def begin_masked(model: MaskedAutoencoder, folder: Path) -> None:
    """Begin with the masked model of another run; its number of voxels may differ where patches share an embedding."""
    state = model.state_dict()
    load_state(model, model_state(folder) | {name: state[name] for name in POSITIONS}, folder / MODEL)


def encoder_start(folder: Path) -> dict[str, Tensor]:
    """The tensors that a masked model gives an encoder; the positions of its patches are the encoder's own."""
    names = ("patch_embed.", "cls_token", "blocks.", "norm.")
    return {name: value for name, value in model_state(folder).items() if name.startswith(names)}


# ---------------------------------------------------------------------- the stages
def check_voxels(order: Order, dataset: Dataset) -> None:
    """Refuse to go on from an encoder or masked model that was made for other voxels, where they are known.

    A masked model of many people knows no vertices.
    """
    home = None if order.init is None else order.init / MODEL
    if home is not None and (home / VOXELS).is_file():
        check_checkpoint_voxels(dataset, order.need("subject"), load_arrays(home / VOXELS)["vertices"], home)


def _trained(
    order: Order, plan: Epochs | LoopConfig, task: Task, config: Any, scans: TrainingScans | None = None
) -> nn.Module:
    """Train, and leave the model in ``OUT/model`` where it has a configuration, with the voxels of its `scans`."""
    loop = plan.loop(len(task)) if isinstance(plan, Epochs) else plan
    module = train(Recomputable(task), replace(loop, **dict(order.loop)), order.out)
    kept = module.encoder if isinstance(module, EncoderWithHead) else module
    if config is not None and PartialState().is_main_process:
        save_module(order.out / MODEL, kept, config)
        if scans is not None:
            save_arrays(order.out / MODEL / VOXELS, {"vertices": scans.data.vertices.astype(np.int32)})
    return kept


def run_mask(order: Order) -> None:
    """Stage 1: on a folder of arrays, or on the training scans of a dataset's subject (paper section 3.2)."""
    task: MaskTask | UnlabelledMaskTask
    scans = None
    if (order.data / "dataset.json").is_file():
        dataset, scans, _ = _dataset(order)
        config = order.recipe.masked_for(scans.windows.shape[2], order.mask_ratio)
        config = replace(config, encoder=_by_areas(config.encoder, dataset, scans))
        task, plan = MaskTask(config, scans), order.recipe.mask_subject
    else:
        arrays = ScanArrays.open(order.data, order.caches, order.every)
        config = order.recipe.masked_for(arrays.num_voxels, order.mask_ratio)
        task, plan = UnlabelledMaskTask(config, arrays), order.recipe.mask
    if order.init is not None:
        begin_masked(task.module, order.init)
    _trained(order, plan, task, config, scans)


def _dataset(order: Order) -> tuple[Dataset, TrainingScans, tuple[str, ...]]:
    dataset, subject = Dataset.open(order.data), order.need("subject")
    check_voxels(order, dataset)
    check_before_training(Dataset(dataset.folder, dataset.info), (subject,))  # a reader of its own: films are let go
    return dataset, load_scans(dataset, subject), dataset.runs(subject, "train")


def _latents(order: Order, parts: GeneratorParts, dataset: Dataset, runs: tuple[str, ...]) -> LatentCorpus:
    r = order.recipe
    return film_latents(parts, dataset, runs, r.image_size, r.one_caption, order.caches, torch.device(order.device))


def run_contrast(order: Order) -> None:
    """Stage 2: the encoder against CLIP's embeddings (paper section 3.2); without --init, the same without stage 1."""
    dataset, scans, runs = _dataset(order)
    parts, clip = open_parts(order.need("sd")), order.clip or order.need("sd")
    targets = film_targets(parts, open_embedder(clip), dataset, runs, order.recipe.image_size, order.caches, clip)
    config = order.recipe.encoder_for(scans.windows.shape[2], targets.tokens.shape[1], targets.tokens.shape[2])
    config = _by_areas(config, dataset, scans)
    torch.manual_seed(STAGE_SEED)
    encoder = make_encoder(config)
    if order.init is not None:
        initialise_encoder(encoder, encoder_start(order.init))
    task = ContrastTask(PlainEncoder(encoder), scans, targets, order.recipe.contrast_config)
    _trained(order, order.recipe.contrast, task, config, scans)


def _by_areas(config: EncoderConfig, dataset: Dataset, scans: TrainingScans) -> EncoderConfig:
    """Areas as patches where the recipe's encoder may be asked questions; the paper's keeps its rows."""
    return person_config(config, dataset, scans) if isinstance(config, QuestionConfig) else config


def _question_config(order: Order, parts: GeneratorParts) -> QuestionConfig:
    tokens = parts.text_tokens(("",))
    config = order.recipe.encoder_for(1, tokens.shape[1], tokens.shape[2])
    if not isinstance(config, QuestionConfig):
        raise MindvizError(f"training.stage {order.stage}: expected --recipe demo, whose encoder is asked questions")
    return config


def run_population(order: Order) -> None:
    """Beyond the paper: which areas to ask, learnt from the subjects of a dataset (all, or those of --subject A,B)."""
    dataset, parts = Dataset.open(order.data), open_parts(order.need("sd"))
    chosen = tuple(order.subject.split(",")) if order.subject else dataset.subjects
    check_before_training(Dataset(dataset.folder, dataset.info), chosen)
    torch.manual_seed(STAGE_SEED)
    loop = replace(ATTEND_LOOP, **dict(order.loop))
    shared = population(_question_config(order, parts), dataset, chosen, parts, loop, order.out)
    if PartialState().is_main_process:
        save_population(order.out / MODEL, shared)


def run_adapt(order: Order) -> None:
    """Beyond the paper: the encoder of one subject, from the first --runs of its runs and --init, a population."""
    dataset, parts, subject = Dataset.open(order.data), open_parts(order.need("sd")), order.need("subject")
    check_before_training(Dataset(dataset.folder, dataset.info), (subject,))
    shared = load_population(require_folder(order.need("init") / MODEL, "a population"))
    runs = runs_of(dataset, subject, order.runs)
    scans = load_scans(dataset, subject, runs)
    tokens = window_tokens(parts, dataset, scans, runs)
    config = replace(_question_config(order, parts), **asked_of(shared))
    encoder, _ = adapt(config, dataset, scans, tokens, shared)
    save_module(order.out / MODEL, encoder, encoder.config)
    save_arrays(order.out / MODEL / VOXELS, {"vertices": scans.data.vertices.astype(np.int32)})


def run_inflate(order: Order) -> None:
    """Stage 3: the image model becomes a video model (paper section 3.3)."""
    dataset, _, runs = _dataset(order)
    parts, r = open_parts(order.need("sd")), order.recipe
    corpus = _latents(order, parts, dataset, runs)
    torch.manual_seed(STAGE_SEED)
    task = InflateTask(
        parts.unet, corpus, parts.schedule, shared_noise=r.shared_noise, frame_positions=r.frame_positions
    )
    if order.init is not None:
        load_state(task.module, model_state(order.init), order.init / MODEL)
    _trained(order, r.inflate, task, task.module.config)


def run_cotrain(order: Order) -> None:
    """Stage 4: encoder and attention together (paper section 3.3); leaves a checkpoint folder that decodes."""
    dataset, scans, runs = _dataset(order)
    parts, r, subject = open_parts(order.need("sd")), order.recipe, scans.subject
    begun, video = order.need("init"), order.need("video")
    corpus = _latents(order, parts, dataset, runs)
    config = read_encoder_config(begun / MODEL)
    encoder, unet = make_encoder(config), make_unet(read_unet_config(video / MODEL))
    load_state(encoder, model_state(begun), begun / MODEL)
    load_state(unet, model_state(video), video / MODEL)
    fit = None
    if isinstance(encoder, QuestionEncoder):
        wanted = wanted_answers(encoder, window_tokens(parts, dataset, scans, runs))
        fit = fit_areas(scans.windows, wanted, encoder.patching, encoder.config.sizes)
    encoders = {subject: in_training(encoder, fit)}
    task = CotrainTask(
        encoders,
        unet,
        {subject: scans},
        corpus,
        parts.schedule,
        token_weight=r.token_weight,
        shared_noise=r.shared_noise,
        conditions=DemoConditions(unet, corpus),
        also=(SKETCH_INPUT,),
    )
    full: Any = _trained(order, r.cotrain, task, None)
    if PartialState().is_main_process:
        publish_recipe(order, dataset, scans, parts, full.encoders[subject].encoder, full.unet)


def publish_recipe(
    order: Order, dataset: Dataset, scans: TrainingScans, parts: GeneratorParts, encoder: FMRIEncoder, unet: VideoUNet
) -> Path:
    """Write ``OUT/checkpoint``, which `Decoder.load` reads."""
    info = CheckpointInfo(
        name=f"{dataset.name} model",
        image_size=order.recipe.image_size,
        sampling=dataclasses.asdict(order.recipe.sampling),
        simulated=dataset.simulated,
        dataset=dataset.fingerprint,
        mesh=dataset.mesh,
        lag=dataset.window_spec.lag,
        fps=dataset.info.fps,
        subjects=(scans.subject,),
        provenance={"made_by": "python -m training.stage cotrain", "mindviz": __version__},
    )
    target, encoders, data = order.out / "checkpoint", {scans.subject: encoder}, {scans.subject: scans.data}
    write_checkpoint(target, info, unet, parts.codec, parts.schedule, encoders, data)
    return target


RUN: dict[str, Callable[[Order], None]] = {
    "mask": run_mask,
    "contrast": run_contrast,
    "population": run_population,
    "adapt": run_adapt,
    "inflate": run_inflate,
    "cotrain": run_cotrain,
}


def read_order(arguments: list[str] | None = None, stage: str | None = None) -> Order:
    """The command line; `stage` is given where the module called is a stage of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if stage is None:
        parser.add_argument("stage", choices=RUN)
    add = parser.add_argument
    add("--recipe", choices=RECIPES, default="paper")
    add("--data", type=Path, required=True, help="a prepared dataset; for mask also a folder of arrays")
    add("--subject", help="of the dataset; population: several as A,B,C (default: all)")
    add("--out", type=Path, required=True, help="folder of this run; resumes what it holds")
    add("--init", type=Path, help="OUT of the stage before (mask: of masked modelling on other scans)")
    add("--video", type=Path, help="cotrain: OUT of inflate")
    add("--sd", help="Stable Diffusion 1.5: folder or hub name; or a checkpoint folder of mindviz")
    add("--clip", help="contrast: CLIP of transformers, folder or hub name; default: that of --sd, if mindviz's")
    add("--mask-ratio", type=float, help="mask: share of patches hidden, instead of the recipe's")
    add("--every", type=int, default=1, help="mask: draw only every Nth volume of the arrays")
    add("--runs", type=int, help="adapt: how many of the subject's training runs to learn from (default: all)")
    add("--cache", type=Path, help="folder of latents and embeddings, to share among runs (default: OUT/cache)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where the VAE encodes the films")
    for name, kind in LOOP_OPTIONS.items():
        add(f"--{name.replace('_', '-')}", type=kind, help="instead of the recipe's")
    add("--gradient-checkpointing", action=argparse.BooleanOptionalAction, help="recompute blocks: less memory")
    values = vars(parser.parse_args(arguments))
    changed = [(name, values.pop(name)) for name in (*LOOP_OPTIONS, "gradient_checkpointing")]
    values["loop"] = tuple((name, value) for name, value in changed if value is not None)
    return Order(**{"stage": stage} | values | {"recipe": RECIPES[values["recipe"]]})


def main(stage: str | None = None, arguments: list[str] | None = None) -> int:
    """Run a stage; a module of one stage alone hands its name in."""
    order = read_order(arguments, stage)
    try:
        torch.manual_seed(STAGE_SEED)
        RUN[order.stage](order)
    except MindvizError as error:
        print(f"training.stage {order.stage}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"training.stage {order.stage}: {error}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
