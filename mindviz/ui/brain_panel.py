"""The cortex beside the films: where the decoding comes from, by any method of attribution, with its controls."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mindviz.explain import METHODS
from mindviz.types import Decoded, MindvizError
from mindviz.ui import map_choice, map_export, viewer, views
from mindviz.ui.workspace import CONTROL_NAMES, Workspace

_HEIGHT = 240
_SAVE, _SAVING = "Save this map", "Saving…"
# A download button that makes its file when it is pressed hands out the file of the press before. So a plain button
# makes it, a hidden one holds it, and then this takes it from there.
_FETCH = """(file) => {
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name;
  link.click();
}"""


@dataclass(frozen=True)
class BrainPanel:
    """The viewer, the choices above it, the sentence on what the map does not say, and the way to save the map."""

    view: gr.HTML
    method: gr.Dropdown
    control: gr.Dropdown
    layer: gr.Dropdown
    head: gr.Dropdown
    caution: gr.HTML
    save: gr.Button
    zipped: gr.DownloadButton


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
    with gr.Row(elem_classes="app-brain-choices"):
        layer = gr.Dropdown(views.layer_choices(layers, read_out), value=first, label="Layer", **narrow)
        head = gr.Dropdown(views.head_choices(heads), value=-1, label="Head", **narrow)
        save = gr.Button(_SAVE, size="sm", interactive=False, elem_id="app-save", scale=0, min_width=120)
        zipped = gr.DownloadButton(visible="hidden", elem_id="app-zip")
    caution = gr.HTML(views.fine_print(workspace.caution("received")), apply_default_css=False)
    view = viewer.viewer_html(_HEIGHT, workspace.dataset.mesh)
    return BrainPanel(view, method, control, layer, head, caution, save, zipped)


def tie(panel: BrainPanel, workspace: Workspace, decoded: gr.State, events: list[Any]) -> None:
    """Draw anew after `events`, which change what was decoded, and when another map is chosen."""

    def draw(result: Decoded | None, method: str, layer: int, head: int, control: str) -> str | None:
        try:
            return payload(workspace, result, method, layer, head, control)
        except MindvizError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def other_method(method: str) -> tuple[Any, Any, Any, str]:
        by_layer, whole = METHODS[method].by_layer, method != "pattern"
        control = gr.update(interactive=True) if whole else gr.update(interactive=False, value="")
        apart = gr.update(visible=by_layer)
        return apart, apart, control, views.fine_print(workspace.caution(method))

    inputs: list[Any] = [decoded, panel.method, panel.layer, panel.head, panel.control]
    for event in events:
        event.then(draw, inputs, panel.view, queue=False, show_progress="hidden")
    latest: dict[str, Any] = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last"}
    panel.method.input(
        other_method, panel.method, [panel.layer, panel.head, panel.control, panel.caution], **latest
    ).then(draw, inputs, panel.view, queue=False, show_progress="hidden")
    for choice in (panel.layer, panel.head, panel.control):
        choice.input(draw, inputs, panel.view, **latest)
    _tie_saving(panel, workspace, decoded, events)


def _tie_saving(panel: BrainPanel, workspace: Workspace, decoded: gr.State, events: list[Any]) -> None:
    """Hand the map that is shown out as a zip; the button rests until there is a map, and while one is saved."""

    def zipped(result: Decoded | None, method: str, layer: int, head: int, control: str) -> Iterator[str]:
        try:
            yield from saved(workspace, result, method, layer, head, control)
        except MindvizError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def ready(result: Decoded | None) -> Any:
        return gr.update(value=_SAVE, interactive=result is not None)

    now: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    for event in events:
        event.then(ready, decoded, panel.save, **now)
    inputs: list[Any] = [decoded, panel.method, panel.layer, panel.head, panel.control]
    making = panel.save.click(lambda: gr.update(value=_SAVING, interactive=False), None, panel.save, **now).then(
        zipped, inputs, panel.zipped, show_progress="hidden", concurrency_limit=1, concurrency_id="save"
    )
    making.success(None, panel.zipped, None, js=_FETCH)
    making.then(ready, decoded, panel.save, **now)


def saved(
    workspace: Workspace, decoded: Decoded | None, method: str, layer: int, head: int, control: str
) -> Iterator[str]:
    """Yield a zip of the map (`map_export.zip_map`), which is there until the next step: gradio copies it meanwhile."""
    if decoded is None:
        raise MindvizError("there is no map yet to save: decode a scan first")
    with tempfile.TemporaryDirectory() as aside:
        yield str(map_export.zip_map(workspace, decoded, Path(aside), method, layer, head, control))


def payload(
    workspace: Workspace, decoded: Decoded | None, method: str = "received", layer: int = -1, head: int = -1,
    control: str = "",
) -> str | None:  # fmt: skip
    """One map for the viewer; None, bare cortex, before anything was decoded.

    Layer and head (-1: their mean) count for methods that have them; of a map less its `control`, zero is the control.
    """
    if decoded is None:
        return None
    attribution = workspace.attribution(decoded, method, layer, head, control)
    choice = map_choice.choose(method, layer, head, control)
    surface = workspace.surface_map(decoded.window.subject, attribution, choice.title)
    return viewer.values_payload(surface, choice.title, choice.units, workspace.simulated, signed=choice.signed)
