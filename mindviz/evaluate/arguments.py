"""The options of ``python -m mindviz evaluate`` and of ``python -m training.studies.report``; light to import."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mindviz.evaluate.catalogue import REPORT_METHODS, ReportMethod

if TYPE_CHECKING:
    from mindviz.evaluate.setup import Options

_SAMPLING = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "sketch_guidance": "sketch_guidance",
    "seed": "seed",
    "name_sketch": "name_sketch",
    "sketch_fidelity": "sketch_fidelity",
}


def add_options(parser: argparse.ArgumentParser, methods: Sequence[ReportMethod] = REPORT_METHODS) -> None:
    """Add the options to a parser; `methods` are listed in the help."""
    for name, about in (
        ("checkpoint", "a checkpoint folder"),
        ("data", "a prepared dataset"),
        ("out", "where the report and the clips go; an interrupted run is continued from there"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR", help=about)
    parser.add_argument("--subject", required=True, help="as named in the dataset: 1")
    parser.add_argument("--run", help="a test run (default: the subject's first)")
    parser.add_argument("--limit", type=int, help="the first so many windows")
    known, cheap = (", ".join(m.slug for m in methods if m.cheap in kept) for kept in ((True, False), (True,)))
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="NAME", help=f"all, or of {known} (default: {cheap})"
    )
    parser.add_argument(
        "--training-data", type=Path, metavar="DIR", help="a prepared dataset with the training runs and their films"
    )
    parser.add_argument("--vit", type=Path, metavar="DIR", help="an image classifier of transformers (ViT-B/16)")
    parser.add_argument("--videomae", type=Path, metavar="DIR", help="a VideoMAE classifier of transformers")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the checkpoint's)")
    parser.add_argument("--guidance-scale", type=float, help="default: the checkpoint's")
    parser.add_argument("--sketch-guidance", type=float, help="of the sketch, where there is one (default: likewise)")
    parser.add_argument(
        "--negative",
        choices=("training", "run"),
        help="what guidance leads away from: the mean of the training scans, or of this run's, as the published "
        "evaluation did (default: the checkpoint's)",
    )
    parser.add_argument("--seed", type=int, help="of window 0; window i has seed + i (default: the checkpoint's)")
    parser.add_argument(
        "--name-sketch",
        action=argparse.BooleanOptionalAction,
        help="name the sketch's drawings and draw them again (default: as the checkpoint says)",
    )
    parser.add_argument(
        "--sketch-fidelity", type=float, help="how far each step is led back to the sketch (default: the checkpoint's)"
    )
    parser.add_argument("--permutations", type=int, default=10_000)
    parser.add_argument(
        "--map-clips",
        type=int,
        default=24,
        metavar="N",
        help="clips, evenly spread, whose maps are held against the planted truth of a simulated subject (default: 24; "
        "0: none)",
    )


def given_options(parsed: argparse.Namespace) -> Options:
    """The parsed options as `Options`."""
    from mindviz.evaluate.setup import Options

    sampling = {name: getattr(parsed, option) for option, name in _SAMPLING.items()}
    sampling["negative"] = "given" if parsed.negative == "run" else parsed.negative
    return Options(
        checkpoint=parsed.checkpoint,
        data=parsed.data,
        subject=parsed.subject,
        out=parsed.out,
        run=parsed.run,
        limit=parsed.limit,
        methods=tuple(parsed.methods),
        training_data=parsed.training_data,
        vit=parsed.vit,
        videomae=parsed.videomae,
        sampling={name: value for name, value in sampling.items() if value is not None},
        permutations=parsed.permutations,
        map_clips=parsed.map_clips,
    )
