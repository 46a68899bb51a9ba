"""The report on the demo world: decode a subject's test windows, and say how much of what was watched is in them.

``python -m training.studies.report --checkpoint CKPT --data DATASET --judge JUDGE --subject 1 --out FOLDER`` writes
``report.json``, ``report.md`` and ``report.html``, and keeps the clips of each method (``decoded.safetensors``, …): an
interrupted run continues with them. It is `mindviz.evaluate` with a judge of object, category, setting and motion, and
with baselines that are trained: ridge regression, and a linear read-out of the tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindviz.data import Dataset
from mindviz.evaluate.arguments import add_options, given_options
from mindviz.evaluate.catalogue import REPORT_METHODS, chosen
from mindviz.evaluate.measure import shared_rows, token_rows
from mindviz.evaluate.methods import MethodClips, make_clips
from mindviz.evaluate.planted import planted_truth
from mindviz.evaluate.report import Report, headline, write
from mindviz.evaluate.setup import Options, Setup, facts_of, open_setup
from mindviz.evaluate.tokens import as_words, true_caption_tokens
from mindviz.metrics.classifiers import available
from mindviz.metrics.rows import DECODED, Row, identification_rows
from mindviz.simulate.films import Shot
from mindviz.storage import fingerprint, load_arrays
from mindviz.types import MindvizError
from training.demo.judge import ASPECTS, Judge, load_judge
from training.studies.baselines import RIDGE, TokenRidge, token_ridge
from training.studies.judged_rows import against_ridge_rows, derived_rows, judged_rows, label_rows, labelled
from training.studies.token_readout import READOUT, Source, read_out

ALL = (*REPORT_METHODS, RIDGE, READOUT)
BORROWED = (
    "The read-out of the encoder's tokens was trained on ridge's (no --training-tokens were given): where the two "
    "differ in more than their noise it finds less than the tokens hold, and the ratio to it is too kind. The ratio to "
    "the read-out of ridge's own tokens has no such fault."
)


@dataclass(frozen=True)
class Evaluation(Options):
    """`Options`, and the folder of the judge.

    `training_tokens` (N, S, D) are what the encoder makes of the training windows, in the order of
    `data.scans.load_scans`, best when cross-fitted: the read-out of its tokens is trained on them. Where None it is
    trained on ridge's, which the encoder's need not resemble: it then finds less than there is.
    """

    judge: Path = field(default_factory=Path)
    training_tokens: np.ndarray | None = None


class Linear:
    """The ridge decoder of a setup, fitted when it is first asked for."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @cached_property
    def fit(self) -> TokenRidge | str:
        """The fit, or the reason why there is none."""
        return token_ridge(self.setup)

    def tokens(self) -> np.ndarray | str:
        """Its tokens of the test windows."""
        return self.fit if isinstance(self.fit, str) else self.fit.predicted


def film_shots(dataset: Dataset, run: str) -> tuple[Shot, ...]:
    """The shots of a film that the dataset knows; the judge cannot be right or wrong without them."""
    source = dataset.folder / "stimuli" / f"{run}.json"
    needed = [f.name for f in fields(Shot) if f.name != "caption"]
    shots = dataset.shots(run)
    missing = [name for name in needed if any(name not in shot for shot in shots)]
    if not shots or missing:
        raise MindvizError(f"{source}: expected shots with {', '.join(needed)}, found {missing or 'no shots'}")
    return tuple(Shot(**{name: shot[name] for name in needed}, caption=shot.get("caption", "")) for shot in shots)


