"""The map of every scan of a run, in files with one map for each: ``python -m mindviz map --each``."""

from __future__ import annotations

from pathlib import Path

from mindviz import brain, storage
from mindviz.brain import meshes
from mindviz.brain.files import cifti_maps
from mindviz.brain.volume import Volume, write_nifti
from mindviz.progress import Phases, no_phases
from mindviz.session import export
from mindviz.session.map_choice import MapChoice
from mindviz.session.map_export import source_record, volume_record
from mindviz.session.map_names import label
from mindviz.session.scans import Scans, each_map
from mindviz.session.workspace import Workspace
from mindviz.types import AttentionMap, MindvizError

EACH_FILES = ("maps_hemi-L.func.gii", "maps_hemi-R.func.gii", "maps.dscalar.nii", "maps.json")
EACH_VOLUME = "maps.nii.gz"
"""Written besides, where the scans came as images: one image for each scan, along the fourth axis."""
ALL_EACH_FILES = (*EACH_FILES, EACH_VOLUME)


def each_files(mesh: str, volume: Volume | None = None) -> tuple[str, ...]:
    """What is written for maps on `mesh` (CIFTI is of fsLR-32k), of scans that came as images or as vertices."""
    known = tuple(name for name in EACH_FILES if mesh == meshes.MESH or not name.endswith(".dscalar.nii"))
    return known if volume is None else (*known, EACH_VOLUME)


def save_each(workspace: Workspace, scans: Scans, choice: MapChoice, folder: Path, phases: Phases = no_phases) -> Path:
    """Write the map of every scan of a run into `folder` as `each_files` of its mesh, all of them or none.

    Parameters
    ----------
    scans : of a run, all of them.
    folder : new, empty, or an earlier export of such maps, which is replaced.

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
    folder = export.check_target(folder, ALL_EACH_FILES)
    if scans.index is not None:
        raise MindvizError(f"the maps of every scan are asked for (--each): expected no one scan, found {scans.index}")
    if choice.method == "pattern":
        raise MindvizError("an activation pattern is the same for every scan: write it once, without --each")
    name = label(workspace, scans.subject, choice)
    values = each_map(workspace, scans, choice, phases)
    stage = workspace.explainer(scans.subject, choice.stage).stage
    found = [AttentionMap(row, choice.layer, choice.head, stage, choice.computed) for row in values]
    maps = [workspace.surface_map(scans.subject, one, f"{name}, scan {i}") for i, one in enumerate(found)]
    volume = workspace.dataset.volume(scans.subject)
    map_told = export.map_record(workspace, scans.subject, choice, found[0])
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
        "files": list(each_files(maps[0].mesh, volume)),
        "volume": volume_record(volume),
    }
    with storage.atomic_folder(folder) as target:
        about = export.gifti_metadata(map_told, workspace.simulated)
        brain.write_gifti_maps(maps, target, "maps", about)
        if maps[0].mesh == meshes.MESH:
            cifti_maps.write_dscalars(maps, target / "maps.dscalar.nii", workspace.simulated)
        if volume is not None:
            write_nifti(values, volume, target / EACH_VOLUME, "Simulated: " * workspace.simulated + name)
        storage.write_json(target / "maps.json", told)
    return folder / "maps.json"
