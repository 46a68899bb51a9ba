"""The cortex beside the films: where the decoding comes from, by any method of attribution, with its controls."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mindviz.attribution.methods import METHODS
from mindviz.brain.files.own_maps import MAP_ENDINGS, PARCELLATION_ENDINGS
from mindviz.progress import Phases, no_phases
from mindviz.session import map_choice, map_export, map_names, own_files, time_courses
from mindviz.session.answers import answers_of
from mindviz.session.background import Cancelled
from mindviz.session.map_jobs import MapJobs, PageRequest
from mindviz.session.map_request import MapRequest
from mindviz.session.own_files import NOTHING, OwnFiles
from mindviz.session.workspace import CONTROL_NAMES, Workspace
from mindviz.types import Decoded, MindvizError
from mindviz.ui import cortex_view, places, views
from mindviz.ui.brain_parts import BrainPanel
from mindviz.ui.components import handler
from mindviz.viewer import payloads

_log = logging.getLogger(__name__)
_HEIGHT = 240  # where the window is low; the style sheet gives it more where there is more
_SAVE, _SAVING = "Save map", "Saving…"
_OPEN, _OPEN_TOLD = "Own file…", "Your own map or parcellation"
_TOOLTIPS = {
    "app-own": f"{_OPEN_TOLD}, to compare with or to lesion by: {' '.join((*MAP_ENDINGS, *PARCELLATION_ENDINGS))} "
    "(both hemispheres' files together)",
    "app-save": "Save this map: GIFTI, CIFTI, CSV, pictures, a page",
}
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
# What gradio does with an event while its last is being answered: "always_last" asks again afterwards, with the inputs
# of then but the event's data of before; "multiple" asks at once, so that answers can overtake each other (which is why
# the page numbers its requests, `cortex_view.ASK`); "once", the default of `then`, forgets it.
_LATEST: dict[str, Any] = {**_QUIET, "trigger_mode": "always_last"}
_EACH: dict[str, Any] = {**_QUIET, "trigger_mode": "multiple"}
_UNKNOWN = "The map failed for a reason that mindviz does not know; the terminal it runs in shows the details."
_GIVEN_UP = "Given up before it was computed. Choose it again, or another map."


def build_brain(workspace: Workspace) -> BrainPanel:
    """Lay the panel out; the cortex is bare until something was decoded."""
    subject = workspace.subjects[0]
    layers = map_names.layer_choices(workspace, subject)
    narrow: dict[str, Any] = {"container": False, "min_width": 60}
    button: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 74}
    controls = [("as it is", ""), *((f"less {name}", control) for control, name in CONTROL_NAMES.items())]
    with gr.Row(elem_classes="app-brain-choices"):
        named = _methods(workspace, subject, NOTHING)
        method = gr.Dropdown(named, value="received", label="Map", elem_id="app-method", scale=3, **narrow)
        control = gr.Dropdown(controls, value="", label="Less a control", elem_id="app-control", scale=2, **narrow)
        upload = gr.UploadButton(_OPEN, file_count="multiple", type="filepath", elem_id="app-own", **button)
        save = gr.Button(_SAVE, interactive=False, elem_id="app-save", **button)
        zipped = gr.DownloadButton(visible="hidden", elem_id="app-zip")
    with gr.Row(elem_classes="app-brain-choices"):
        several = len(layers) > 1
        layer = gr.Dropdown(layers, value=-1, label="Layer", visible=several, scale=5, **narrow)
        asked, what = map_names.head_choices(workspace, subject), "Head" if several else "Question"
        head = gr.Dropdown(asked, value=-1, label=what, elem_id="app-head", scale=5, **narrow)
        scans = [(name.removesuffix(" of the window"), value) for name, value in _positions(workspace, "received")]
        position = gr.Dropdown(
            scans,
            value=-1,
            label="Scan of the window",
            visible=_has_positions(workspace, subject, "received"),
            elem_id="app-position",
            scale=6,
            **narrow,
        )
        beside = map_names.others(workspace, subject, "received")
        other = gr.Dropdown(beside, value="", label="Compare with", elem_id="app-other", scale=7, **narrow)
    patches = map_names.patches(workspace, subject)
    jobs = MapJobs()
    view = cortex_view.viewer_html(_HEIGHT, workspace.dataset.mesh, patches=patches, serving=_serving(jobs))
    caution = gr.HTML(views.fine_print(workspace.caution("received")), apply_default_css=False, elem_id="app-caution")
    answers = gr.HTML(apply_default_css=False, elem_id="app-answers")
    gr.on(None, None, None, None, js=handler("tooltips", _TOOLTIPS))
    told = gr.HTML(visible=False), gr.State(NOTHING), jobs, answers
    return BrainPanel(view, method, control, layer, head, position, other, caution, save, zipped, upload, *told)


def _serving(jobs: MapJobs) -> tuple[Callable[[str], Any], ...]:
    """What the page calls by name; gradio marks the functions, which it cannot do to methods."""

    def how_far(page: str) -> dict[str, Any] | None:
        return jobs.how_far(page)

    def give_up(page: str) -> None:
        jobs.give_up(page)

    return how_far, give_up


def _methods(workspace: Workspace, subject: str, own: OwnFiles) -> list[tuple[str, str]]:
    known = workspace.methods(subject)
    return [*((METHODS[m].name, m) for m in known), *(own.methods() if "lesion_area" in known else [])]


def _positions(workspace: Workspace, method: str) -> list[tuple[str, int]]:
    return map_choice.position_choices(method, workspace.dataset.window_spec.size)


def _has_positions(workspace: Workspace, subject: str, method: str) -> bool:
    """Whether a scan of the window can be chosen: an imported checkpoint has no maps but those of its decoding."""
    return len(_positions(workspace, method)) > 1 and workspace.decoder.data(subject) is not None


def connect_brain(
    panel: BrainPanel, workspace: Workspace, decoded: gr.State, where: Sequence[Any], events: Sequence[Any]
) -> None:
    """Redraw after `events`, which change what was decoded, and when another map is chosen.

    `where` are the components that hold subject, run and scan.
    """

    def fine_print(method: str, control: str, own: OwnFiles) -> str:
        choice = own.choice(method, control=control)
        return views.fine_print(choice.caution(workspace.caution(choice.method)))

    def settled(subject: str, method: str, control: str, other: str, own: OwnFiles) -> tuple[Any, ...]:
        known = own.choice(method).method
        whole, by_head = known != "pattern", gr.update(visible=METHODS[known].by_layer)
        by_layer = gr.update(visible=METHODS[known].by_layer and len(workspace.layers(subject)) > 1)
        control_now = gr.update(interactive=True) if whole else gr.update(interactive=False, value="")
        by_position = gr.update(visible=_has_positions(workspace, subject, known))
        said = fine_print(method, control if whole else "", own)
        return by_layer, by_head, by_position, control_now, compare(subject, method, other, own), said

    def compare(subject: str, method: str, other: str, own: OwnFiles) -> Any:
        beside = map_names.others(workspace, subject, method, own)
        return gr.update(choices=beside, value=other if other in {value for _, value in beside} else "")

    def other_subject(subject: str, method: str, other: str, own: OwnFiles) -> tuple[Any, Any]:
        return compare(subject, method, other, own), gr.update(patches=map_names.patches(workspace, subject))

    subject = where[0]
    kinds = [subject, panel.method, panel.control, panel.other, panel.own]
    apart = [panel.layer, panel.head, panel.position, panel.control, panel.other, panel.caution]
    about = [subject, panel.method, panel.other, panel.own]
    subject.change(other_subject, about, [panel.other, panel.view], **_LATEST)
    panel.control.input(fine_print, [panel.method, panel.control, panel.own], panel.caution, **_LATEST)
    changed = [panel.layer, panel.head, panel.position, panel.control, panel.other]
    anew = [
        panel.method.input(settled, kinds, apart, **_LATEST),
        _connect_opening(panel, workspace, subject).success(settled, kinds, apart, **_LATEST),
        _connect_next(panel, workspace, subject).then(settled, kinds, apart, **_LATEST),
    ]
    drawing = _drawing(panel, workspace, decoded)
    drawn = [choice.input(**drawing) for choice in changed] + [event.then(**drawing) for event in [*events, *anew]]
    for event in events:
        event.then(lambda result: _answers(workspace, result), decoded, panel.answers, **_LATEST)
    for event in drawn:
        event.failure(None, None, None, js=cortex_view.UNDRAWN)
    places.connect_places(panel, workspace, where, drawn)
    _connect_saving(panel, workspace, decoded, events)


def _drawing(panel: BrainPanel, workspace: Workspace, decoded: gr.State) -> dict[str, Any]:
    """The event that draws what is chosen; asking for another map stops the one before."""

    def draw(sent: Any, result: Decoded | None, *chosen: Any) -> Any:
        asked = PageRequest.read(sent)
        job = panel.jobs.begin(asked)
        if job is None:
            return gr.skip()
        try:
            shown = payload(workspace, result, MapRequest.read(*chosen), job.phase)
        except Cancelled:
            if not job.given_up:
                return gr.skip()  # another one is on its way
            shown = _missing(workspace, _GIVEN_UP)
        except MindvizError as error:  # beside the queue, gradio tells the page of no error
            shown = _missing(workspace, str(error))
        except Exception:  # noqa: BLE001 - logged whole; the page shows a sentence, never a traceback
            _log.exception("the map %s could not be drawn", chosen)
            shown = _missing(workspace, _UNKNOWN)
        finally:
            job.ended = True
        return gr.update(value=payloads.ticketed(shown, asked.ticket))

    inputs: list[Any] = [panel.asked, decoded, *panel.choices, panel.other]
    return {"fn": draw, "inputs": inputs, "outputs": panel.view, "js": cortex_view.ASK_TO_DRAW, **_EACH}


def _answers(workspace: Workspace, result: Decoded | None) -> str:
    return "" if result is None else views.answers(answers_of(workspace, result.window))


def _missing(workspace: Workspace, why: str) -> str:
    return payloads.missing_payload(workspace.dataset.mesh, "No map", why, workspace.simulated)


def _connect_next(panel: BrainPanel, workspace: Workspace, subject: Any) -> Any:
    """Choose the next map of the list, or the one before, as the page asks (a key of the viewer)."""

    def following(event: gr.EventData, subject: str, method: str, own: OwnFiles) -> str:
        values = [value for _, value in _methods(workspace, subject, own)]
        return values[(values.index(method) + (-1 if event.back else 1)) % len(values)]

    return panel.view.input(following, [subject, panel.method, panel.own], panel.method, **_LATEST)


def _connect_opening(panel: BrainPanel, workspace: Workspace, subject: Any) -> Any:
    """Read what is opened; a map is compared with, by a parcellation is lesioned."""

    def open_files(paths: Sequence[str] | None, own: OwnFiles, subject: str, method: str) -> tuple[Any, ...]:
        try:
            held, value = _told(lambda: own_files.opened(own, paths or [], workspace.dataset.mesh))
            if value in {v for _, v in held.methods()} and "lesion_area" not in workspace.methods(subject):
                _told(lambda: workspace.explainer(subject))  # says why there are no lesions
        finally:
            for path in paths or []:
                Path(path).unlink(missing_ok=True)  # gradio's copy
        is_map = value in {v for _, v in held.others()}
        named = _methods(workspace, subject, held)
        mine = method if is_map or method == value else value
        beside = map_names.others(workspace, subject, mine, held)
        shown = gr.update(choices=beside, value=value) if is_map else gr.update(choices=beside)
        return held, gr.update(choices=named, value=mine), shown, None

    inputs = [panel.upload, panel.own, subject, panel.method]
    outputs = [panel.own, panel.method, panel.other, panel.upload]
    # in the queue: of what is refused beside it, gradio tells the page nothing
    return panel.upload.upload(open_files, inputs, outputs, show_progress="hidden")


def _told(job: Any) -> Any:
    """What `job` returns; bad input is a sentence on the page, which gradio reads as HTML."""
    try:
        return job()
    except MindvizError as error:
        raise _refusal(error) from error


def _refusal(error: MindvizError) -> gr.Error:
    return gr.Error(escape(str(error), quote=False), print_exception=False)


def _connect_saving(panel: BrainPanel, workspace: Workspace, decoded: gr.State, events: Sequence[Any]) -> None:
    """Hand the map that is shown out as a zip; the button rests until there is a map, and while one is saved."""

    def zipped(result: Decoded | None, *chosen: Any) -> Iterator[str]:
        try:
            yield from saved(workspace, result, MapRequest.read(*chosen))
        except MindvizError as error:
            raise _refusal(error) from error

    def ready(result: Decoded | None) -> Any:
        return gr.update(value=_SAVE, interactive=result is not None)

    for event in events:
        event.then(ready, decoded, panel.save, **_LATEST)
    inputs: list[Any] = [decoded, *panel.choices, panel.other]
    making = panel.save.click(lambda: gr.update(value=_SAVING, interactive=False), None, panel.save, **_QUIET).then(
        zipped, inputs, panel.zipped, show_progress="hidden", concurrency_limit=1, concurrency_id="save"
    )
    making.success(None, panel.zipped, None, js=handler("download"))
    making.then(ready, decoded, panel.save, **_LATEST)


def saved(workspace: Workspace, decoded: Decoded | None, request: MapRequest) -> Iterator[str]:
    """Yield a zip of the map (`map_export.zip_map`), which is there until the next step: gradio copies it meanwhile."""
    if decoded is None:
        raise MindvizError("there is no map yet to save: decode a scan first")
    with tempfile.TemporaryDirectory() as aside:
        yield str(map_export.zip_map(workspace, decoded, Path(aside), request))


def payload(
    workspace: Workspace, decoded: Decoded | None, request: MapRequest, phases: Phases = no_phases
) -> str | None:
    """One map for the viewer, or two; None, bare cortex, before anything was decoded."""
    if decoded is None:
        return None
    window, known, choice = decoded.window, time_courses.courses_of(workspace), request.choice
    attribution = workspace.attribution(decoded, choice, phases(choice.title))
    known.remember(window.subject, window.run, window.index, choice, attribution.values)
    surface = workspace.surface_map(window.subject, attribution, choice.title)
    if not request.other:
        return payloads.values_payload(surface, choice.title, choice.units, workspace.simulated, signed=choice.signed)
    second = map_names.second_of(workspace, decoded, request, phases)
    if second and second.found:
        known.remember(second.subject, window.run, window.index, second.choice, second.found.values)
    return map_names.compared(workspace, decoded, request, surface, second)
