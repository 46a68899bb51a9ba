"""How few recordings do? Questions to areas, ridge, banded ridge and the nearest neighbour, over runs of training:
``python -m training.studies.learning_curves --demo runs/demo --out runs/curves [--people runs/people/data]``.

What each says of the test clips is held against what was seen (object, setting, motion). *Own attention* is learnt from
the person's own runs; *population* is attention of everybody else, put into the person in closed form.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import PredefinedSplit
from torch import Tensor
from tqdm import tqdm

from mindviz.data import Dataset
from mindviz.evaluate.setup import clip_shots
from mindviz.extensions.questions import QuestionConfig
from mindviz.metrics.inference import bootstrap_interval
from mindviz.storage import atomic_file, write_json
from mindviz.types import MindvizError
from training.data.scans import TrainingScans, load_scans
from training.demo.asked import caption_answers
from training.demo.pipeline import DEMO_SEED, Demo
from training.demo.publish import test_windows
from training.demo.readout import AreaFit, AttendTask, SharedQuestions, fit_areas
from training.engine.loop import train
from training.studies.baselines import fit_token_ridge

RUNS = (1, 2, 4, 8, 18)
BANDED_TRIALS, BANDED_PENALTIES = 12, np.logspace(1, 5, 9)
BANDED_FOLDS = 6
OWN, POPULATION = "own attention", "population"


@dataclass(frozen=True)
class Lesson:
    """What a method learns from, and the windows that it is asked about.

    Attributes
    ----------
    windows : ndarray (N, T, V); tests : ndarray (M, T, V), both normalised.
    targets : ndarray (N, R), what was seen, as shares of the clip.
    config : areas and questions of the person; fit : codes of these areas.
    """

    windows: np.ndarray
    tests: np.ndarray
    targets: np.ndarray
    config: QuestionConfig
    fit: AreaFit

    @property
    def centred(self) -> np.ndarray:
        return self.targets - self.targets.mean(axis=0)


def ridge(lesson: Lesson) -> np.ndarray:
    """Ridge from all voxels, a penalty for each answer (himalaya)."""
    x, tests = (w.reshape(len(w), -1) for w in (lesson.windows, lesson.tests))
    return fit_token_ridge(x, lesson.centred, tests)[0] + lesson.targets.mean(axis=0)


def banded_ridge(lesson: Lesson) -> np.ndarray:
    """Ridge with a penalty for each area (himalaya's random search over their proportions, Dupre la Tour 2022)."""
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    places = [place[place >= 0] for place in lesson.config.patching.places()]
    x, tests = ([w[:, :, p].reshape(len(w), -1) for p in places] for w in (lesson.windows, lesson.tests))
    fold = np.arange(len(lesson.windows)) * BANDED_FOLDS // len(lesson.windows)
    model = MultipleKernelRidgeCV(
        kernels="precomputed",
        solver="random_search",
        solver_params={"n_iter": BANDED_TRIALS, "alphas": BANDED_PENALTIES, "progress_bar": False},
        cv=PredefinedSplit(fold),
        random_state=DEMO_SEED,
    )
    model.fit(np.stack([part @ part.T for part in x]), lesson.centred)
    found = model.predict(np.stack([test @ part.T for test, part in zip(tests, x, strict=True)]))
    answers: np.ndarray = found + lesson.targets.mean(axis=0)
    return answers


def nearest(lesson: Lesson) -> np.ndarray:
    """What was seen in the training window whose voxels correlate best."""
    x, tests = (w.reshape(len(w), -1) for w in (lesson.windows, lesson.tests))
    x, tests = (w - w.mean(1, keepdims=True) for w in (x, tests))
    x, tests = (w / np.linalg.norm(w, axis=1, keepdims=True) for w in (x, tests))
    return lesson.targets[(tests @ x.T).argmax(axis=1)]


CURVE_BASELINES: dict[str, Callable[[Lesson], np.ndarray]] = {
    "ridge": ridge,
    "banded ridge": banded_ridge,
    "nearest neighbour": nearest,
}


@dataclass
class Curves:
    """The curves of a demo world's subjects; `people` is a dataset of further subjects for the population."""

    demo: Demo
    out: Path
    people: Path | None = None
    runs: tuple[int, ...] = RUNS

    @cached_property
    def named(self) -> tuple[tuple[str, int], ...]:
        """Questions whose answers have names, and how many answers."""
        q = self.demo.asked.questions
        return tuple((name, size) for name, size, answers in zip(q.names, q.sizes, q.answers, strict=True) if answers)

    @cached_property
    def others(self) -> dict[str, tuple[QuestionConfig, AreaFit]]:
        """Everybody's areas and codes, by name; further subjects learn from what they have."""
        found = {s: (self.demo.question_config(scans), self.demo.fits[s]) for s, scans in self.demo.scans.items()}
        if self.people is None:
            return found
        dataset = Dataset.open(self.people)
        for subject in tqdm(dataset.subjects, desc="population"):
            if subject in found:
                raise MindvizError(f"{self.people}: expected other subjects than {', '.join(found)}, found {subject}")
            found[subject] = self.person(load_scans(dataset, subject), dataset.runs(subject, "train"))
        return found

    def person(self, scans: TrainingScans, runs: Sequence[str]) -> tuple[QuestionConfig, AreaFit]:
        """Areas and codes of a subject who saw `runs`, films of the demo's training."""
        lengths = {r: int(self.demo.dataset.info.stimuli[r]["frames"]) for r in self.demo.world.train}
        starts = dict(zip(lengths, np.cumsum([0, *lengths.values()])[:-1], strict=True))
        own = np.cumsum([0, *(lengths[r] for r in runs)])
        place = np.searchsorted(own, scans.first_frame.numpy(), side="right") - 1
        shift = np.array([starts[r] for r in runs]) - own[:-1]
        moved = scans.first_frame + torch.from_numpy(shift[place])
        config = self.demo.question_config(scans)
        there = TrainingScans(scans.subject, scans.windows, moved, scans.clip_frames, scans.data)
        targets = self.demo.asked.targets(there, self.demo.latents)
        return config, fit_areas(scans.windows, targets, config.patching, config.sizes)

    def learnt(self, people: Mapping[str, tuple[QuestionConfig, AreaFit]], name: str) -> SharedQuestions:
        torch.manual_seed(DEMO_SEED)
        task = AttendTask(list(people.values()), self.demo.asked.recall)
        train(task, self.demo.stages.attend_loop, self.out / "attention" / name)
        return task.module

    def seen(self, subject: str) -> tuple[np.ndarray, np.ndarray]:
        """What was seen in each test clip, an answer for each question (M, Q), and the shot that it lies in (M,)."""
        dataset = self.demo.dataset
        answers: list[Tensor] = []
        shots: list[np.ndarray] = []
        for run in dataset.runs(subject, "test"):
            clips = len(dataset.film(run).frames) // dataset.clip_frames
            answers += [caption_answers(dataset.captions(run, i)).mean(0) for i in range(clips)]
            shots.append(len(shots) * 10_000 + clip_shots(dataset.shots(run), clips, dataset.clip_frames)[0])
        return self.likeliest(torch.stack(answers).numpy()), np.concatenate(shots)

    def likeliest(self, answers: np.ndarray) -> np.ndarray:
        """The likeliest answer to each question, (M, Q), of numbers (M, R)."""
        stops = np.cumsum([size for _, size in self.named])
        return np.stack([answers[:, b - n : b].argmax(1) for b, (_, n) in zip(stops, self.named, strict=True)], 1)

    def right(self, subject: str, count: int) -> dict[str, np.ndarray]:
        """Which answers are right, (M, Q), by method, of a subject of whom `count` runs are known."""
        runs = self.demo.dataset.runs(subject, "train")[:count]
        scans = load_scans(self.demo.dataset, subject, runs)
        config, fit = self.person(scans, runs)
        tests: Tensor = test_windows(self.demo.dataset, scans)
        named = sum(size for _, size in self.named)
        windows = scans.windows.float().numpy()
        lesson = Lesson(windows, tests.numpy(), fit.targets[:, :named].numpy(), config, fit)
        own = self.learnt({subject: (config, fit)}, f"{subject}_{count}")
        everybody = self.learnt({s: p for s, p in self.others.items() if s != subject}, f"without_{subject}")
        said = {name: shared.encoder(config, fit).eval() for name, shared in ((OWN, own), (POPULATION, everybody))}
        with torch.inference_mode():
            found = {name: torch.cat([e.answers(w) for w in tests.split(64)]).numpy() for name, e in said.items()}
        found |= {name: method(lesson) for name, method in CURVE_BASELINES.items()}
        truth, _ = self.seen(subject)
        return {name: self.likeliest(answers) == truth for name, answers in found.items()}


def curves(study: Curves) -> dict[str, Any]:
    """Write ``OUT/learning_curves.json`` and ``.md``; each cell has its interval, by bootstrap over shots.

    Returns
    -------
    dict
        `rows`: method, runs, question, by subject and their mean; `differences` of the attention from the baselines.
    """
    subjects = study.demo.dataset.subjects
    shots = study.seen(subjects[0])[1]
    rows, differences = [], []
    for count in study.runs:
        right = {s: study.right(s, count) for s in tqdm(subjects, desc=f"{count} runs")}
        mean = {m: np.mean([right[s][m] for s in subjects], axis=0) for m in right[subjects[0]]}
        for q, (question, _) in enumerate(study.named):
            for method, values in mean.items():
                each = {s: float(right[s][method][:, q].mean()) for s in subjects}
                low, high = bootstrap_interval(values[:, q], shots)
                cell = {"subjects": each, "mean": float(values[:, q].mean()), "low": low, "high": high}
                rows.append({"method": method, "runs": count, "question": question} | cell)
            for ours in (OWN, POPULATION):
                for theirs in CURVE_BASELINES:
                    less = mean[ours][:, q] - mean[theirs][:, q]
                    low, high = bootstrap_interval(less, shots)
                    named = {"method": ours, "less": theirs, "runs": count, "question": question}
                    differences.append(named | {"value": float(less.mean()), "low": low, "high": high})
        content = {"simulated": study.demo.dataset.simulated, "rows": rows, "differences": differences}
        write_json(study.out / "learning_curves.json", content)
        with atomic_file(study.out / "learning_curves.md") as aside:
            aside.write_text(curves_markdown(content), encoding="utf-8")
    return content


def curves_markdown(content: Mapping[str, Any]) -> str:
    """A table for each question: a row for each method, a column for each number of runs."""
    lines = ["# Learning curves", "", "Mean of the subjects, right of all test clips; 95 %, bootstrap over shots.", ""]
    lines += ["All of it is simulated.", ""] if content["simulated"] else []
    rows = content["rows"]
    counts = list(dict.fromkeys(row["runs"] for row in rows))
    for question in dict.fromkeys(row["question"] for row in rows):
        lines += [f"## {question}", "", "| method | " + " | ".join(f"{n} runs" for n in counts) + " |"]
        lines += ["| --- |" + " --- |" * len(counts)]
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [r for r in rows if (r["method"], r["question"]) == (method, question)]
            cells = [f"{r['mean']:.0%} ({r['low']:.0%} to {r['high']:.0%})" for r in own]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, said in one sentence, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m training.studies.learning_curves", description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="folder of `python -m training.demo`")
    parser.add_argument("--people", type=Path, help="a prepared dataset of further subjects who saw the same films")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, nargs="+", default=list(RUNS), help="how many runs are known")
    given = parser.parse_args(arguments)
    try:
        print(curves_markdown(curves(Curves(Demo(given.demo), given.out, given.people, tuple(given.runs)))))
    except MindvizError as error:
        print(f"training.studies.learning_curves: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"training.studies.learning_curves: {stop}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
