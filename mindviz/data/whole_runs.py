"""All windows of a run, as they are or with voxels shuffled between windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mindviz.data.dataset import Dataset
from mindviz.types import MindvizError, Window

RunScans = Callable[[str], Sequence[Window]]
"""Maps the name of a run to all its windows, for one subject."""


def run_scans(dataset: Dataset, subject: str) -> RunScans:
    """A function that returns all windows of a subject's run."""

    def of_run(run: str) -> list[Window]:
        return [dataset.window(subject, run, i) for i in range(len(dataset.run(subject, run).bold))]

    return of_run


def shuffled_scans(windows: Sequence[Window], seed: int = 0) -> list[Window]:
    """Windows in which every voxel takes its values from another window, shifted circularly over the run.

    The shift is drawn from 1 to N - 1 for each voxel, so that none keeps its own values. Voxels with equal shifts stay
    aligned, by chance one pair in N - 1: the more windows, the less of the dependence between voxels remains.

    Raises
    ------
    MindvizError
        For windows of several runs, or fewer than three: with two, all voxels would move together.
    """
    if len(windows) < 3:
        raise MindvizError(f"at least three windows are needed to shuffle their voxels, found {len(windows)}")
    runs = {(w.subject, w.run) for w in windows}
    if len(runs) > 1:
        raise MindvizError(f"expected windows of one run to shuffle, found {len(runs)} runs: their scales differ")
    bold = np.stack([w.bold for w in windows])
    further = np.random.default_rng(seed).integers(1, len(bold), bold.shape[2])
    order = (np.arange(len(bold))[:, None] + further) % len(bold)
    mixed = np.take_along_axis(bold, order[:, None], axis=0)
    return [replace(w, bold=part) for part, w in zip(mixed, windows, strict=True)]
