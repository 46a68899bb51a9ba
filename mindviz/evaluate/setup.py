"""What is evaluated: a checkpoint, the windows and clips of one test run, and the training films if available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mindviz import __version__
from mindviz.checkpoint.folder import read_clip
from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.diffusion.clip import ClipModel
from mindviz.metrics.inference import BLOCK, blocks
from mindviz.metrics.rows import DECODED, TestSet
from mindviz.storage import fingerprint, replaceable
from mindviz.types import MindvizError, SamplingSettings


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how thoroughly.

    Attributes
    ----------
    run : the test run; if None, the subject's first.
    limit : number of windows, from the first; all of them if None.
    methods : names from `catalogue.METHODS`, or ``("all",)``; the cheap ones if empty.
    training_data : a prepared dataset with the training runs and their films; if None, `data` itself.
    vit, videomae : folders of classifiers (`metrics.classifiers`).
    sampling : fields of `SamplingSettings` that differ from the checkpoint's own. Window i is decoded with seed
        ``seed + i``.
    map_clips : number of evenly spaced clips whose maps are compared with a planted truth (`planted`); 0 for none.
    """

    checkpoint: Path
    data: Path
    subject: str
    out: Path
    run: str | None = None
    limit: int | None = None
    methods: tuple[str, ...] = ()
    training_data: Path | None = None
    vit: Path | None = None
    videomae: Path | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    permutations: int = 10_000
    ssim_shuffles: int = 20
    save_every: int = 8
    map_clips: int = 24


