"""What guidance does: its scale swept, none at all, and the published negative against the training mean.

``python -m training.studies.guidance --checkpoint CKPT --data DATASET --judge JUDGE --subject 1 --out FOLDER``
decodes the test windows once for each of `SWEEP` and writes ``guidance.json`` and ``guidance.md`` after each. The
clips are kept in a folder of their own for each: an interrupted sweep goes on where it stopped.

The paper calls it adversarial guidance (section 3.4): away from what the mean scan says. Its published evaluation took
the mean of the test scans, which knows something of the test; ours takes that of the training scans.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindviz.evaluate.methods import decode_windows
from mindviz.evaluate.setup import Options, facts_of, open_setup
from mindviz.metrics import ssim
from mindviz.storage import atomic_file, fingerprint, write_json
from mindviz.types import MindvizError, SamplingSettings
from training.demo.judge import ASPECTS, Judge, load_judge
from training.studies.ablation_table import valued
from training.studies.judged_rows import labelled
from training.studies.report import film_shots

GUIDANCE_MEASURES = (*ASPECTS, "ssim")
SHIPPED_SETTINGS = "the checkpoint's own"


@dataclass(frozen=True)
class Guided:
    """A setting of the sweep: `share` of what the checkpoint's own scales go beyond 1, and what is led away from."""

    name: str
    share: float
    negative: str = ""  # the checkpoint's own

    @property
    def folder(self) -> str:
        return f"{self.share:g}_{self.negative or 'own'}"

    def changes(self, own: SamplingSettings) -> dict[str, Any]:
        """The fields of `SamplingSettings` that it sets; scale 1 is no guidance."""
        scales = {name: 1 + self.share * (getattr(own, name) - 1) for name in ("guidance_scale", "sketch_guidance")}
        return {**scales, "negative": self.negative or own.negative}


SWEEP = (
    Guided(SHIPPED_SETTINGS, 1.0),
    Guided("no guidance", 0.0),
    Guided("half", 0.5),
    Guided("twice", 2.0),
    Guided("four times", 4.0),
    Guided("away from the mean of the test scans", 1.0, "given"),
)


def measures_of_clips(
    clips: np.ndarray, true: np.ndarray, labels: Mapping[str, np.ndarray], judge: Judge
) -> dict[str, Any]:
    """For each of `GUIDANCE_MEASURES` a value per clip, float64 (N,), of decoded clips (N, F, H, W, 3)."""
    said = judge.labels(clips)
    right = {aspect: (said[aspect] == labels[aspect]).astype(np.float64) for aspect in ASPECTS}
    return right | {"ssim": ssim(clips, true).astype(np.float64)}


def sweep(options: Options, judge_folder: Path, settings: Sequence[Guided] = SWEEP) -> dict[str, Any]:
    """Decode, judge and write each of `settings`; the first is what the others are set against.

    Returns
    -------
    dict
        The content of ``guidance.json``: `facts`, and for each setting its `sampling`, `scores` and `difference`.

    Raises
    ------
    MindvizError
        Before anything is decoded: what does not read or fit; a folder whose clips were decoded otherwise.
    """
    judge = load_judge(judge_folder)
    first = open_setup(options)
    first = replace(first, test_set=labelled(first.test_set, film_shots(first.dataset, first.run), judge))
    test_set, own = first.test_set, first.settings
    facts = facts_of(first) | {"judge": f"{judge_folder} ({fingerprint(judge_folder / 'model.safetensors')[:12]})"}
    del facts["sampling"]  # each setting has its own
    content: dict[str, Any] = {"facts": facts, "settings": {}}
    reference: dict[str, np.ndarray] = {}
    for one in settings:
        changes = one.changes(own)
        mine = replace(options, out=options.out / one.folder, sampling={**options.sampling, **changes})
        setup = replace(first, options=mine, settings=replace(own, **changes))
        values = measures_of_clips(decode_windows(setup)[0], test_set.clips, test_set.labels, judge)
        reference = reference or values
        less = {m: values[m] - reference[m] for m in GUIDANCE_MEASURES} if values is not reference else {}
        content["settings"][one.name] = {
            "sampling": {name: value for name, value in asdict(setup.settings).items() if name in changes},
            "scores": valued(values, test_set.shots),
            "difference": valued(less, test_set.shots) or None,
        }
        _write(content, options.out)
        print(f"{one.name}: " + ", ".join(f"{m} {values[m].mean():.3f}" for m in GUIDANCE_MEASURES), flush=True)
    return content


def _write(content: Mapping[str, Any], out: Path) -> None:
    write_json(out / "guidance.json", content)
    with atomic_file(out / "guidance.md") as aside:
        aside.write_text(guidance_markdown(content), encoding="utf-8")


def guidance_markdown(content: Mapping[str, Any]) -> str:
    """``guidance.md`` of the content of ``guidance.json``."""
    facts = content["facts"]
    simulated = "**The scans are simulated; nothing here was measured on a brain.** " if "SIMULATED" in facts else ""
    head = ["| guidance | scale of painting, of sketch | " + " | ".join((*ASPECTS, "SSIM")) + " |"]
    head.append("|" + " --- |" * (2 + len(GUIDANCE_MEASURES)))
    lines = [
        f"# Guidance, subject {facts['subject']}",
        "",
        f"{simulated}{facts['clips']} clips of {facts['run']}; accuracies by the judge. In brackets: 95 %, bootstrap "
        "over shots. Scale 1 is no guidance.",
        "",
        *head,
        *(_line(name, one, one["scores"], "") for name, one in content["settings"].items()),
        "",
        f"Difference to `{SHIPPED_SETTINGS}`, on the same clips:",
        "",
        *head,
        *(_line(n, one, one["difference"], "+") for n, one in content["settings"].items() if one["difference"]),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, one: Mapping[str, Any], values: Mapping[str, Mapping[str, float]], sign: str) -> str:
    scales = f"{one['sampling']['guidance_scale']:g}, {one['sampling']['sketch_guidance']:g}"
    cells = []
    for measure in GUIDANCE_MEASURES:
        numbers = [values[measure][k] for k in ("value", "low", "high")]
        if measure == "ssim":
            middle, low, high = (f"{v:{sign}.3f}" for v in numbers)
        else:
            middle, low, high = (f"{100 * v:{sign}.1f}" for v in numbers)
            middle += " points" if sign else " %"
        cells.append(f"{middle} ({low} to {high})")
    return f"| {name} | {scales} | " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, said in one sentence, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.guidance", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    for name, about in (
        ("checkpoint", "a checkpoint folder"),
        ("data", "a prepared dataset"),
        ("judge", "a folder made by python -m training.demo.judge"),
        ("out", "folder of the table and of the clips"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR", help=about)
    parser.add_argument("--subject", required=True, help="as named in the dataset: 1")
    parser.add_argument("--limit", type=int, help="the first so many windows")
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    try:
        sweep(Options(given.checkpoint, given.data, given.subject, given.out, limit=given.limit), given.judge)
    except MindvizError as error:
        print(f"training.studies.guidance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("training.studies.guidance: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
