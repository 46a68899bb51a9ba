"""Maps that need no decoding: of one scan, or the mean over a run, as the files that the app saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mindviz import storage
from mindviz.progress import Phases, no_phases
from mindviz.session import export
from mindviz.session.map_choice import MapChoice
from mindviz.session.map_export import ALL_MAP_FILES, page_of_one, source_record, write_map
from mindviz.session.map_names import label
from mindviz.session.scans import Scans, each_map
from mindviz.session.workspace import Workspace
from mindviz.types import AttentionMap, Window


def save_map(workspace: Workspace, scans: Scans, choice: MapChoice, folder: Path, phases: Phases = no_phases) -> Path:
    """Write a map into `folder` as `map_export.MAP_FILES`, all of them or none; of a run, the mean over its scans.

    Parameters
    ----------
    folder : new, empty, or an earlier export of a map, which is replaced.
    phases : given what is computed (the map, then its control), what is called with (done, total). It may raise, to
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
    folder = export.check_target(folder, ALL_MAP_FILES)
    windows, name = scans.windows(workspace), label(workspace, scans.subject, choice)
    found = _found(workspace, scans, windows, choice, phases)
    surface = workspace.surface_map(scans.subject, found, name)
    told = source_record(workspace, scans.subject, choice.stage) | {
        "scan": _scan_record(workspace, scans, windows),
        "map": export.map_record(workspace, scans.subject, choice, found),
    }
    with storage.atomic_folder(folder) as target:
        html = page_of_one(workspace, scans.subject, surface, told, choice)
        write_map(surface, target, choice, told, html, workspace.projection(scans.subject))
    return folder / "map.json"


def _found(
    workspace: Workspace, scans: Scans, windows: list[Window], choice: MapChoice, phases: Phases
) -> AttentionMap:
    """The map of one scan, or the mean over all, less its control where there is one."""
    if scans.index is not None:
        return workspace.map_of(windows[0], choice, phases("map"))
    values = each_map(workspace, scans, choice, phases).mean(axis=0)
    stage = workspace.explainer(scans.subject, choice.stage).stage
    return AttentionMap(values, choice.layer, choice.head, stage, choice.computed)


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
