"""Variants of the encoder for one subject of the demo world, each trained and scored alike:
``python -m training.studies.ablation --demo runs/demo --subject 1 --out runs/ablation1``.

Writes ``OUT/ablation.json`` and ``OUT/ablation.md`` after every variant, of all variants that OUT holds. A folder for
each variant: an interrupted training goes on from its last state, and a finished variant is not trained again.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mindviz.data import Dataset
from mindviz.encoder import FMRIEncoder, MaskedConfig, initialise_encoder
from mindviz.extensions.questions import QuestionConfig
from mindviz.storage import atomic_file, load_arrays, read_json, save_arrays, write_json
from mindviz.types import MindvizError
from training.data.scans import TrainingScans, load_scans
from training.demo.pipeline import DEMO_SEED, Demo
from training.demo.publish import test_windows, without_attention
from training.demo.readout import AttendTask, fit_areas, fit_recall, unseen_answers
from training.demo.recipe import StagesRecipe
from training.engine.loop import LoopConfig, train
from training.stages.contrast import ContrastConfig, ContrastTask
from training.stages.encoders import PlainEncoder
from training.stages.mask import MaskTask
from training.studies.ablation_table import (
    REFERENCE_VARIANT,
    TestClips,
    ablation_markdown,
    clips_of_tests,
    levels,
    table_of,
)

TEST_WINDOWS_AT_A_TIME = 64


@dataclass(frozen=True)
class Variant:
    """An encoder, by what sets it apart from the one that it is set against.

    Attributes
    ----------
    what : in words, for the report.
    kind : asked questions, or the paper's transformer and head.
    patches : areas, rows of the recipe's patch size, or all voxels in one.
    window : scans in a window.
    uniform : whether all areas count alike.
    decides : whether the prior turns answers into probabilities; otherwise tokens are linear in them.
    encoder, contrast : changes of `EncoderConfig` and `ContrastConfig`, of the paper's encoder.
    pretrained : whether the paper's encoder begins at what masked modelling learnt; mask_ratio None is the recipe's.
    against : the variant that it is set against.
    """

    name: str
    what: str
    kind: Literal["questions", "published"] = "questions"
    patches: Literal["areas", "rows", "whole"] = "areas"
    window: int = 2
    uniform: bool = False
    decides: bool = True
    encoder: Mapping[str, Any] = field(default_factory=dict)
    contrast: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    mask_ratio: float | None = None
    against: str = REFERENCE_VARIANT

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "_")


_TRANSFORMER = Variant(
    "transformer",
    "the paper's stages with areas as patches, an embedding for each: masked modelling, then contrast",
    kind="published",
)


def _transformer(name: str, what: str, **changes: Any) -> Variant:
    other = _TRANSFORMER.name
    return replace(_TRANSFORMER, name=f"{other} {name}", what=f"as {other}, {what}", against=other, **changes)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(REFERENCE_VARIANT, "questions to areas: codes, attention, prior"),
        Variant("uniform", "the same codes, all areas alike", uniform=True),
        Variant("one patch", "ridge from all voxels to the answers, the same prior", patches="whole"),
        Variant("rows", "rows of neighbouring voxels in place of areas", patches="rows"),
        Variant("linear", "no prior: tokens are a linear function of the answers", decides=False),
        Variant("window 1", "one scan in a window", window=1),
        Variant("window 3", "three scans in a window", window=3),
        _TRANSFORMER,
        Variant(
            "published",
            "the paper's stages with rows as patches and one embedding for all, as published",
            kind="published",
            patches="rows",
            encoder={"patch_embedding": "shared"},
            against=_TRANSFORMER.name,
        ),
        _transformer("rows", "with rows as patches", patches="rows"),
        _transformer("no pretraining", "from random weights", pretrained=False),
        _transformer("mask 0.5", "half of the patches hidden", mask_ratio=0.5),
        _transformer(
            "no augmentation",
            "but no patch is dropped and no noise added in the contrast",
            contrast={"drop": 0.0, "noise": 0.0},
        ),
        _transformer("text only", "contrast with texts alone", contrast={"image_weight": 0.0}),
        _transformer("image only", "contrast with images alone", contrast={"image_weight": 1.0}),
        _transformer("no contrast", "the tokens' error alone", contrast={"contrast_weight": 0.0}),
    )
}


def with_window(dataset: Dataset, size: int) -> Dataset:
    """The dataset with `size` scans in a window, from the same lag on; it shares what was read."""
    twin = copy.copy(dataset)
    twin.info = replace(dataset.info, window=replace(dataset.info.window, size=size))
    return twin


def scaled_loop(loop: LoopConfig, scale: float) -> LoopConfig:
    """`scale` times the steps of a loop and of its warm-up."""
    return replace(loop, steps=max(1, round(loop.steps * scale)), warmup=round(loop.warmup * scale))


@dataclass
class OneSubject(Demo):
    """The demo world's models as one subject needs them."""

    subject: str = "1"

    @cached_property
    def scans(self) -> dict[str, TrainingScans]:
        return {self.subject: load_scans(self.dataset, self.subject)}


