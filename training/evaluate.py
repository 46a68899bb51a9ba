"""The report: decode the test windows of one subject, and say how much of what was watched is in them.

``python -m training.evaluate --checkpoint CKPT --data DATASET --judge JUDGE --subject 1 --out FOLDER`` writes
``decoded.safetensors`` (the clips; an interrupted run continues with them), ``report.json`` and ``report.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from tqdm import tqdm

from mindviz import __version__
from mindviz.checkpoint import (
    atomic_file,
    fingerprint,
    load_arrays,
    load_module,
    read_config,
    read_json,
    save_arrays,
    write_json,
)
from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.encoder.clip import ClipConfig, ClipModel, embed_frames
from mindviz.metrics import mean_clip
from mindviz.simulate.films import Shot
from mindviz.types import MindvizError, SamplingSettings
from training.judge import ASPECTS, Judge, load_judge, to_pixels
from training.report import Row, Trial, identification_rows, judged_rows, make_trial, markdown, pixel_rows


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and how thoroughly.

    Attributes
    ----------
    run : the test run; the subject's first where None.
    limit : the first so many windows; all of them where None.
    sampling : fields of `SamplingSettings` that differ from the checkpoint's own. Window i is decoded with seed
        ``seed + i``.
    """

    checkpoint: Path
    data: Path
    judge: Path
    subject: str
    out: Path
    run: str | None = None
    limit: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    permutations: int = 10_000
    ssim_shuffles: int = 20
    save_every: int = 8


