"""Any map that the cortex panel shows, as files that other programs read. Knows nothing of gradio."""

from __future__ import annotations

import csv
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mindviz import __version__, brain, storage
from mindviz.brain import meshes, parcellations
from mindviz.brain.files import cifti_maps
from mindviz.brain.volume import SPACE, Volume, write_nifti
from mindviz.checkpoint.subject import SINGLE, encoder_folder
from mindviz.metrics.cortex import map_by_parcel
from mindviz.plots import plot_cortex, save_figure
from mindviz.session import export, map_names
from mindviz.session.map_choice import MapChoice, file_stem
from mindviz.session.map_names import label
from mindviz.session.map_request import MapRequest
from mindviz.session.workspace import Workspace
from mindviz.types import AttentionMap, Decoded, SurfaceMap
from mindviz.viewer import payloads
from mindviz.viewer.page import standalone_page

MAP_FILES = (
    "map_hemi-L.func.gii",
    "map_hemi-R.func.gii",
    "map.dscalar.nii",
    "parcels.csv",
    "map.png",
    "map.svg",
    "map.html",
    "map.json",
)
MAP_VOLUME = "map.nii.gz"
"""Written besides, where the scans came as images: in their voxels, exactly."""
ALL_MAP_FILES = (*MAP_FILES, MAP_VOLUME)
ON_SURFACE = (
    "Each vertex of the cortex shows the voxel that it lies in (nilearn's vol_to_surf: the nearest one, at the "
    "midthickness surface). The table by parcel counts each voxel once, where the vertex nearest to its centre lies."
)
CORTEX_FILES = ("map.dscalar.nii", "parcels.csv")  # CIFTI and our parcellations are of fsLR-32k
PARCEL_COLUMNS = ("parcellation", "hemisphere", "parcel", "vertices", "mean", "share", "enrichment", "simulated")
_BY_HEMISPHERE = ("hcp-mmp",)  # its areas are one hemisphere's; networks span both


def map_files(mesh: str, volume: Volume | None = None) -> tuple[str, ...]:
    """What is written for a map on `mesh`, of scans that came as images (`volume`) or as vertices."""
    known = tuple(name for name in MAP_FILES if mesh == meshes.MESH or name not in CORTEX_FILES)
    return known if volume is None else (*known, MAP_VOLUME)


def export_map(workspace: Workspace, decoded: Decoded, folder: Path, request: MapRequest) -> Path:
    """Write the map of a decoded scan into `folder` as `map_files` of its mesh, all of them or none.

    Parameters
    ----------
    folder : Path
        New, empty, or an earlier export of a map, which is replaced.
    request : the map; the one beside it, if any, is shown in ``map.html``.

    Returns
    -------
    Path
        ``map.json``, which tells where the map comes from.

    Raises
    ------
    MindvizError
        For a folder that holds anything else, or a map that this checkpoint cannot give.
    """
    folder, choice = export.check_target(folder, ALL_MAP_FILES), request.choice
    subject = decoded.window.subject
    name = label(workspace, subject, choice)
    found = workspace.attribution(decoded, choice)
    surface = workspace.surface_map(subject, found, name)
    second = map_names.second_of(workspace, decoded, request)
    told = record(workspace, decoded, choice, found) | _beside(workspace, second, request)
    html = page(workspace, decoded, surface, told, request, second)
    with storage.atomic_folder(folder) as target:
        write_map(surface, target, choice, told, html, workspace.projection(subject))
    return folder / "map.json"


def zip_map(workspace: Workspace, decoded: Decoded, folder: Path, request: MapRequest) -> Path:
    """`export_map` as one zip in `folder`; name (`map_choice.file_stem`) and folder inside tell the scan and map."""
    stem = file_stem(decoded.window, request.choice)
    path = folder / f"{stem}.zip"
    with tempfile.TemporaryDirectory() as aside:
        home = export_map(workspace, decoded, Path(aside) / stem, request).parent
        with storage.atomic_file(path) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(file.name for file in home.iterdir()):
                archive.write(home / name, f"{stem}/{name}")
    return path