@dataclass(frozen=True)
class Setup:
    """Everything that methods need to make clips. Create it with `open_setup`.

    `training` is the dataset with the subject's training runs and their films; None if there is none.
    """

    options: Options
    decoder: Decoder
    dataset: Dataset
    training: Dataset | None
    run: str
    settings: SamplingSettings
    test_set: TestSet

    @property
    def count(self) -> int:
        return len(self.test_set.clips)

    @property
    def subject(self) -> str:
        return self.options.subject

    @cached_property
    def checkpoint_hash(self) -> str:
        return fingerprint(self.options.checkpoint)

    @cached_property
    def clip_model(self) -> ClipModel | None:
        """The checkpoint's CLIP, if it has one."""
        return read_clip(self.options.checkpoint)

    @cached_property
    def negative(self) -> np.ndarray | None:
        """The scans (T, V) for a ``"given"`` negative: the mean window of the run, as in the published evaluation;
        None for the stored mean of the training scans."""
        given = self.settings.negative == "given"
        return self.dataset.windows(self.subject, self.run).mean(0) if given else None

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """The caption of the middle frame of each test clip; empty if any clip has none."""
        every = [self.dataset.captions(self.run, i) for i in range(self.count)]
        return tuple(c[len(c) // 2] for c in every) if all(every) else ()


def open_setup(options: Options) -> Setup:
    """Open and check everything that `options` names.

    Raises
    ------
    MindvizError
        For an unreadable folder, an unknown subject or test run, a limit out of range, clips of a single shot, a
        checkpoint that does not match a dataset, or films of another size.
    """
    dataset = Dataset.open(options.data)
    decoder = Decoder.load(options.checkpoint)
    decoder.check(dataset)
    decoder.encoder_config(options.subject)
    run = dataset.test_run(options.subject, options.run)
    count = _count(len(dataset.run(options.subject, run).bold), options.limit)
    settings = replace(decoder.default_settings, **options.sampling)
    decoder.check_settings(settings)
    test_set = true_clips(dataset, run, count)
    size = decoder.info.image_size
    decoded, true = (settings.num_frames, size, size, 3), test_set.clips.shape[1:]
    if decoded != true:
        raise MindvizError(f"expected decoded clips like the true ones (F, H, W, C) {true}, found {decoded}")
    return Setup(options, decoder, dataset, _training(options, dataset, run), run, settings, test_set)


def check_report_target(out: Path) -> None:
    """Refuse an output path that is a file, or a folder with files other than those of a report."""
    out = replaceable(out)
    held = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if held and f"{DECODED}.json" not in held:
        raise MindvizError(
            f"{out}: expected a new or empty folder, or one with a report, found other files ({', '.join(held[:3])})"
        )


def _training(options: Options, dataset: Dataset, run: str) -> Dataset | None:
    """The dataset with training runs and films of the subject; a named dataset without them is refused."""
    training = Dataset.open(options.training_data) if options.training_data else dataset
    named = options.training_data is not None
    runs = training.runs(options.subject, "train")
    if not runs or any(r not in training.info.stimuli for r in runs):
        if named:
            raise MindvizError(f"{training.folder}: expected training runs of subject {options.subject}, found none")
        return None
    if named:
        wanted, found = dataset.run(options.subject, run), training.run(options.subject, runs[0])
        if not np.array_equal(wanted.vertices, found.vertices) or training.window_spec != dataset.window_spec:
            raise MindvizError(
                f"{training.folder}: expected the voxels and windows of {dataset.folder} "
                f"({len(wanted.vertices)} voxels, {dataset.window_spec}), found others "
                f"({len(found.vertices)} voxels, {training.window_spec})"
            )
        if run in runs:
            raise MindvizError(f"{training.folder}: expected training runs without the test run {run}, found it there")
    return training


def _count(available: int, limit: int | None) -> int:
    if limit is not None and not 1 <= limit <= available:
        raise MindvizError(f"--limit: expected 1 to {available}, found {limit}")
    return limit or available


# ---------------------------------------------------------------------- the true clips
def true_clips(dataset: Dataset, run: str, count: int) -> TestSet:
    """The clips watched during the first `count` windows of a run, grouped by the shots of the film.

    If the dataset has no shots, every `BLOCK` successive clips count as one.
    """
    clips = np.stack([dataset.clip(run, i).frames for i in range(count)])
    shots = dataset.shots(run)
    if not shots:
        none = np.zeros(count, bool)
        return TestSet(clips, blocks(count), none, none, {})
    index, straddles = clip_shots(shots, count, clips.shape[1])
    held = [bool(shot.get("held_out")) for shot in shots]
    return TestSet(clips, index, straddles, np.array(held)[index], {})


def clip_shots(shots: Sequence[Mapping[str, Any]], count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `count` clips of `length` frames: the shot that fills most of it, and whether it contains a cut.

    Of two shots that fill a clip equally, the earlier counts; `shots` have `start` and `stop` in frames.
    """
    starts = np.arange(count)[:, None] * length
    begin, end = (np.array([shot[key] for shot in shots])[None] for key in ("start", "stop"))
    filled = np.clip(np.minimum(end, starts + length) - np.maximum(begin, starts), 0, None)
    bare = np.flatnonzero(filled.max(axis=1) == 0)
    if len(bare):
        raise MindvizError(f"expected a shot in every clip, found none in clip {bare[0]}")
    return filled.argmax(axis=1), (filled > 0).sum(axis=1) > 1


def facts_of(setup: Setup) -> dict[str, Any]:
    """The facts that a reader of a report must know."""
    facts: dict[str, Any] = {}
    if setup.dataset.simulated or setup.decoder.simulated:
        facts["SIMULATED"] = "the scans are simulated; nothing here was measured on a brain"
    known = bool(setup.dataset.shots(setup.run))
    return facts | {
        "dataset": f"{setup.dataset.name} ({setup.dataset.fingerprint[:12]})",
        "training data": "none at hand" if setup.training is None else f"{setup.training.fingerprint[:12]}",
        "checkpoint": f"{setup.options.checkpoint} ({setup.checkpoint_hash[:12]})",
        "subject": setup.subject,
        "run": setup.run,
        "clips": setup.count,
        "shots" if known else f"blocks of {BLOCK} clips (no shots are known)": len(np.unique(setup.test_set.shots)),
        "straddling clips": int(setup.test_set.straddles.sum()),
        "sampling": ", ".join(f"{name} {value}" for name, value in asdict(setup.settings).items()),
        "mindviz": __version__,
    }
