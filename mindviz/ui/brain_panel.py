"""The cortex beside the films: where the decoding comes from, by any method of attribution, with its controls."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mindviz.explain import METHODS
from mindviz.types import Decoded, MindvizError
from mindviz.ui import courses, map_choice, map_export, map_names, viewer, views
from mindviz.ui.workspace import CONTROL_NAMES, Workspace

_HEIGHT = 240  # where the window is low; the style sheet gives it more where there is more
_SAVE, _SAVING = "Save this map", "Saving…"
# A download button that makes its file when it is pressed hands out the file of the press before. So a plain button
# makes it, a hidden one holds it, and then this takes it from there.
_FETCH = """(file) => {
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name;
  link.click();
}"""
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
_LATEST: dict[str, Any] = {**_QUIET, "trigger_mode": "always_last"}


@dataclass(frozen=True)
class BrainPanel:
    """The viewer, the choices above it, the sentence on what the map does not say, and the way to save the map."""

    view: gr.HTML
    method: gr.Dropdown
    control: gr.Dropdown
    layer: gr.Dropdown
    head: gr.Dropdown
    other: gr.Dropdown
    caution: gr.HTML
    save: gr.Button
    zipped: gr.DownloadButton
    place: gr.State

    @property
    def choices(self) -> list[Any]:
        """What says which map is meant."""
        return [self.method, self.layer, self.head, self.control]


def build(workspace: Workspace) -> BrainPanel:
    """Lay the panel out; the cortex is bare until something was decoded."""
    subject = workspace.subjects[0]
    layers, heads = workspace.layers_and_heads(subject)
    read_out = workspace.has_read_out(subject)
    first = layers - 1 if read_out else -1  # what decodes is what is shown
    narrow: dict[str, Any] = {"container": False, "min_width": 96}
    methods = [(METHODS[m].name, m) for m in workspace.methods(subject)]
    controls = [("as it is", ""), *((f"less {name}", control) for control, name in CONTROL_NAMES.items())]
    with gr.Row(elem_classes="app-brain-choices"):
        method = gr.Dropdown(methods, value="received", label="Map", elem_id="app-method", scale=3, **narrow)
        control = gr.Dropdown(controls, value="", label="Less a control", elem_id="app-control", scale=2, **narrow)
        save = gr.Button(_SAVE, size="sm", interactive=False, elem_id="app-save", scale=0, min_width=104)
        zipped = gr.DownloadButton(visible="hidden", elem_id="app-zip")
    with gr.Row(elem_classes="app-brain-choices"):
        layer = gr.Dropdown(views.layer_choices(layers, read_out), value=first, label="Layer", **narrow)
        head = gr.Dropdown(views.head_choices(heads), value=-1, label="Head", **narrow)
        beside = map_names.others(workspace, subject, "received")
        other = gr.Dropdown(beside, value="", label="Compare with", elem_id="app-other", scale=2, **narrow)
    patches = map_names.patches(workspace, subject)
    view = viewer.viewer_html(_HEIGHT, workspace.dataset.mesh, patches=patches)
    caution = gr.HTML(views.fine_print(workspace.caution("received")), apply_default_css=False, elem_id="app-caution")
    return BrainPanel(view, method, control, layer, head, other, caution, save, zipped, gr.State(None))


def tie(
    panel: BrainPanel, workspace: Workspace, decoded: gr.State, where: Sequence[Any], events: Sequence[Any]
) -> None:
    """Draw anew after `events`, which change what was decoded, and when another map is chosen.

    `where` are the components that hold subject, run and scan.
    """

    def draw(result: Decoded | None, method: str, layer: int, head: int, control: str, other: str) -> str | None:
        return _told(lambda: payload(workspace, result, method, layer, head, control, other))

    def fine_print(method: str, control: str) -> str:
        return views.fine_print(map_choice.choose(method, control=control).caution(workspace.caution(method)))

    def other_method(subject: str, method: str, control: str, other: str) -> tuple[Any, ...]:
        by_layer, whole = METHODS[method].by_layer, method != "pattern"
        control_now = gr.update(interactive=True) if whole else gr.update(interactive=False, value="")
        apart, beside = gr.update(visible=by_layer), map_names.others(workspace, subject, method)
        kept = other if other in {value for _, value in beside} else ""
        said = fine_print(method, control if whole else "")
        return apart, apart, control_now, gr.update(choices=beside, value=kept), said

    def other_subject(subject: str, method: str, other: str) -> tuple[Any, Any]:
        beside = map_names.others(workspace, subject, method)
        kept = other if other in {value for _, value in beside} else ""
        return gr.update(choices=beside, value=kept), gr.update(patches=map_names.patches(workspace, subject))

    subject = where[0]
    inputs: list[Any] = [decoded, *panel.choices, panel.other]
    subject.change(other_subject, [subject, panel.method, panel.other], [panel.other, panel.view], **_QUIET)
    drawn = [event.then(draw, inputs, panel.view, **_QUIET) for event in events]
    changed = [panel.layer, panel.head, panel.control, panel.other]
    drawn += [choice.input(draw, inputs, panel.view, **_LATEST) for choice in changed]
    panel.control.input(fine_print, [panel.method, panel.control], panel.caution, **_LATEST)
    drawn.append(
        panel.method.input(
            other_method,
            [subject, panel.method, panel.control, panel.other],
            [panel.layer, panel.head, panel.control, panel.other, panel.caution],
            **_LATEST,
        ).then(draw, inputs, panel.view, **_QUIET)
    )
    _tie_telling(panel, workspace, where, drawn)
    _tie_saving(panel, workspace, decoded, events)


def _tie_telling(panel: BrainPanel, workspace: Workspace, where: Sequence[Any], drawn: Sequence[Any]) -> None:
    """Tell of the place that is clicked, and anew of the same place after another map or scan was `drawn`."""

    def tell_all(place: courses.Place | None, subject: str, run: str, scan: int, *chosen: Any) -> Any:
        """The same once the map is known for the whole run; most often it is."""
        known = courses.courses_of(workspace)
        choice = map_choice.choose(*chosen)
        if place is None or not known.lacking(subject, run, choice):
            return gr.skip()
        _told(lambda: known.fill(subject, run, choice, int(scan)))
        return tell(place, subject, run, scan, *chosen)

    def pick(event: gr.EventData, *chosen: Any) -> tuple[courses.Place, Any]:
        place = _told(lambda: courses.Place(str(event.side), int(event.vertex), str(event.outlines)))
        return place, tell(place, *chosen)

    def tell(place: courses.Place | None, *chosen: Any) -> Any:
        if place is None:
            return gr.skip()
        return _told(lambda: gr.update(detail=detail(workspace, place, *chosen)))

    inputs: list[Any] = [panel.place, *where, *panel.choices]
    picked = panel.view.select(pick, inputs[1:], [panel.place, panel.view], **_LATEST)
    picked.then(tell_all, inputs, panel.view, **_QUIET)
    panel.view.clear(lambda: None, None, panel.place, **_QUIET)
    for event in drawn:
        event.then(tell, inputs, panel.view, **_QUIET).then(tell_all, inputs, panel.view, **_QUIET)


def _told(job: Any) -> Any:
    """What `job` returns; bad input is a sentence on the page."""
    try:
        return job()
    except MindvizError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _tie_saving(panel: BrainPanel, workspace: Workspace, decoded: gr.State, events: Sequence[Any]) -> None:
    """Hand the map that is shown out as a zip; the button rests until there is a map, and while one is saved."""

    def zipped(*chosen: Any) -> Iterator[str]:
        try:
            yield from saved(workspace, *chosen)
        except MindvizError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def ready(result: Decoded | None) -> Any:
        return gr.update(value=_SAVE, interactive=result is not None)

    for event in events:
        event.then(ready, decoded, panel.save, **_QUIET)
    inputs: list[Any] = [decoded, *panel.choices, panel.other]
    making = panel.save.click(lambda: gr.update(value=_SAVING, interactive=False), None, panel.save, **_QUIET).then(
        zipped, inputs, panel.zipped, show_progress="hidden", concurrency_limit=1, concurrency_id="save"
    )
    making.success(None, panel.zipped, None, js=_FETCH)
    making.then(ready, decoded, panel.save, **_QUIET)


def saved(
    workspace: Workspace, decoded: Decoded | None, method: str, layer: int, head: int, control: str, other: str = ""
) -> Iterator[str]:
    """Yield a zip of the map (`map_export.zip_map`), which is there until the next step: gradio copies it meanwhile."""
    if decoded is None:
        raise MindvizError("there is no map yet to save: decode a scan first")
    with tempfile.TemporaryDirectory() as aside:
        yield str(map_export.zip_map(workspace, decoded, Path(aside), method, layer, head, control, other))


def payload(
    workspace: Workspace, decoded: Decoded | None, method: str = "received", layer: int = -1, head: int = -1,
    control: str = "", other: str = "",
) -> str | None:  # fmt: skip
    """One map for the viewer, or two; None, bare cortex, before anything was decoded.

    Layer and head (-1: their mean) count for methods that have them; of a map less its `control`, zero is the control.
    `other` (`map_names.others`) names the map that stands beside it.
    """
    if decoded is None:
        return None
    window = decoded.window
    attribution = workspace.attribution(decoded, method, layer, head, control)
    choice = map_choice.choose(method, layer, head, control)
    courses.courses_of(workspace).remember(window.subject, window.run, window.index, choice, attribution.values)
    surface = workspace.surface_map(window.subject, attribution, choice.title)
    if other:
        return map_names.compared(workspace, decoded, choice, surface, other)
    return viewer.values_payload(surface, choice.title, choice.units, workspace.simulated, signed=choice.signed)


def detail(
    workspace: Workspace, place: courses.Place, subject: str, run: str, scan: int,
    method: str = "received", layer: int = -1, head: int = -1, control: str = "",
) -> str:  # fmt: skip
    """What the viewer tells of a place (`courses.told`), as JSON."""
    choice = map_choice.choose(method, layer, head, control)
    return courses.as_json(courses.told(workspace, subject, run, int(scan), choice, place))
