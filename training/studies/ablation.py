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
from mindviz.encoder import FMRIEncoder, MaskedConfig
from mindviz.extensions.readout import ReadOutConfig, rank_of
from mindviz.storage import atomic_file, load_arrays, read_json, save_arrays, write_json
from mindviz.types import MindvizError
from training.data.scans import TrainingScans, load_scans
from training.demo.correct import CorrectTask
from training.demo.crossfit import in_training
from training.demo.pipeline import DEMO_SEED, Demo
from training.demo.publish import test_windows
from training.demo.recipe import StagesRecipe
from training.demo.ridge import RidgeFit, begin_encoder, caption_targets
from training.engine.loop import LoopConfig, train
from training.stages.contrast import ContrastConfig, ContrastTask
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
    """An encoder, by what sets it apart from the full one.

    Attributes
    ----------
    what : in words, for the report.
    last : the last stage: the ridge regression alone, its correction (attention still uniform), or the contrast.
    encoder, contrast : changes of `EncoderConfig` and `ContrastConfig`.
    pretrained, corrected : whether the contrast begins at what masked modelling and the correction learnt.
    mask_ratio : of masked modelling; None is the recipe's.
    against : the variant that it is set against.
    """

    name: str
    what: str
    last: Literal["ridge", "correct", "contrast"] = "contrast"
    encoder: Mapping[str, Any] = field(default_factory=dict)
    contrast: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    corrected: bool = True
    mask_ratio: float | None = None
    against: str = REFERENCE_VARIANT

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "_")


_NO_READ_OUT = {"readout_rank": 0, "layout_rank": 0, "memory_heads": 0}
_PUBLISHED_HEAD = "same loss; no ridge, no correction, their steps are contrast"
_PER_PATCH = Variant(
    "per patch",
    f"the published token head, an embedding for each patch; {_PUBLISHED_HEAD}",
    encoder={"patch_embedding": "per_patch", **_NO_READ_OUT},
)
"""Has no codes that are kept: here masked modelling and contrast reach the tokens."""


def _per_patch(name: str, what: str, **changes: Any) -> Variant:
    other = _PER_PATCH.name
    return replace(_PER_PATCH, name=f"{other} {name}", what=f"as {other}, {what}", against=other, **changes)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(REFERENCE_VARIANT, "masked modelling, then correction, then contrast with images and texts"),
        Variant("ridge", "ridge regression from the window to the caption's tokens, nothing else", last="ridge"),
        Variant("corrected", "ridge and its correction, uniform attention, no contrast", last="correct"),
        Variant("text only", "contrast with texts alone", contrast={"image_weight": 0.0}),
        Variant("image only", "contrast with images alone", contrast={"image_weight": 1.0}),
        Variant("no contrast", "the tokens' error alone in the last stage", contrast={"contrast_weight": 0.0}),
        Variant("no pretraining", "the transformer begins at random weights", pretrained=False),
        Variant("no correction", "contrast from the codes of the ridge", corrected=False, encoder={"memory_heads": 0}),
        Variant("window 1", "one scan in a window", encoder={"window_size": 1}),
        Variant("window 3", "three scans in a window", encoder={"window_size": 3}),
        Variant(
            "published",
            f"the published patch embedding (shared) and token head; {_PUBLISHED_HEAD}",
            encoder={"patch_embedding": "shared", **_NO_READ_OUT},
        ),
        _PER_PATCH,
        _per_patch("no pretraining", "from random weights", pretrained=False),
        _per_patch("mask 0.5", "half of the patches hidden", mask_ratio=0.5),
        _per_patch(
            "no augmentation",
            "but no patch is dropped and no noise added in the contrast",
            contrast={"drop": 0.0, "noise": 0.0},
        ),
        _per_patch("text only", "contrast with texts alone", contrast={"image_weight": 0.0}),
        _per_patch("image only", "contrast with images alone", contrast={"image_weight": 1.0}),
        _per_patch("no contrast", "the tokens' error alone", contrast={"contrast_weight": 0.0}),
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
    """What all variants share. Where scale and settings are the demo's, so are masked model, ridge and correction."""

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

    def config(self, variant: Variant) -> ReadOutConfig:
        config = replace(self.stages.encoder_for(self.own_scans.windows.shape[2]), **variant.encoder)
        return config if rank_of(config) else replace(config, num_tokens=self.demo.words)

    def contrast(self, variant: Variant) -> ContrastConfig:
        return replace(self.stages.contrast, **variant.contrast)

    def loops(self, variant: Variant) -> dict[str, LoopConfig]:
        """The loops that a variant goes through; one without a read-out has the correction's steps for its contrast."""
        s, rank = self.stages, rank_of(self.config(variant))
        more = 0 if rank else s.correct_loop.steps
        contrast = replace(s.contrast_loop, steps=s.contrast_loop.steps + more)
        used = {
            "masked": (s.mask_loop, variant.last == "contrast" and variant.pretrained),
            "correction": (s.correct_loop, variant.last != "ridge" and variant.corrected and rank > 0),
            "contrast": (contrast, variant.last == "contrast"),
        }
        return {name: scaled_loop(loop, self.scale) for name, (loop, wanted) in used.items() if wanted}

    def targets_of(self, scans: TrainingScans) -> Tensor:
        """What the captions of training windows say, (N, S, D)."""
        return caption_targets(scans, self.demo.latents.tokens, self.demo.latents.caption_index)

    # ------------------------------------------------------------------ stages that variants share
    def masked_model(self, variant: Variant) -> MaskedConfig:
        """The masked model that a variant's encoder begins at."""
        config = self.config(variant)
        own = self.stages.masked_for(config.num_voxels)
        cut = replace(own.encoder, patch_embedding=config.patch_embedding, window_size=config.window_size)
        return replace(own, encoder=cut, mask_ratio=variant.mask_ratio or own.mask_ratio)

    def masked(self, variant: Variant, scans: TrainingScans) -> dict[str, Tensor]:
        """The tensors that masked modelling gives a variant's encoder."""
        masked = self.masked_model(variant)
        own = self.stages.masked_for(masked.encoder.num_voxels)
        if self.scale == 1 and scans is self.own_scans and masked == own:
            return self.demo.masked[self.demo.subject]
        torch.manual_seed(DEMO_SEED)
        task = MaskTask(masked, scans)
        ratio = "" if masked.mask_ratio == own.mask_ratio else f"_{masked.mask_ratio:g}"
        folder = self.out / "shared" / f"masked_{masked.encoder.patch_embedding}_{masked.encoder.window_size}{ratio}"
        train(task, scaled_loop(self.stages.mask_loop, self.scale), folder)
        return task.module.encoder_state()

    def ridge(self, scans: TrainingScans) -> RidgeFit:
        if scans is self.own_scans:
            return self.demo.ridge[self.demo.subject]
        return self.demo.fitted(scans, self.out / "shared")

    def correction(self, config: ReadOutConfig, scans: TrainingScans, fit: RidgeFit) -> dict[str, Tensor]:
        """The read-out's correction for the codes of `fit`."""
        if self.scale == 1 and scans is self.own_scans:
            return self.demo.corrections[self.demo.subject]
        wanted, captions = self.demo.wanted(scans), self.demo.latents.tokens
        torch.manual_seed(DEMO_SEED)
        task = CorrectTask(config, fit, wanted, self.stages.correct, captions)
        folder = self.out / "shared" / f"correction_{config.window_size}"
        return train(task, scaled_loop(self.stages.correct_loop, self.scale), folder).state_dict()


