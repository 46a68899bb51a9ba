"""What an ablation measures: the clip that condition tokens are taken for, their error, and how variants differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mindviz.data import Dataset
from mindviz.diffusion.clip import ClipModel
from mindviz.evaluate.measure import flat
from mindviz.evaluate.setup import clip_shots
from mindviz.evaluate.tokens import text_tokens
from mindviz.metrics import cosine_similarity, identify
from mindviz.metrics.inference import bootstrap_interval
from mindviz.types import MindvizError

ABLATION_MEASURES = {
    "right_shot": "right shot",
    "right_clip": "right clip",
    "pairwise": "pairwise",
    "squared_error": "squared error",
}
REFERENCE_VARIANT = "full"


@dataclass(frozen=True)
class TestClips:
    """The clips of a subject's test runs, and what their captions say.

    Attributes
    ----------
    tokens : float32 (captions, S, D), of the different captions
    caption : int (M,): the row in `tokens` of the caption of each clip's middle frame
    shots : int (M,): the shot that fills most of each clip
    """

    __test__ = False  # for pytest, which takes every class Test… for one of tests

    tokens: np.ndarray
    caption: np.ndarray
    shots: np.ndarray


@dataclass(frozen=True)
class Value:
    """A mean over clips with its 95 % interval (bootstrap over shots)."""

    value: float
    low: float
    high: float


def clips_of_tests(dataset: Dataset, subject: str, clip: ClipModel) -> TestClips:
    """The clips of a subject's test runs, one run after the other.

    Raises
    ------
    MindvizError
        A run whose clips have no captions or no shots.
    """
    captions: list[str] = []
    shots, count = [], 0
    for run in dataset.runs(subject, "test"):
        clips = len(dataset.film(run).frames) // dataset.clip_frames
        every = [dataset.captions(run, index) for index in range(clips)]
        if not all(every) or not dataset.shots(run):
            raise MindvizError(f"{dataset.folder}: expected captions and shots of run {run}, found none")
        captions += [c[len(c) // 2] for c in every]
        shots.append(count + clip_shots(dataset.shots(run), clips, dataset.clip_frames)[0])
        count += len(dataset.shots(run))
    vocabulary, place = np.unique(np.array(captions), return_inverse=True)
    return TestClips(text_tokens(clip, vocabulary.tolist()), place, np.concatenate(shots))


def measures_of_tokens(said: np.ndarray, clips: TestClips) -> dict[str, np.ndarray]:
    """For each of `ABLATION_MEASURES` a value per clip, float64 (M,), of the tokens (M, S, D) that were decoded.

    Identification is that of the report: cosines, each set centred by its own mean. Clips of one caption tie exactly,
    and a variant that says the same of every clip ties all of them.
    """
    shape = (len(clips.caption), *clips.tokens.shape[1:])
    if said.shape != shape or not np.isfinite(said).all():
        raise MindvizError(f"expected finite tokens of shape {shape}, found {said.shape}")
    found, named = flat(said), flat(clips.tokens)
    true = named[clips.caption]
    similarity = np.zeros((len(found), len(found)))
    if not np.allclose(found, found[:1]):
        centred = named - true.mean(axis=0)
        similarity = cosine_similarity(found - found.mean(axis=0), centred)[:, clips.caption]
    chosen = identify(similarity, clips.shots)
    error = np.square(found - true).mean(axis=1)
    return {
        **{name: getattr(chosen, name) for name in ABLATION_MEASURES if name != "squared_error"},
        "squared_error": error,
    }


def levels(clips: TestClips, mean: np.ndarray) -> dict[str, float]:
    """What to read the measures against: random similarities, and the error of always saying `mean` (S, D)."""
    none = identify(np.zeros((len(clips.caption),) * 2), clips.shots)
    error = np.square(clips.tokens[clips.caption] - mean).mean()
    chance = {"right_shot": none.chance_shot, "right_clip": none.chance_clip, "pairwise": 0.5}
    return {**chance, "squared_error": float(error)}


def valued(values: Mapping[str, np.ndarray], shots: np.ndarray) -> dict[str, dict[str, float]]:
    """`Value` of each measure, JSON-able, of values (M,) of clips of the shots (M,)."""
    return {n: asdict(Value(float(v.mean()), *bootstrap_interval(v, shots))) for n, v in values.items()}


def table_of(
    said: Mapping[str, np.ndarray], clips: TestClips, against: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """For each variant its `scores`, and its `difference` to another, clip by clip; None where that is missing.

    `said` are the tokens (M, S, D) of each variant, by name; `against` names what each is compared with, the full
    one by default.
    """
    every = {name: measures_of_tokens(tokens, clips) for name, tokens in said.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, values in every.items():
        other = (against or {}).get(name, REFERENCE_VARIANT)
        rows[name] = {"scores": valued(values, clips.shots), "against": other, "difference": None}
        if other in every and name != other:
            less = {m: values[m] - every[other][m] for m in ABLATION_MEASURES}
            rows[name]["difference"] = valued(less, clips.shots)
    return rows


def _shown(measure: str, value: Mapping[str, float] | float, signed: bool = False) -> str:
    """A number with its interval; shares in per cent."""
    numbers = [value] if isinstance(value, float) else [value["value"], value["low"], value["high"]]
    sign = "+" if signed else ""
    if measure == "squared_error":
        texts = [f"{v:{sign}.4f}" for v in numbers]
    else:
        texts = [f"{100 * v:{sign}.1f}" for v in numbers]
        texts[0] += " points" if signed else " %"
    return texts[0] + (f" ({texts[1]} to {texts[2]})" if len(texts) > 1 else "")


def ablation_markdown(content: Mapping[str, Any]) -> str:
    """``ablation.md`` of the content of ``ablation.json``."""
    facts, chance, variants = content["facts"], content["levels"], content["variants"]
    head = [
        "| variant | " + " | ".join(ABLATION_MEASURES.values()) + " |",
        "| --- |" + " --- |" * len(ABLATION_MEASURES),
    ]
    simulated = "**The scans are simulated; nothing here was measured on a brain.** " if facts["simulated"] else ""
    lines = [
        f"# Ablation of the encoder, subject {facts['subject']}",
        "",
        f"{simulated}{facts['clips']} test clips of {facts['shots']} shots; which of them the condition tokens are "
        "taken for, by the tokens of their captions, and the squared error of the tokens (less is better). Intervals: "
        f"95 %, bootstrap over shots. Steps of every loop: {facts['scale']:g} times the recipe's. One training of each "
        "variant: how far another seed would move it was not measured. An encoder that is asked questions has no "
        "transformer: masked modelling and contrast are those of the variants with one.",
        "",
        *head,
        _line("chance; for the error, the mean of the training captions", chance),
    ]
    lines += [_line(name, v["scores"]) for name, v in variants.items()]
    for other in dict.fromkeys(v["against"] for v in variants.values()):
        differing = {n: v["difference"] for n, v in variants.items() if v["difference"] and v["against"] == other}
        if differing:
            lines += ["", f"Difference to `{other}`, on the same clips:", "", *head]
            lines += [_line(n, d, signed=True) for n, d in differing.items()]
    lines += ["", *(f"- `{n}`: {v['what']}; steps: {_steps(v['steps'])}" for n, v in variants.items())]
    return "\n".join(lines) + "\n"


def _line(name: str, values: Mapping[str, Any], signed: bool = False) -> str:
    return f"| {name} | " + " | ".join(_shown(m, values[m], signed) for m in ABLATION_MEASURES) + " |"


def _steps(steps: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in steps.items()) or "none"
