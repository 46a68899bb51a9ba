"""Maps that need no decoding: of one scan, or the mean over a run, as the files that the app saves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mindviz import storage
from mindviz.brain import Parcellation
from mindviz.progress import Progress, silent
from mindviz.session import export
from mindviz.session.map_export import EVERY_FILE, page_of_one, source_record, write_map
from mindviz.session.map_names import label
from mindviz.session.map_request import MapChoice
from mindviz.session.workspace import Workspace
from mindviz.types import AttentionMap, MindvizError, Window


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


def save_map(
    workspace: Workspace, scans: Scans, choice: MapChoice, folder: Path, by: Parcellation | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Path:  # fmt: skip
    """Write a map into `folder` as `map_export.FILES`, all of them or none; of a run, the mean over its scans.

    Parameters
    ----------
    folder : new, empty, or an earlier export of a map, which is replaced.
    by : the parcels that a lesion of areas takes out; HCP-MMP's where None.
    progress : given what is computed (the map, then its control), what is called with (done, total). It may raise, to
        cancel: nothing is written then.

    Returns
    -------
    Path
        ``map.json``, which tells where the map comes from.

    Raises
    ------
    MindvizError
        For a folder that holds anything else, scans that do not exist, or a map that this checkpoint cannot give.
    """
    folder = export.check_target(folder, EVERY_FILE)
    if (by.name if by else "") != choice.parcels:
        raise MindvizError(f"expected the parcels of {choice.parcels or 'HCP-MMP'}, found {by.name if by else 'none'}")
    windows, name = scans.windows(workspace), label(workspace, scans.subject, choice)
    found = _found(workspace, scans, windows, choice, by, progress)
    surface = workspace.surface_map(scans.subject, found, name)
    told = source_record(workspace, scans.subject, choice.stage) | {
        "scan": _scan_record(workspace, scans, windows),
        "map": export.map_record(workspace, scans.subject, choice, found) | export.parcel_record(by),
    }
    with storage.atomic_folder(folder) as target:
        html = page_of_one(workspace, scans.subject, surface, told, choice)
        write_map(surface, target, choice, told, html, workspace.projection(scans.subject))
    return folder / "map.json"


def _found(
    workspace: Workspace, scans: Scans, windows: list[Window], choice: MapChoice, by: Parcellation | None,
    progress: Callable[[str], Progress] | None,
) -> AttentionMap:  # fmt: skip
    """The mean map of the windows, less that of the control where there is one."""

    def shown(what: str) -> Progress:
        return silent if progress is None else progress(what)

    if scans.index is not None:
        found = workspace.map_of(windows[0], replace(choice, control=""), by, shown("map"))
        return workspace.less(found, windows[0], choice, by, shown("control"))
    explainer = workspace.explainer(scans.subject, choice.stage)
    asked = (choice.method, choice.layer, choice.head)
    values = explainer.maps(windows, *asked, shown("map"), choice.position, by).mean(axis=0)
    method = choice.method
    if choice.control == "uniform":
        values, method = values - np.nanmean(values, dtype=np.float64).astype(np.float32), f"{method} minus uniform"
    elif choice.control:
        bar = shown("control")
        values = values - explainer.control(
            choice.control, windows, *asked, progress=bar, position=choice.position, by=by
        )
        method = f"{method} minus {choice.control}"
    return AttentionMap(values, choice.layer, choice.head, explainer.stage, method)


def _scan_record(workspace: Workspace, scans: Scans, windows: list[Window]) -> dict[str, Any]:
    if scans.index is not None:
        return export.scan_record(workspace, windows[0])
    tr = workspace.tr
    return {
        "subject": scans.subject,
        "run": scans.run,
        "index": None,
        "scans": len(windows),
        "film_seconds": [0.0, len(windows) * tr],
        "clamped": sum(w.clamped for w in windows),
    }
