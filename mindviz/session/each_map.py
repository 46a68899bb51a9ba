"""The map of every scan of a run, in files with one map for each: ``python -m mindviz map --each``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mindviz import brain, storage
from mindviz.brain import Parcellation
from mindviz.brain.files import cifti_maps
from mindviz.brain.volume import Volume, write_nifti
from mindviz.progress import Phases, no_phases
from mindviz.session import export
from mindviz.session.map_export import source_record, volume_record
from mindviz.session.map_names import label
from mindviz.session.map_request import MapChoice
from mindviz.session.run_maps import Scans
from mindviz.session.workspace import Workspace
from mindviz.types import AttentionMap, MindvizError

FILES = ("maps_hemi-L.func.gii", "maps_hemi-R.func.gii", "maps.dscalar.nii", "maps.json")
VOLUME_FILE = "maps.nii.gz"
"""Written besides, where the scans came as images: one image for each scan, along the fourth axis."""
EVERY_FILE = (*FILES, VOLUME_FILE)


def files(mesh: str, volume: Volume | None = None) -> tuple[str, ...]:
    """What is written for maps on `mesh` (CIFTI is of fsLR-32k), of scans that came as images or as vertices."""
    known = tuple(name for name in FILES if mesh == cifti_maps.MESH or not name.endswith(".dscalar.nii"))
    return known if volume is None else (*known, VOLUME_FILE)


def save_each(
    workspace: Workspace, scans: Scans, choice: MapChoice, folder: Path, by: Parcellation | None = None,
    phases: Phases = no_phases,
) -> Path:  # fmt: skip
    """Write the map of every scan of a run into `folder` as `files` of its mesh, all of them or none.

    Parameters
    ----------
    scans : of a run, all of them.
    folder : new, empty, or an earlier export of such maps, which is replaced.
    by : the parcels that a lesion of areas takes out; HCP-MMP's where None.

    Returns
    -------
    Path
        ``maps.json``, which tells where the maps come from.

    Raises
    ------
    MindvizError
        For a folder that holds anything else, a run that does not exist, one scan instead of a run, or a map that this
        checkpoint cannot give for every scan.
    """
    folder = export.check_target(folder, EVERY_FILE)
    if scans.index is not None:
        raise MindvizError(f"the maps of every scan are asked for (--each): expected no one scan, found {scans.index}")
    if choice.method == "pattern":
        raise MindvizError("an activation pattern is the same for every scan: write it once, without --each")
    if (by.name if by else "") != choice.parcels:
        raise MindvizError(f"expected the parcels of {choice.parcels or 'HCP-MMP'}, found {by.name if by else 'none'}")
    name = label(workspace, scans.subject, choice)
    values = each_map(workspace, scans, choice, by, phases)
    stage = workspace.explainer(scans.subject, choice.stage).stage
    method = f"{choice.method} minus {choice.control}" if choice.control else choice.method
    found = [AttentionMap(row, choice.layer, choice.head, stage, method) for row in values]
    maps = [workspace.surface_map(scans.subject, one, f"{name}, scan {i}") for i, one in enumerate(found)]
    volume = workspace.dataset.volume(scans.subject)
    map_told = export.map_record(workspace, scans.subject, choice, found[0]) | export.parcel_record(by)
    told = source_record(workspace, scans.subject, choice.stage) | {
        "scan": {
            "subject": scans.subject,
            "run": scans.run,
            "index": None,
            "scans": len(values),
            "seconds_of_film_per_scan": workspace.tr,
            "clamped": [w.index for w in scans.windows(workspace) if w.clamped],
        },
        "map": map_told,
        "files": list(files(maps[0].mesh, volume)),
        "volume": volume_record(volume),
    }
    with storage.atomic_folder(folder) as target:
        about = export.gifti_metadata(map_told, workspace.simulated)
        brain.write_gifti_maps(maps, target, "maps", about)
        if maps[0].mesh == cifti_maps.MESH:
            cifti_maps.write_dscalars(maps, target / "maps.dscalar.nii", workspace.simulated)
        if volume is not None:
            write_nifti(values, volume, target / VOLUME_FILE, "Simulated: " * workspace.simulated + name)
        storage.write_json(target / "maps.json", told)
    return folder / "maps.json"


def each_map(
    workspace: Workspace, scans: Scans, choice: MapChoice, by: Parcellation | None = None, phases: Phases = no_phases
) -> np.ndarray:
    """The map of each of the N scans less its control, (N, V); their mean is the map of the run (`run_maps`).

    The control is the map of the same scan of an untrained encoder, the scan's own mean, or, for shuffled scans, whose
    voxels belong to no one scan, the mean over the run.
    """
    windows, explainer = scans.windows(workspace), workspace.explainer(scans.subject, choice.stage)
    asked = (choice.method, choice.layer, choice.head)
    values = explainer.maps(windows, *asked, phases("map"), choice.position, by)
    if not choice.control:
        return values
    if choice.control == "uniform":
        mean = np.nanmean(values, axis=1, keepdims=True, dtype=np.float64)
        return values - mean.astype(np.float32)
    if choice.control == "untrained":
        other = workspace.explainer(scans.subject, "untrained")
        return values - other.maps(windows, *asked, phases("control"), choice.position, by)
    bar = phases("control")
    return values - explainer.control(choice.control, windows, *asked, 0, bar, choice.position, by)
