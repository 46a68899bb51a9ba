"""The cortex beside the films: the encoder's attention, by layer and head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mindviz.types import Decoded
from mindviz.ui import viewer, views
from mindviz.ui.workspace import Workspace

_HEIGHT = 240


@dataclass(frozen=True)
class BrainPanel:
    """The viewer and the two choices above it."""

    view: gr.HTML
    layer: gr.Dropdown
    head: gr.Dropdown


def build(workspace: Workspace) -> BrainPanel:
    """Lay the panel out; the cortex is bare until something was decoded."""
    layers, heads = workspace.layers_and_heads(workspace.subjects[0])
    read_out = workspace.has_read_out(workspace.subjects[0])
    choices = views.layer_choices(layers, read_out)
    with gr.Row(elem_id="app-brain-choices"):
        gr.HTML("<h2>Encoder attention</h2>", apply_default_css=False)
        first = layers - 1 if read_out else -1  # what decodes is what is shown
        layer = gr.Dropdown(choices, value=first, label="Layer", container=False, min_width=112)
        head = gr.Dropdown(views.head_choices(heads), value=-1, label="Head", container=False, min_width=112)
    gr.HTML(f'<p class="app-fine">{workspace.attention_note}</p>', apply_default_css=False)
    view = viewer.viewer_html(_HEIGHT, workspace.dataset.mesh)
    return BrainPanel(view, layer, head)


def tie(panel: BrainPanel, workspace: Workspace, decoded: gr.State, events: list[Any]) -> None:
    """Draw anew after `events`, which change what was decoded, and when another layer or head is chosen."""

    def draw(result: Decoded | None, layer: int, head: int) -> str | None:
        return payload(workspace, result, layer, head)

    inputs: list[Any] = [decoded, panel.layer, panel.head]
    for event in events:
        event.then(draw, inputs, panel.view, queue=False, show_progress="hidden")
    for choice in (panel.layer, panel.head):
        choice.input(draw, inputs, panel.view, queue=False, show_progress="hidden", trigger_mode="always_last")


def payload(workspace: Workspace, decoded: Decoded | None, layer: int, head: int) -> str | None:
    """The map of one layer and head (-1: their mean) for the viewer; None, bare cortex, before anything was decoded."""
    if decoded is None:
        return None
    attention = workspace.attention(decoded, layer, head)
    surface = workspace.surface_map(decoded.window.subject, attention)
    return viewer.values_payload(surface, "Attention received", "1 = every patch alike", simulated=workspace.simulated)