@dataclass(frozen=True)
class Bench:
    """What all variants share. Where scale and settings are the demo's, so is the masked model."""

    demo: OneSubject
    out: Path
    scale: float = 1.0

    @property
    def stages(self) -> StagesRecipe:
        return self.demo.stages

    @cached_property
    def clips(self) -> TestClips:
        return clips_of_tests(self.demo.dataset, self.demo.subject, self.demo.clip)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What all variants of a folder must agree in."""
        vocabulary = self.demo.latents.tokens.contiguous().numpy().tobytes()
        return {
            "simulated": self.demo.dataset.simulated,
            "dataset": self.demo.dataset.fingerprint,
            "captions": sha256(vocabulary + self.clips.tokens.tobytes()).hexdigest(),
            "subject": self.demo.subject,
            "scale": self.scale,
            "clips": len(self.clips.caption),
            "shots": len(np.unique(self.clips.shots)),
        }

    @cached_property
    def own_scans(self) -> TrainingScans:
        """The subject's scans as the demo cuts them."""
        return self.demo.scans[self.demo.subject]

    def scans(self, size: int) -> TrainingScans:
        if size == self.demo.dataset.window_spec.size:
            return self.own_scans
        return load_scans(with_window(self.demo.dataset, size), self.demo.subject)

    def config(self, variant: Variant) -> QuestionConfig:
        asks = variant.kind == "questions"
        config = self.demo.question_config(self.own_scans) if asks else self.demo.published_config(self.own_scans)
        voxels, row = config.num_voxels, self.stages.encoder.patch_size
        if variant.patches == "rows" and asks:  # which areas are asked is learnt by their names
            rows = tuple(i // row for i in range(voxels))
            config = replace(config, areas=rows, area_names=tuple(f"row {i}" for i in sorted({*rows})), patch_size=row)
        elif variant.patches == "rows":
            config = replace(config, areas=(), area_names=(), patch_size=row)
        elif variant.patches == "whole":
            config = replace(config, areas=(0,) * voxels, area_names=("all",), patch_size=voxels)
        return replace(config, window_size=variant.window, **variant.encoder)

    def contrast(self, variant: Variant) -> ContrastConfig:
        return replace(self.stages.contrast, **variant.contrast)

    def loops(self, variant: Variant) -> dict[str, LoopConfig]:
        """The loops that a variant goes through."""
        s, asks = self.stages, variant.kind == "questions"
        used = {
            "attend": (s.attend_loop, asks),
            "masked": (s.mask_loop, not asks and variant.pretrained),
            "contrast": (s.contrast_loop, not asks),
        }
        return {name: scaled_loop(loop, self.scale) for name, (loop, wanted) in used.items() if wanted}

    def masked_model(self, variant: Variant) -> MaskedConfig:
        """The masked model that a variant's encoder begins at."""
        own = self.stages.mask_decoder
        return replace(own, encoder=self.config(variant), mask_ratio=variant.mask_ratio or own.mask_ratio)

    def masked(self, variant: Variant, scans: TrainingScans) -> dict[str, Tensor]:
        """The tensors that masked modelling gives a variant's encoder."""
        masked = self.masked_model(variant)
        if self.scale == 1 and masked == self.masked_model(_TRANSFORMER):
            return self.demo.masked[self.demo.subject]
        torch.manual_seed(DEMO_SEED)
        task = MaskTask(masked, scans)
        ratio = "" if variant.mask_ratio is None else f"_{masked.mask_ratio:g}"
        folder = self.out / "shared" / f"masked_{variant.patches}_{masked.encoder.patch_embedding}{ratio}"
        train(task, scaled_loop(self.stages.mask_loop, self.scale), folder)
        return task.module.encoder_state()


@torch.inference_mode()
def said_by(encoder: FMRIEncoder, windows: Tensor) -> Tensor:
    """Tokens (M, S, D) of windows (M, T, V)."""
    return torch.cat([encoder.eval()(part) for part in windows.split(TEST_WINDOWS_AT_A_TIME)])


def train_variant(bench: Bench, variant: Variant) -> Tensor:
    """Train a variant, or go on with it, and return its tokens (M, S, D) of the test windows."""
    scans = bench.scans(variant.window)
    tests = test_windows(with_window(bench.demo.dataset, variant.window), scans)
    return (_asked if variant.kind == "questions" else _published)(bench, variant, scans, tests)


def _asked(bench: Bench, variant: Variant, scans: TrainingScans, tests: Tensor) -> Tensor:
    """Tokens of a variant that is asked questions."""
    config, asked = bench.config(variant), bench.demo.asked
    fit = fit_areas(scans.windows, asked.targets(scans, bench.demo.latents), config.patching, config.sizes)
    torch.manual_seed(DEMO_SEED)
    task = AttendTask([(config, fit)], asked.recall)
    train(task, bench.loops(variant)["attend"], bench.out / variant.folder)
    encoder = task.module.encoder(config, fit)
    if variant.uniform:
        encoder = without_attention(encoder)
    if variant.decides:
        return said_by(encoder, tests)
    with torch.inference_mode():
        known, given = unseen_answers(encoder, fit), torch.cat([encoder.answers(part) for part in tests.split(64)])
    weight, bias = fit_recall(known, encoder.readout.prior.recall(fit.targets).view(len(known), config.num_tokens, -1))
    return (given @ weight.T + bias).view(len(tests), config.num_tokens, -1)


def _published(bench: Bench, variant: Variant, scans: TrainingScans, tests: Tensor) -> Tensor:
    """Tokens of a variant with the paper's transformer and head."""
    masked = bench.masked(variant, scans) if variant.pretrained else None
    targets = bench.demo.targets
    torch.manual_seed(DEMO_SEED)
    encoder = FMRIEncoder(bench.config(variant))
    if masked is not None:
        initialise_encoder(encoder, masked)
    task = ContrastTask(PlainEncoder(encoder), scans, targets, bench.contrast(variant))
    train(task, bench.loops(variant)["contrast"], bench.out / variant.folder)
    return said_by(task.module.encoder, tests)


def settings_of(bench: Bench, variant: Variant) -> dict[str, Any]:
    """How a variant is made, as ``variant.json`` has it."""
    settings = {
        "variant": asdict(variant),
        "encoder": asdict(bench.config(variant)),
        "contrast": asdict(bench.contrast(variant)),
        "masked": {**asdict(bench.masked_model(variant)), "encoder": None},
        "loops": {name: asdict(loop) for name, loop in bench.loops(variant).items()},
        "facts": bench.facts,
    }
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def kept_variant(bench: Bench, variant: Variant) -> None:
    """Train a variant unless the folder holds it; keep its tokens of the test windows and how it was made."""
    home = bench.out / variant.folder
    if (home / "variant.json").exists():
        return
    tokens = train_variant(bench, variant)
    save_arrays(home / "tokens.safetensors", {"tokens": tokens.float().numpy()})
    write_json(home / "variant.json", settings_of(bench, variant))


def _held(bench: Bench) -> list[Variant]:
    return [v for v in VARIANTS.values() if (bench.out / v.folder / "variant.json").exists()]


def check_kept(bench: Bench, variant: Variant) -> None:
    """Refuse a variant that was made with other settings than it would be now: it cannot stand beside new ones."""
    home = bench.out / variant.folder
    theirs = read_json(home / "variant.json")
    for key, value in settings_of(bench, variant).items():
        if theirs.get(key) != value:
            raise MindvizError(
                f"{home / 'variant.json'}: expected {key} = {value}, found {theirs.get(key)}; remove {home}"
            )


def write_ablation(bench: Bench) -> dict[str, Any]:
    """Score every variant that the folder holds; write ``ablation.json`` and ``ablation.md`` and return the former."""
    held = _held(bench)
    said = {v.name: load_arrays(bench.out / v.folder / "tokens.safetensors")["tokens"] for v in held}
    words = bench.demo.latents.tokens.shape[1]
    said = {name: tokens[:, :words] for name, tokens in said.items()}
    rows = table_of(said, bench.clips, {v.name: v.against for v in held})
    frames = bench.own_scans.first_frame + bench.own_scans.clip_frames // 2
    mean = bench.demo.latents.tokens_of(frames).mean(0).numpy()
    variants = {}
    for v in held:
        loops = read_json(bench.out / v.folder / "variant.json")["loops"]
        variants[v.name] = {"what": v.what, "steps": {n: loop["steps"] for n, loop in loops.items()}, **rows[v.name]}
    content = {"facts": bench.facts, "levels": levels(bench.clips, mean), "variants": variants}
    write_json(bench.out / "ablation.json", content)
    with atomic_file(bench.out / "ablation.md") as aside:
        aside.write_text(ablation_markdown(content), encoding="utf-8")
    return content


def ablate(bench: Bench, only: Sequence[str] = ()) -> dict[str, Any]:
    """Train and score the variants named in `only`, all by default, in the order given.

    Returns
    -------
    dict
        The content of ``ablation.json``: `facts`, `levels` (chance), and for each variant `scores` and `difference`.

    Raises
    ------
    MindvizError
        A variant that does not exist, a scale that is not above 0, a folder of another subject, dataset or scale.
    """
    unknown = [name for name in only if name not in VARIANTS]
    if unknown:
        raise MindvizError(f"expected variants of {', '.join(VARIANTS)}, found {', '.join(unknown)}")
    if not 0 < bench.scale < float("inf"):
        raise MindvizError(f"expected a scale above 0, found {bench.scale:g}")
    path = bench.out / "ablation.json"
    theirs = read_json(path)["facts"] if path.exists() else bench.facts
    for key, value in bench.facts.items():
        if theirs.get(key) != value:
            raise MindvizError(f"{path}: expected {key} = {value}, found {theirs.get(key)}; give another --out")
    content: dict[str, Any] = {}
    for variant in _held(bench):
        check_kept(bench, variant)
    for name in only or VARIANTS:
        kept_variant(bench, VARIANTS[name])
        content = write_ablation(bench)
        print(f"{name}: {content['variants'][name]['scores']}", flush=True)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, said in one sentence, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m training.studies.ablation", description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="folder of `python -m training.demo`")
    parser.add_argument("--subject", default="1")
    parser.add_argument("--out", type=Path, required=True, help="folder of the variants and of the table")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=[], metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps of every loop")
    given = parser.parse_args(arguments)
    try:
        ablate(Bench(OneSubject(given.demo, subject=given.subject), given.out, given.scale), given.only)
    except MindvizError as error:
        print(f"training.studies.ablation: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"training.studies.ablation: {stop}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