def page(
    workspace: Workspace,
    decoded: Decoded,
    surface: SurfaceMap,
    told: dict[str, Any],
    request: MapRequest,
    second: map_names.Second | None = None,
) -> str:
    """The text of ``map.html``: the map, or two of them; the caution of each method and what a control is."""
    subject, choice = decoded.window.subject, request.choice
    if not request.other:
        return page_of_one(workspace, subject, surface, told, choice)
    payload = map_names.compared(workspace, decoded, request, surface, second)
    if request.own.map(request.other):
        return _page(workspace, subject, surface, told, payload, [choice])
    beside = map_names.changed(request, subject)[0]
    return _page(workspace, subject, surface, told, payload, [choice, beside])


def page_of_one(
    workspace: Workspace, subject: str, surface: SurfaceMap, told: dict[str, Any], choice: MapChoice
) -> str:
    """The text of ``map.html`` of a map alone."""
    simulated, signed = bool(told["simulated"]), choice.signed or None
    payload = payloads.values_payload(surface, _title(surface, told), choice.units, simulated, signed=signed)
    return _page(workspace, subject, surface, told, payload, [choice])


def _page(
    workspace: Workspace,
    subject: str,
    surface: SurfaceMap,
    told: dict[str, Any],
    payload: str,
    choices: Sequence[MapChoice],
) -> str:
    cautions = [choice.caution(workspace.caution(choice.method)) for choice in choices]
    return standalone_page(
        payload,
        surface.mesh,
        page_title=_title(surface, told),
        caution=" ".join(dict.fromkeys(cautions)),
        patches=map_names.patches(workspace, subject) if surface.mesh == workspace.dataset.mesh else None,
    )


def _title(surface: SurfaceMap, told: dict[str, Any]) -> str:
    return f"{surface.label} · {_where(told)}"


def _where(told: dict[str, Any]) -> str:
    scan = told["scan"]
    which = f"mean of {scan['scans']} scans" if scan["index"] is None else f"scan {scan['index']}"
    return f"subject {scan['subject']}, {scan['run']}, {which}"


def write_map(
    surface: SurfaceMap,
    target: Path,
    choice: MapChoice,
    told: dict[str, Any],
    html: str,
    projection: brain.Projection,
) -> None:
    """Write the `map_files` of one map into a folder that is there; `told` is its `record`, `html` its `page`.

    `projection` put it on the mesh: where the scans came as images, a map has more vertices than voxels, and the table
    counts voxels.
    """
    volume = projection.volume
    simulated, where = bool(told["simulated"]), _where(told)
    brain.write_gifti(surface, target, "map", export.gifti_metadata(told["map"], simulated))
    if surface.mesh == meshes.MESH:
        cifti_maps.write_dscalar(surface, target / "map.dscalar.nii", simulated)
        counted = surface if volume is None else projection.counted_once(surface)
        write_parcels(counted, target / "parcels.csv", simulated)
    if volume is not None:
        title = "Simulated: " * simulated + f"{surface.label}, {where}"
        write_nifti(projection.to_voxels(surface), volume, target / MAP_VOLUME, title)
    caution = choice.caution(told["map"]["caution"])
    figure = plot_cortex(
        surface,
        f"{surface.label}\n{where}".replace("$", r"\$"),  # a name of a file is no formula
        choice.units,
        simulated=simulated,
        signed=choice.signed or None,
        caution=caution,
    )
    for ending in (".png", ".svg"):
        save_figure(figure, target / f"map{ending}")
    with storage.atomic_file(target / "map.html") as aside:
        aside.write_text(html, encoding="utf-8")
    written = {"files": list(map_files(surface.mesh, volume)), "volume": volume_record(volume)}
    storage.write_json(target / "map.json", told | written)