# ---------------------------------------------------------------------- decoding, resumable
def decode_windows(
    decoder: Decoder, dataset: Dataset, evaluation: Evaluation, run: str, settings: SamplingSettings, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the first `count` windows of a run, continuing what ``out/decoded.safetensors`` holds.

    Returns
    -------
    clips : uint8 (N, F, H, W, 3)
    tokens : float32 (N, S, D)
    """
    path = evaluation.out / "decoded.safetensors"
    _claim(evaluation, {"run": run, "settings": asdict(settings), "dataset": dataset.fingerprint})
    clips, tokens = _cached(path)
    for index in tqdm(range(len(clips), count), desc=f"decoding {run}", initial=len(clips), total=count, mininterval=5):
        window = dataset.window(evaluation.subject, run, index)
        decoded = decoder.decode(window, replace(settings, seed=settings.seed + index), attention=False)
        clips.append(decoded.clip.frames)
        tokens.append(decoded.encoding.tokens)
        if len(clips) % evaluation.save_every == 0 or len(clips) == count:
            save_arrays(path, {"clips": np.stack(clips), "tokens": np.stack(tokens)})
    return np.stack(clips[:count]), np.stack(tokens[:count])


def _cached(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if not path.exists():
        return [], []
    arrays = load_arrays(path)
    return list(arrays["clips"]), list(arrays["tokens"])


def _claim(evaluation: Evaluation, decoding: dict[str, Any]) -> None:
    """Write what is decoded into the folder, or refuse one that holds clips decoded otherwise."""
    mine = decoding | {"checkpoint": fingerprint(evaluation.checkpoint), "subject": evaluation.subject}
    mine = json.loads(json.dumps(mine))
    path = evaluation.out / "decoded.json"
    if not path.exists():
        write_json(path, mine)
        return
    theirs = read_json(path)
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            raise MindvizError(
                f"{path}: expected clips decoded with {name} {mine.get(name)}, found {theirs.get(name)}; "
                "name another --out, or remove that folder"
            )


# ---------------------------------------------------------------------- what they are compared with
def true_clips(dataset: Dataset, run: str, count: int, judge: Judge) -> Trial:
    """The clips that were watched in the first `count` windows of a run, and what they show."""
    clips = np.stack([dataset.clip(run, i).frames for i in range(count)])
    return make_trial(clips, film_shots(dataset, run), np.arange(count) * clips.shape[1], judge)


def film_shots(dataset: Dataset, run: str) -> tuple[Shot, ...]:
    """The shots of a film that the dataset knows; the judge cannot be right or wrong without them."""
    source = dataset.folder / "stimuli" / f"{run}.json"
    needed = [f.name for f in fields(Shot) if f.name != "caption"]
    shots = dataset.shots(run)
    missing = [name for name in needed if any(name not in shot for shot in shots)]
    if not shots or missing:
        raise MindvizError(f"{source}: expected shots with {', '.join(needed)}, found {missing or 'no shots'}")
    return tuple(Shot(**{name: shot[name] for name in needed}, caption=shot.get("caption", "")) for shot in shots)


def mean_training_video(dataset: Dataset, subject: str) -> np.ndarray | None:
    """The mean clip of the subject's training films, (F, H, W, 3) uint8; None where the dataset holds none of them."""
    films = [dataset.film(run).frames for run in dataset.runs(subject, "train") if run in dataset.info.stimuli]
    if not films:
        return None
    length = dataset.clip_frames
    # The mean of rounded means of films of one length: within half a grey level of the mean of all.
    whole = [rearrange(film[: len(film) // length * length], "(n f) h w c -> n f h w c", f=length) for film in films]
    return mean_clip(np.stack([mean_clip(clips) for clips in whole]))


def clip_rows(
    checkpoint: Path, decoded: np.ndarray, tokens: np.ndarray, captions: Sequence[str], trial: Trial, permutations: int
) -> list[Row]:
    """Identification by the checkpoint's CLIP, if it has one: by the decoded pictures, and by the condition tokens.

    The tokens of the scan are compared with those of the true caption, where the two have one shape.
    """
    folder = checkpoint / "clip"
    if not folder.is_dir():
        return []
    model = ClipModel(read_config(folder, ClipConfig))
    load_module(folder, model)
    model.eval()
    seen, shown = (_picture_embeddings(model, clips) for clips in (decoded, trial.clips))
    rows = identification_rows("CLIP of the checkpoint, pictures", seen, shown, trial, permutations)
    with torch.inference_mode():
        wanted = model.text_tokens(captions)
    if wanted.shape[1:] != tokens.shape[1:]:
        return rows
    found, named = (rearrange(t, "n s d -> n (s d)").astype(np.float64) for t in (tokens, wanted.numpy()))
    return rows + identification_rows("condition tokens against the caption's", found, named, trial, permutations)


def _picture_embeddings(model: ClipModel, clips: np.ndarray) -> np.ndarray:
    """The mean over frames of CLIP's image embeddings, (N, E)."""
    embedded = embed_frames(model, rearrange(to_pixels(clips), "n f c h w -> (n f) c h w"))
    return reduce(embedded, "(n f) e -> n e", "mean", n=len(clips)).double().numpy()


# ---------------------------------------------------------------------- the report
def evaluate(evaluation: Evaluation) -> dict[str, Any]:
    """Decode, measure, and write ``report.json`` and ``report.md`` into ``out``.

    Returns
    -------
    dict
        The content of ``report.json``: `facts`, and `rows` of method, subset and `mindviz.metrics.Score`.

    Raises
    ------
    MindvizError
        Before anything is decoded: a folder that does not read, a subject, run or limit that does not exist, a
        checkpoint that does not fit the dataset, a dataset whose shots the judge does not know.
    """
    dataset, judge = Dataset.open(evaluation.data), load_judge(evaluation.judge)
    decoder = Decoder.load(evaluation.checkpoint)
    decoder.check(dataset)
    decoder.encoder_config(evaluation.subject)
    run = evaluation.run or _first(dataset.runs(evaluation.subject, "test"), dataset, evaluation.subject)
    count = _count(len(dataset.run(evaluation.subject, run).bold), evaluation.limit)
    settings = replace(decoder.default_settings, **evaluation.sampling)
    trial = true_clips(dataset, run, count, judge)
    judge.probabilities(trial.clips[:1])
    size = decoder.info.image_size
    _same_size((settings.num_frames, size, size, 3), trial.clips.shape[1:])
    clips, tokens = decode_windows(decoder, dataset, evaluation, run, settings, count)
    rows = _rows(evaluation, dataset, judge, trial, run, clips, tokens)
    facts = _facts(evaluation, dataset, trial, run, settings)
    report = {"format": 1, "facts": facts, "rows": [asdict(row) for row in rows]}
    write_json(evaluation.out / "report.json", report)
    with atomic_file(evaluation.out / "report.md") as aside:
        aside.write_text(markdown(f"Decoding subject {evaluation.subject}, {run}", facts, rows), encoding="utf-8")
    return report


def _rows(
    evaluation: Evaluation,
    dataset: Dataset,
    judge: Judge,
    trial: Trial,
    run: str,
    clips: np.ndarray,
    tokens: np.ndarray,
) -> list[Row]:
    """All rows: the decoded clips as the judge, the pixels and the embeddings see them; then the true clips judged."""
    number = evaluation.permutations
    mean_training = mean_training_video(dataset, evaluation.subject)
    captions = [c[len(c) // 2] for c in (dataset.captions(run, i) for i in range(len(clips))) if c]
    rows = judged_rows("decoded", clips, trial, judge, number)
    rows += pixel_rows(clips, trial, mean_training, number, evaluation.ssim_shuffles)
    rows += identification_rows(
        "judge's features", judge.embeddings(clips), judge.embeddings(trial.clips), trial, number
    )
    if len(captions) == len(clips):
        rows += clip_rows(evaluation.checkpoint, clips, tokens, captions, trial, number)
    return rows + judged_rows("true clips", trial.clips, trial, judge, number)


def _facts(
    evaluation: Evaluation, dataset: Dataset, trial: Trial, run: str, settings: SamplingSettings
) -> dict[str, Any]:
    facts = {"SIMULATED": "the scans are simulated; nothing here was measured on a brain"} if dataset.simulated else {}
    return facts | {
        "dataset": f"{dataset.name} ({dataset.fingerprint[:12]})",
        "checkpoint": f"{evaluation.checkpoint} ({fingerprint(evaluation.checkpoint)[:12]})",
        "judge": f"{evaluation.judge} ({fingerprint(evaluation.judge / 'model.safetensors')[:12]})",
        "subject": evaluation.subject,
        "run": run,
        "clips": len(trial.clips),
        "shots": len(np.unique(trial.shots)),
        "straddling clips": int(trial.straddles.sum()),
        "sampling": ", ".join(f"{name} {value}" for name, value in asdict(settings).items()),
        "mindviz": __version__,
    }


def _first(runs: Sequence[str], dataset: Dataset, subject: str) -> str:
    if not runs:
        raise MindvizError(f"{dataset.folder}: expected a test run of subject {subject}, found none")
    return runs[0]


def _count(available: int, limit: int | None) -> int:
    if limit is not None and not 1 <= limit <= available:
        raise MindvizError(f"--limit must be 1 to {available}, found {limit}")
    return limit or available


def _same_size(decoded: tuple[int, ...], true: tuple[int, ...]) -> None:
    if decoded != true:
        raise MindvizError(f"expected decoded clips like the true ones (F, H, W, C) {true}, found {decoded}")


def headline(report: dict[str, Any]) -> str:
    """The judge's verdict on all decoded clips, a line for each aspect."""
    rows = [r for r in report["rows"] if (r["method"], r["subset"]) == ("decoded", "all")]
    scores = [r["score"] for r in rows if r["score"]["metric"] in ASPECTS]
    return "\n".join(
        f"{s['metric']:9} {s['value']:.3f} ({s['low']:.3f} to {s['high']:.3f}); chance {s['chance']['uniform']:.3f}"
        f" uniform, {s['chance']['prior']:.3f} prior; shuffled {s['shuffled']:.3f}, p {s['p']:.2g}"
        for s in scores
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, said in one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    for name in ("checkpoint", "data", "judge", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--subject", required=True, help="as named in the dataset: 1")
    parser.add_argument("--run", help="a test run (default: the subject's first)")
    parser.add_argument("--limit", type=int, help="the first so many windows")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the checkpoint's)")
    parser.add_argument("--guidance-scale", type=float, help="default: the checkpoint's")
    parser.add_argument("--seed", type=int, help="of window 0; window i has seed + i (default: the checkpoint's)")
    parser.add_argument("--permutations", type=int, default=10_000)
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    given = vars(parser.parse_args(arguments))
    names = {"steps": "num_inference_steps", "guidance_scale": "guidance_scale", "seed": "seed"}
    chosen = {field_name: given.pop(option) for option, field_name in names.items()}
    given["sampling"] = {name: value for name, value in chosen.items() if value is not None}
    threads = given.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    try:
        print(headline(evaluate(Evaluation(**given))))
    except MindvizError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