@torch.inference_mode()
def said_by(encoder: FMRIEncoder, windows: Tensor) -> Tensor:
    """Tokens (M, S, D) of windows (M, T, V)."""
    return torch.cat([encoder.eval()(part) for part in windows.split(TEST_WINDOWS_AT_A_TIME)])


def train_variant(bench: Bench, variant: Variant) -> Tensor:
    """Train a variant, or go on with it, and return its tokens (M, S, D) of the test windows."""
    config = bench.config(variant)
    scans = bench.scans(config.window_size)
    tests = test_windows(with_window(bench.demo.dataset, config.window_size), scans)
    fit = bench.ridge(scans) if rank_of(config) else None
    if variant.last == "ridge":
        assert fit is not None
        return fit.windows_to_tokens(tests, (config.num_tokens, config.token_dim))
    correction = bench.correction(config, scans, fit) if fit is not None and variant.corrected else None
    if variant.last == "correct":
        assert fit is not None and correction is not None
        return said_by(begin_encoder(config, fit=fit, correction=correction), tests)
    masked = bench.masked(variant, scans) if variant.pretrained else None
    targets = bench.demo.targets
    torch.manual_seed(DEMO_SEED)
    encoder = in_training(begin_encoder(config, masked, fit, correction), fit)
    task = ContrastTask(encoder, scans, targets, bench.contrast(variant))
    train(task, bench.loops(variant)["contrast"], bench.out / variant.folder)
    return said_by(task.module.encoder, tests)


def settings_of(bench: Bench, variant: Variant) -> dict[str, Any]:
    """How a variant is made, as ``variant.json`` has it."""
    settings = {
        "encoder": asdict(bench.config(variant)),
        "contrast": asdict(bench.contrast(variant)),
        "correct": asdict(bench.stages.correct),
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
    said = {name: tokens[:, : bench.demo.words] for name, tokens in said.items()}
    rows = table_of(said, bench.clips, {v.name: v.against for v in held})
    mean = bench.targets_of(bench.own_scans).mean(0).numpy()
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