# ---------------------------------------------------------------------- the table
def write_parcels(surface: SurfaceMap, path: Path, simulated: bool) -> None:
    """A map by network and area as CSV: a row for each parcel of the three parcellations, with `PARCEL_COLUMNS`.

    A share is of the map's sum over all parcels, enrichment that share over the parcel's share of the vertices with a
    value. A cell is empty where there is no such number (`mindviz.metrics.cortex.MapByParcel`); `simulated` is yes or
    no. Of scans that came as images, hand in a map with each voxel once (`Projection.counted_once`).

    Raises
    ------
    MindvizError
        For a mesh without parcellations.
    """
    values = brain.to_cortex(surface)
    with storage.atomic_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(PARCEL_COLUMNS)
        for name in parcellations.PARCELLATIONS:
            rows = _rows(values, parcellations.load(name, surface.mesh))
            table.writerows([*row, "yes" if simulated else "no"] for row in rows)


def _rows(values: np.ndarray, parcels: parcellations.Parcellation) -> Iterator[list[str | int]]:
    """The rows of one parcellation for a map by cortical index."""
    apart = parcels.name in _BY_HEMISPHERE
    found = map_by_parcel(values, parcels.by_hemisphere() if apart else parcels)
    for i, name in enumerate(found.names):
        side, area = ({"L": "left", "R": "right"}[name[0]], name[2:]) if apart else ("", name)
        numbers = (found.mean[i], found.share[i], found.enrichment[i])
        cells = ["" if np.isnan(number) else f"{number:.8g}" for number in numbers]
        yield [parcels.name, side, area, int(found.counts[i]), *cells]


# ---------------------------------------------------------------------- where it comes from
def volume_record(volume: Volume | None) -> dict[str, Any] | str:
    """Where the voxels lie, or the sentence that says why there is no image of the map."""
    if volume is None:
        return "No NIfTI image is written: these scans came as vertices of the cortex, which have no voxels."
    return {"space": SPACE, "shape": list(volume.shape), "affine": volume.affine.tolist(), "surface": ON_SURFACE}


def record(workspace: Workspace, decoded: Decoded, choice: MapChoice, found: AttentionMap) -> dict[str, Any]:
    """Where the map of a decoded scan comes from, as JSON."""
    return source_record(workspace, decoded.window.subject, choice.stage) | {
        "scan": export.scan_record(workspace, decoded.window),
        "map": export.map_record(workspace, decoded.window.subject, choice, found),
        "seed": decoded.settings.seed,
        "settings": asdict(decoded.settings),
        "provenance": decoded.provenance,
    }


def _beside(workspace: Workspace, second: map_names.Second | None, request: MapRequest) -> dict[str, Any]:
    """What stands beside the map in ``map.html``: a file of the person's own, or which map of which subject."""
    theirs = request.own.map(request.other)
    if theirs:
        return {"beside": {"file": theirs[0]}}
    if second is None:
        return {}
    if second.found is None:
        return {"beside": {"subject": second.subject, "missing": second.missing}}
    told = export.map_record(workspace, second.subject, second.choice, second.found)
    return {"beside": {"subject": second.subject, **told}}


def source_record(workspace: Workspace, subject: str, stage: str = "full") -> dict[str, Any]:
    """Program, checkpoint and dataset of a map. No folder of this machine is named: it is handed on with the map."""
    decoder, dataset = workspace.decoder, workspace.dataset
    home = subject if decoder.subjects else SINGLE
    encoder = encoder_folder(decoder.folder, home, "full" if stage in (decoder.info.stage, "untrained") else stage)
    return {
        "mindviz": __version__,
        "simulated": workspace.simulated,
        "checkpoint": {**decoder.info.provenance, "name": decoder.name, "encoder_sha256": _fingerprint(encoder)},
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint, "mesh": dataset.mesh},
    }


@lru_cache(maxsize=16)
def _fingerprint(folder: Path) -> str:
    return storage.fingerprint(folder)  # weights of full size are a gigabyte: read them once