def evaluate_demo(evaluation: Evaluation) -> dict[str, Any]:
    """Decode, measure, and write ``report.json``, ``report.md`` and ``report.html`` into ``out``.

    Returns
    -------
    dict
        The content of ``report.json``: `facts`, `methods`, and `rows` of method, subset and `mindviz.metrics.Score`.

    Raises
    ------
    MindvizError
        Before anything is decoded: a folder that does not read, a subject, run, method or limit that does not exist, a
        checkpoint that does not fit the dataset, a dataset whose shots the judge does not know.
    """
    methods = chosen(evaluation.methods, ALL)
    judge = load_judge(evaluation.judge)
    setup = open_setup(evaluation)
    setup = replace(setup, test_set=labelled(setup.test_set, film_shots(setup.dataset, setup.run), judge))
    judge.probabilities(setup.test_set.clips[:1])
    classifiers = available(evaluation.vit, evaluation.videomae)
    linear = Linear(setup)
    made = make_clips(setup, [m for m in methods if m is not READOUT], {RIDGE.slug: linear.tokens})
    rows = _judge_rows(setup, made, judge)
    if READOUT in methods:
        rows += _read_out_rows(setup, made, judge, linear, evaluation.training_tokens)
    rows += shared_rows(setup, made, classifiers)
    judged_by = f"{evaluation.judge} ({fingerprint(evaluation.judge / 'model.safetensors')[:12]})"
    facts = facts_of(setup) | {"judge": judged_by, "classifiers": ", ".join(c.name for c in classifiers)}
    title = f"Decoding subject {evaluation.subject}, {setup.run}"
    borrowed = READOUT in methods and READOUT.name not in made.missing and evaluation.training_tokens is None
    notes = (BORROWED,) if borrowed else ()
    return write(Report(title, facts, methods, made.missing, tuple(rows), planted_truth(setup), notes), evaluation.out)


def _judge_rows(setup: Setup, made: MethodClips, judge: Judge) -> list[Row]:
    """What the judge sees in the clips of each method, and in the true ones."""
    test_set, number = setup.test_set, setup.options.permutations
    rows = []
    for method, clips in made.clips.items():
        rows += judged_rows(method, clips, test_set, judge, number)
    rows += judged_rows("true clips", test_set.clips, test_set, judge, number)
    seen, true = judge.embeddings(made.clips[DECODED]), judge.embeddings(test_set.clips)
    return rows + identification_rows("judge's features", seen, true, test_set, number)


def _read_out_rows(
    setup: Setup, made: MethodClips, judge: Judge, linear: Linear, training_tokens: np.ndarray | None
) -> list[Row]:
    """What the tokens hold, of the encoder and of ridge; and the decoded clips against it.

    Where nothing can be fitted, `made.missing` says why, and only unseen pairs are set against seen ones.
    """
    test_set, number = setup.test_set, setup.options.permutations
    labels = judge.labels(made.clips[DECODED])
    fit = linear.fit
    if isinstance(fit, str):
        made.missing[READOUT.name] = fit
        return derived_rows(labels, {}, test_set, READOUT.name)
    own = fit.unseen if training_tokens is None else training_tokens
    sources = {"encoder": Source(own, made.tokens), "ridge": Source(fit.unseen, fit.predicted)}
    held = read_out(setup, judge, sources, fit.clips)
    rows = []
    for source, said in held.items():
        rows += label_rows(f"read-out, {source} tokens", READOUT.name, said, test_set, judge, number)
    rows += derived_rows(labels, held, test_set, READOUT.name)
    wanted = true_caption_tokens(setup)
    words = None if wanted is None else as_words(made.tokens, wanted)
    if wanted is None or words is None:
        return rows
    rows += token_rows(setup, RIDGE.name, fit.predicted)
    return rows + against_ridge_rows(words, fit.predicted, wanted, test_set)


def _tokens(path: Path) -> np.ndarray:
    arrays = load_arrays(path)
    if "tokens" not in arrays or arrays["tokens"].ndim != 3:
        raise MindvizError(f"{path}: expected tokens (N, S, D), found {', '.join(arrays) or 'nothing'}")
    return arrays["tokens"].astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, said in one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.report", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--judge", type=Path, required=True, help="a folder made by python -m training.demo.judge")
    add_options(parser, ALL)
    parser.add_argument(
        "--training-tokens",
        type=Path,
        metavar="FILE",
        help="safetensors with `tokens`, those that the encoder makes of the training windows (best cross-fitted), for "
        "the read-out of its tokens (default: ridge's)",
    )
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    parsed = parser.parse_args(arguments)
    if parsed.threads:
        torch.set_num_threads(parsed.threads)
    try:
        options = given_options(parsed)
        given = {f.name: getattr(options, f.name) for f in fields(Options)}
        tokens = _tokens(parsed.training_tokens) if parsed.training_tokens else None
        print(headline(evaluate_demo(Evaluation(**given, judge=parsed.judge, training_tokens=tokens)), ASPECTS))
    except MindvizError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
