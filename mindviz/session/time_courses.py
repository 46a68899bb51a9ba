"""What happened at one place of the cortex over a run: the map's value, the BOLD, the clips that drive it most.

Knows nothing of gradio. Maps of a run are kept once they are known: those of cheap methods are computed for all of its
scans when they are first asked for, those of expensive ones are only what the page has drawn.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from mindviz import brain
from mindviz.attribution.explainer import WINDOWS_AT_A_TIME
from mindviz.brain import meshes, parcellations
from mindviz.session.map_choice import MapChoice
from mindviz.session.scans import Scans
from mindviz.session.workspace import Workspace, thumbnail_sheet
from mindviz.types import MindvizError, SurfaceMap
from mindviz.viewer.geometry import PARCELLATION_KEYS

CHEAP = ("received", "rollout", "pattern")
"""Methods of one pass through the encoder (or none): computed for every scan of a run."""
CHEAP_CONTROLS = ("", "untrained", "uniform")
PATIENCE_S = 8.0
"""How long a click may compute. A large encoder gets through a part of the run; the next click goes on."""
CLIPS = 3
_KEPT = 24  # runs of maps
_SIDES = {"left": "left hemisphere", "right": "right hemisphere"}


@dataclass(frozen=True)
class Place:
    """A mesh vertex of a hemisphere, or (`outlines` names a parcellation of the viewer) the parcel that it lies in."""

    side: str
    vertex: int
    outlines: str = ""

    def __post_init__(self) -> None:
        known = ("", "patch", *PARCELLATION_KEYS)
        if self.side not in _SIDES or self.outlines not in known or self.vertex < 0:
            raise MindvizError(
                f"expected a vertex of the left or right side and outlines of {', '.join(known[1:])}, found {self}"
            )


@dataclass(frozen=True)
class Region:
    """The voxels (columns of the scans) that a place stands for, and what they are called."""

    columns: np.ndarray
    title: str


class _NoVoxel(MindvizError):
    """Nothing was measured at a place; says why."""


# ------------------------------------------------------------------------------------------- which voxels
def region(workspace: Workspace, subject: str, place: Place) -> Region:
    """The voxels of a place.

    Raises
    ------
    MindvizError
        With the sentence that a person reads, if there is none: the medial wall, or off the decoder's mask.
    """
    mesh = workspace.dataset.mesh
    cortical = _cortical(mesh, place)
    own = int(workspace.projection(subject).columns[cortical])
    if place.outlines not in ("", "patch"):
        return _parcel(workspace, subject, cortical, own, place)
    if own < 0:
        raise _NoVoxel(_off_mask(workspace, subject))
    if place.outlines == "patch":
        return _patch(workspace, subject, own)
    return Region(np.array([own]), f"{_area(mesh, cortical)}{_SIDES[place.side]}, voxel {own + 1:,}")


def _cortical(mesh: str, place: Place) -> int:
    """The cortical index of a place."""
    left, right = meshes.cortex_index(mesh)
    side = place.side == "right"
    found = np.flatnonzero((right if side else left) == place.vertex)
    if not found.size:
        raise _NoVoxel("This is the medial wall, which is no cortex: nothing is measured here.")
    return int(found[0]) + (left.size if side else 0)


def _vertices(workspace: Workspace, subject: str) -> np.ndarray:
    return workspace.dataset.run(subject, workspace.runs(subject)[0]).vertices


def _off_mask(workspace: Workspace, subject: str) -> str:
    seen, all_of_them = len(_vertices(workspace, subject)), meshes.num_vertices(workspace.dataset.mesh)
    if workspace.projection(subject).volume is not None:
        return (
            f"No voxel here: the decoder of subject {subject} sees {seen:,} voxels of the images; a map colours the "
            "cortex that lies in them."
        )
    return (
        f"No voxel here: the decoder of subject {subject} sees {seen:,} of {all_of_them:,} vertices of cortex, "
        "those that a map colours."
    )


def _area(mesh: str, cortical: int) -> str:
    if mesh != "fsLR-32k":  # our parcellations are of that mesh
        return ""
    areas = parcellations.load("hcp-mmp", mesh)
    name = areas.names[areas.labels[cortical]]
    return f"{name}, " if name else ""


def _patch(workspace: Workspace, subject: str, own: int) -> Region:
    patches = workspace.patches(subject)
    if patches[own] < 0:
        raise _NoVoxel(_off_mask(workspace, subject))
    columns = np.flatnonzero(patches == patches[own])
    return Region(columns, f"Patch {patches[own] + 1}, mean of {columns.size} voxels")


def _parcel(workspace: Workspace, subject: str, cortical: int, own: int, place: Place) -> Region:
    """The voxels of a parcel, each counted once: where the vertex that stands for it lies."""
    mesh, vertices = workspace.dataset.mesh, _vertices(workspace, subject)
    parcels = parcellations.load(PARCELLATION_KEYS[place.outlines], mesh)
    label = parcels.labels[cortical]
    if label == 0:
        raise _NoVoxel(f"This vertex belongs to no parcel of {parcels.name}.")
    same_side = parcellations.hemisphere_mask(mesh)[vertices] == (place.side == "left")
    columns = np.flatnonzero((parcels.labels[vertices] == label) & same_side)
    name = f"{parcels.names[label]}, {_SIDES[place.side]}"
    if not columns.size:
        counted = " The voxel here is counted to another, where its middle lies." if own >= 0 else ""
        raise _NoVoxel(f"{name}: the decoder of subject {subject} sees no voxel of this parcel.{counted}")
    return Region(columns, f"{name}, mean of {columns.size:,} voxel{'s' * (columns.size > 1)}")


# ------------------------------------------------------------------------------------- the map over a run
@dataclass
class Courses:
    """The maps of runs, as far as they are known: one row for each scan, NaN where it is not."""

    workspace: Workspace
    _rows: OrderedDict[tuple[str, str, MapChoice], np.ndarray] = field(default_factory=OrderedDict)
    _looking_up: threading.Lock = field(default_factory=threading.Lock)
    _computing: threading.Lock = field(default_factory=threading.Lock)  # nothing that is drawn waits for it

    def remember(self, subject: str, run: str, index: int, choice: MapChoice, values: np.ndarray) -> None:
        """Keep a map (V,) that was drawn."""
        rows = self.known(subject, run, choice)
        if index < len(rows):
            rows[index] = values

    def known(self, subject: str, run: str, choice: MapChoice) -> np.ndarray:
        """The map of each of N scans, (N, V), NaN where not known yet."""
        key = (subject, run, choice)
        with self._looking_up:
            if key not in self._rows:
                size = (self.workspace.count(subject, run), len(_vertices(self.workspace, subject)))
                self._rows[key] = np.full(size, np.nan, dtype=np.float32)
                while len(self._rows) > _KEPT:
                    self._rows.popitem(last=False)
            self._rows.move_to_end(key)
            return self._rows[key]

    def lacking(self, subject: str, run: str, choice: MapChoice) -> bool:
        """Whether there are scans whose map is not known, and cheap enough to be computed."""
        return computable(self.workspace, subject, choice) and bool(
            np.isnan(self.known(subject, run, choice)[:, 0]).any()
        )

    def fill(self, subject: str, run: str, choice: MapChoice, around: int) -> None:
        """Compute what is `lacking`, nearest to scan `around` first, for up to `PATIENCE_S`."""
        if self.lacking(subject, run, choice):
            with self._computing:
                self._compute(subject, run, choice, self.known(subject, run, choice), around)

    def _compute(self, subject: str, run: str, choice: MapChoice, rows: np.ndarray, around: int) -> None:
        missing = np.flatnonzero(np.isnan(rows[:, 0]))
        missing = missing[np.argsort(np.abs(missing - around), kind="stable")]
        start, size, done = time.monotonic(), 1, 0
        while done < len(missing):
            batch = missing[done : done + size]
            rows[batch] = self.workspace.maps(subject, run, batch, choice)
            done += len(batch)
            spent = time.monotonic() - start
            left = int((PATIENCE_S - spent) * done / max(spent, 1e-6))  # scans, at the rate so far
            if left < 1:
                return
            size = min(WINDOWS_AT_A_TIME, left)


def computable(workspace: Workspace, subject: str, choice: MapChoice) -> bool:
    """Whether the map is cheap enough to be computed for every scan of a run."""
    if workspace.decoder.data(subject) is None:  # an imported checkpoint: there is no `Explainer`
        return False
    return choice.method in CHEAP and choice.control in CHEAP_CONTROLS


@lru_cache(maxsize=4)
def courses_of(workspace: Workspace) -> Courses:
    """The one `Courses` of a workspace."""
    return Courses(workspace)


# ------------------------------------------------------------------------------------------ what is told
@dataclass(frozen=True)
class Beside:
    """The map that stands beside the first, and what the two are called there.

    `what` is a map of a `subject`, or one of the person's own, the same for every scan. `missing` says why there is
    none.
    """

    titles: tuple[str, str]
    subject: str
    what: MapChoice | SurfaceMap
    missing: str = ""


def told(
    workspace: Workspace,
    scans: Scans,
    choice: MapChoice,
    place: Place,
    goes_on: bool = True,
    beside: Beside | None = None,
) -> dict[str, Any]:
    """What the viewer tells of a place, as JSON: the courses of the map, of that `beside` it and of the BOLD, the
    scan of `scans` that is shown, the clips that drive it most.

    It computes no map (`Courses.fill` does); `goes_on` says whether that is done next, if there is any lacking. A place
    without a voxel answers with ``message`` alone.
    """
    subject, run = scans.subject, scans.run
    try:
        where = region(workspace, subject, place)
    except _NoVoxel as error:
        return refused(place, str(error))
    bold = workspace.dataset.run(subject, run).bold[:, where.columns].mean(axis=1)
    spec, clips = workspace.dataset.window_spec, driving_clips(workspace, subject, run, where.columns)
    at, first = [index for index, _ in clips], _Course(subject, run, choice, goes_on)
    return {
        **refused(place, ""),
        "subject": subject,
        "title": where.title,
        "run": run,
        "scan": scans.index,
        "tr": workspace.tr,
        "lag": spec.lag,
        "size": spec.size,
        "map": _course(workspace, first, where, beside.titles[0] if beside else choice.title),
        "beside": _second(workspace, first, where, place, beside) if beside else None,
        "bold": {"name": "BOLD", "units": "z", "values": _plain(bold)},
        "clips": [{"scan": index, "bold": round(float(mean), 2)} for index, mean in clips],
        "sheet": thumbnail_sheet(workspace.clips(run)[at], len(at)) if at else "",
    }


@dataclass(frozen=True)
class _Course:
    """The map over a run that is told of."""

    subject: str
    run: str
    choice: MapChoice
    goes_on: bool


def _course(workspace: Workspace, asked: _Course, where: Region, name: str) -> dict[str, Any]:
    subject, choice = asked.subject, asked.choice
    values = _mean(courses_of(workspace).known(subject, asked.run, choice)[:, where.columns])
    note = _note(values, choice, computable(workspace, subject, choice), asked.goes_on)
    return {"name": name, "units": choice.units, "values": _plain(values), "note": note}


def _second(workspace: Workspace, first: _Course, where: Region, place: Place, beside: Beside) -> dict[str, Any]:
    """The course of the second map at the same place; where it has none, a note that says why."""
    name, nothing = beside.titles[1], {"units": "", "values": []}
    if beside.missing:
        return {**nothing, "name": name, "note": f"{name}: {beside.missing}"}
    if isinstance(beside.what, SurfaceMap):
        mesh = workspace.dataset.mesh  # such a map has its own value at a vertex that shares a voxel with others
        at = _vertices(workspace, first.subject)[where.columns] if place.outlines else [_cortical(mesh, place)]
        here = float(_mean(brain.to_cortex(beside.what)[at][None])[0])
        said = "no value here" if np.isnan(here) else f"{here:.3g} here, the same for every scan"
        return {**nothing, "name": name, "note": f"{name}: {said}."}
    asked = replace(first, subject=beside.subject, choice=beside.what)
    try:
        there = where if beside.subject == first.subject else region(workspace, beside.subject, place)
        return _course(workspace, asked, there, name)
    except MindvizError as error:
        return {**nothing, "name": name, "note": f"{name}: {error}"}


def refused(place: Place, why: str) -> dict[str, Any]:
    """What is told of a place of which nothing can be: which it is, and why."""
    return {"message": why, "side": place.side, "vertex": place.vertex, "outlines": place.outlines}


def told_json(content: dict[str, Any], ticket: int) -> str:
    """What `told` returns, as the viewer reads it.

    `ticket` is the number of the page's request: it makes each answer new, since a page sees changes only, and tells an
    answer that comes too late.
    """
    return json.dumps({**content, "ticket": ticket}, allow_nan=False)


def driving_clips(workspace: Workspace, subject: str, run: str, columns: np.ndarray) -> list[tuple[int, float]]:
    """The clips whose windows have the highest mean BOLD (z) in some voxels: up to `CLIPS` of (scan, mean).

    No two of them share a volume, so that one response is not told of as three; windows that reach past the end of the
    run are left out.
    """
    spec, bold = workspace.dataset.window_spec, workspace.dataset.run(subject, run).bold[:, columns].mean(axis=1)
    whole = min(workspace.count(subject, run), len(bold) - spec.lag - spec.size + 1)
    means = spec.cut(bold[:, None])[: max(whole, 0), :, 0].mean(axis=1)
    chosen: list[int] = []
    for index in np.argsort(-means, kind="stable").tolist():
        if len(chosen) < CLIPS and all(abs(index - other) >= spec.size for other in chosen):
            chosen.append(index)
    return [(index, float(means[index])) for index in chosen]


def _mean(rows: np.ndarray) -> np.ndarray:
    """The mean of each row over the voxels that have a value: a lesion by parcels has none outside of them."""
    held = np.isfinite(rows)
    count = held.sum(axis=1)
    total = np.where(held, rows, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(f"{value:.4g}") for value in values]


def _note(values: np.ndarray, choice: MapChoice, cheap: bool, goes_on: bool) -> str:
    """What has to be said of a course that is not whole, or that cannot change."""
    known, count = int(np.isfinite(values).sum()), len(values)
    if choice.method == "pattern":
        return "An activation pattern is of the training scans: the same for every scan."
    if known == count:
        return ""
    if cheap:
        more = "more are being computed" if goes_on else "another click here computes more"
        return f"Known for {known} of {count} scans so far; {more}."
    name = replace(choice, control="", position=-1).title + (" less this control" if choice.control else "")
    return f"{name} takes long: known only for the {known} of {count} scans drawn so far."
