"""One scan of a run or all of them, and their maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindviz.progress import Phases, no_phases
from mindviz.session.map_choice import MapChoice
from mindviz.session.workspace import Workspace
from mindviz.types import Window


@dataclass(frozen=True)
class Scans:
    """Scan `index` of a run of a subject; all of its scans, where None."""

    subject: str
    run: str
    index: int | None = None

    def windows(self, workspace: Workspace) -> list[Window]:
        """Their windows.

        Raises
        ------
        MindvizError
            For a subject, run or scan that does not exist.
        """
        dataset = workspace.dataset
        count = len(dataset.run(self.subject, self.run).bold)
        indices = range(count) if self.index is None else [self.index]
        return [dataset.window(self.subject, self.run, i) for i in indices]


def each_map(workspace: Workspace, scans: Scans, choice: MapChoice, phases: Phases = no_phases) -> np.ndarray:
    """The map of each of N scans less its control (`Workspace.minus_control`), (N, V); their mean is the run's."""
    windows = scans.windows(workspace)
    values = workspace.plain_maps(windows, choice, phases("map"))
    if choice.control in ("", "uniform"):  # nothing more is computed
        return workspace.minus_control(values, windows, choice)
    return workspace.minus_control(values, windows, choice, phases("control"))
