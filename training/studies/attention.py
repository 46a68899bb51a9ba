"""Does the attention decode? Answers with and without it, lesions, the planted truth, what areas tell alone:
``python -m training.studies.attention --demo runs/demo --checkpoint CKPT --data TEST --out runs/attention``.

For each subject of a demo world. The test clips are those of ``--data``, as shipped; what areas tell alone is measured
on training runs that their codes were not fitted on (``--demo``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from mindviz.checkpoint.folder import read_clip
from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.evaluate.setup import clip_shots
from mindviz.extensions.questions import QuestionEncoder
from mindviz.metrics.inference import bootstrap_interval
from mindviz.storage import write_json
from mindviz.types import MindvizError
from training.demo.asked import caption_answers
from training.demo.pipeline import Demo
from training.demo.publish import without_attention
from training.demo.readout import AreaFit
from training.studies.ablation_table import clips_of_tests, measures_of_tokens

DRIVER_OF = {"object": "object meaning", "setting": "setting", "motion": "local motion"}
"""What drives the voxels that a question should ask, in a simulated subject."""


@dataclass(frozen=True)
class Asked:
    """One subject: its encoder, its test windows (M, T, V), what was seen (M, R) and the shots (M,)."""

    encoder: QuestionEncoder
    windows: Tensor
    seen: np.ndarray
    shots: np.ndarray

    @classmethod
    def of(cls, decoder: Decoder, dataset: Dataset, subject: str) -> Asked:
        encoder = decoder.encoder(subject)
        if not isinstance(encoder, QuestionEncoder):
            raise MindvizError(f"{decoder.folder}: expected an encoder that is asked questions, found another")
        run = dataset.runs(subject, "test")[0]
        windows = [dataset.window(subject, run, i) for i in range(len(dataset.windows(subject, run)))]
        bold = np.stack([decoder.normalise(w.bold, subject, w.run_std) for w in windows])
        seen = torch.stack([caption_answers(dataset.captions(run, w.index)).mean(0) for w in windows])
        shots = clip_shots(dataset.shots(run), len(windows), dataset.clip_frames)[0]
        return cls(encoder.eval(), torch.from_numpy(bold).float(), seen.numpy(), shots)

    @property
    def named(self) -> list[tuple[int, str, slice]]:
        """Place, name and numbers of each question whose answers have names."""
        config, stops = self.encoder.config, np.cumsum(self.encoder.config.sizes)
        every = zip(config.questions, config.answers, stops, config.sizes, strict=True)
        return [(q, name, slice(b - n, b)) for q, (name, answers, b, n) in enumerate(every) if answers]


@torch.inference_mode()
def right_answers(asked: Asked, encoder: QuestionEncoder) -> dict[str, np.ndarray]:
    """For each question, which test clips (M,) are answered as what fills most of the clip."""
    said = torch.cat([encoder.answers(part) for part in asked.windows.split(64)]).numpy()
    return {name: said[:, part].argmax(1) == asked.seen[:, part].argmax(1) for _, name, part in asked.named}


@torch.inference_mode()
def area_lesions(asked: Asked, baseline: Tensor) -> np.ndarray:
    """How far the tokens move, (P,), when an area is at its training mean (T, V), in shares of their variance."""
    readout = asked.encoder.readout
    said, absent = readout.read(asked.windows), readout.read(baseline[None])
    whole = readout.prior(readout.answer(said))
    variance = (whole - whole.mean(0)).square().sum()
    moved = []
    for p in range(said.shape[2]):
        without = said.clone()
        without[:, :, p] = absent[:, :, p]
        moved.append(float((readout.prior(readout.answer(without)) - whole).square().sum() / variance))
    return np.array(moved)


@torch.inference_mode()
def alone_right(encoder: QuestionEncoder, fit: AreaFit, part: slice) -> np.ndarray:
    """The share of training windows, of folds unseen, that each area alone answers rightly, (P,)."""
    alone = torch.cat([encoder.readout.alone(said)[..., part] for said in fit.said.split(512)])
    wanted = fit.targets[:, part].argmax(1)
    found: np.ndarray = (alone.argmax(2) == wanted[:, None]).float().mean(0).numpy()
    return found


def attention_of(decoder: Decoder, dataset: Dataset, subject: str, fit: AreaFit) -> dict[str, Any]:
    """All figures of one subject."""
    asked = Asked.of(decoder, dataset, subject)
    encoder, data = asked.encoder, decoder.data(subject)
    shares = encoder.readout.weights().sum(1).detach().numpy()  # (Q, P)
    answers, uniform = right_answers(asked, encoder), right_answers(asked, without_attention(encoder))
    clip = read_clip(decoder.folder)
    truth = dataset.truth(subject)
    if clip is None or data is None or truth is None:
        raise MindvizError(f"{decoder.folder}: expected CLIP, statistics and a planted truth, found one missing")
    with torch.inference_mode():
        tokens = torch.cat([encoder(part) for part in asked.windows.split(64)]).numpy()
    tests = clips_of_tests(dataset, subject, clip)
    shot = measures_of_tokens(tokens[:, : tests.tokens.shape[1]], tests)["right_shot"]
    evoked, voxels = truth.answers[data.vertices], _to_voxels(encoder, shares)
    untrained = decoder.encoder(subject, "untrained")
    assert isinstance(untrained, QuestionEncoder)
    blind = _to_voxels(untrained, untrained.readout.weights().sum(1).detach().numpy())
    moved = area_lesions(asked, torch.from_numpy(data.negative).float())
    questions = {}
    for q, name, part in asked.named:
        driver = truth.driver[data.vertices] == truth.names.index(DRIVER_OF[name])
        alone = alone_right(encoder, fit, part)
        order = shares[q].argsort()[::-1][:6]
        questions[name] = {
            "right": _interval(answers[name], asked.shots),
            "right_uniform": _interval(uniform[name], asked.shots),
            "auroc_of_its_driver": float(roc_auc_score(driver, voxels[q])),
            "rank_correlation_with_alone": float(spearmanr(shares[q], alone).statistic),
            "asked_most": [[encoder.config.area_names[p], float(shares[q, p])] for p in order],
        }
    return {
        "areas": len(encoder.config.area_names),
        "right_shot": _interval(shot, tests.shots),
        "auroc": float(roc_auc_score(evoked, voxels.mean(0))),
        "auroc_untrained": float(roc_auc_score(evoked, blind.mean(0))),
        "lesion_rank_correlation": float(spearmanr(shares.mean(0), moved).statistic),
        "questions": questions,
    }


def _to_voxels(encoder: QuestionEncoder, shares: np.ndarray) -> np.ndarray:
    return encoder.patching.to_voxels(shares)


def _interval(values: np.ndarray, shots: np.ndarray) -> dict[str, float]:
    low, high = bootstrap_interval(values, shots)
    return {"value": float(np.mean(values)), "low": low, "high": high}


def study(demo: Demo, decoder: Decoder, dataset: Dataset, out: Path) -> dict[str, Any]:
    """Write ``OUT/attention.json`` and return its content, by subject."""
    found = {s: attention_of(decoder, dataset, s, demo.fits[s]) for s in dataset.subjects}
    content = {"simulated": dataset.simulated, "subjects": found}
    write_json(out / "attention.json", content)
    return content


def attention_markdown(content: Mapping[str, Any]) -> str:
    """A row for each figure, a column for each subject."""
    subjects = content["subjects"]
    lines = [f"| | {' | '.join(f'subject {s}' for s in subjects)} |", f"|{' --- |' * (len(subjects) + 1)}"]

    def row(name: str, cells: Sequence[str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    def share(cell: Mapping[str, float]) -> str:
        return f"{cell['value']:.0%} ({cell['low']:.0%} to {cell['high']:.0%})"

    row("areas", [str(v["areas"]) for v in subjects.values()])
    row("the right shot by its tokens", [share(v["right_shot"]) for v in subjects.values()])
    for name in DRIVER_OF:
        each = [v["questions"][name] for v in subjects.values()]
        row(f"{name} right", [share(q["right"]) for q in each])
        row(f"{name} right, attention uniform", [share(q["right_uniform"]) for q in each])
        row(f"{name}: attention tells its driver's voxels, AUROC", [f"{q['auroc_of_its_driver']:.2f}" for q in each])
        row(
            f"{name}: attention and what areas tell alone, rho",
            [f"{q['rank_correlation_with_alone']:.2f}" for q in each],
        )
        row(f"{name}: asked most", [", ".join(f"{a} {w:.0%}" for a, w in q["asked_most"]) for q in each])
    row("attention tells evoked voxels from decoys, AUROC", [f"{v['auroc']:.2f}" for v in subjects.values()])
    row("the same, untrained", [f"{v['auroc_untrained']:.2f}" for v in subjects.values()])
    row(
        "a lesion of an area moves tokens as its share says, rho",
        [f"{v['lesion_rank_correlation']:.2f}" for v in subjects.values()],
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, said in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m training.studies.attention", description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="folder of `python -m training.demo`")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a dataset with the test runs and the planted truth")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        content = study(Demo(given.demo), Decoder.load(given.checkpoint), Dataset.open(given.data), given.out)
        print(attention_markdown(content))
    except MindvizError as error:
        print(f"training.studies.attention: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
