"""The cortex beside the films: where the decoding comes from, by any method of attribution, with its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mindviz.explain import METHODS
from mindviz.types import Decoded, MindvizError
from mindviz.ui import viewer, views
from mindviz.ui.workspace import CONTROL_NAMES, Workspace

_HEIGHT = 240


@dataclass(frozen=True)
class BrainPanel:
    """The viewer, the choices above it, and the sentence on what the map does not say."""

    view: gr.HTML
    method: gr.Dropdown
    control: gr.Dropdown
    layer: gr.Dropdown
    head: gr.Dropdown
    caution: gr.HTML


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
    caution = gr.HTML(views.fine_print(workspace.caution("received")), apply_default_css=False)
    view = viewer.viewer_html(_HEIGHT, workspace.dataset.mesh)
    return BrainPanel(view, method, control, layer, head, caution)


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
    surface = workspace.surface_map(decoded.window.subject, attribution)
    title, units = METHODS[method].name, METHODS[method].units
    if control:
        title, units = f"{title} less {CONTROL_NAMES[control]}", "difference"
    return viewer.values_payload(surface, title, units, simulated=workspace.simulated, signed=bool(control))
