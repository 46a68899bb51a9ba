"""Which map of a decoded scan is meant, and what it is called. Knows nothing of gradio."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mindviz.explain import METHODS
from mindviz.types import MindvizError, Window
from mindviz.ui import views
from mindviz.ui.workspace import CONTROL_NAMES, Workspace


@dataclass(frozen=True)
class MapChoice:
    """A method of attribution, the layer and head of a method that has them (-1: their mean), and a control or ``""``.

    Make one with `choose`.
    """

    method: str
    layer: int
    head: int
    control: str

    @property
    def by_layer(self) -> bool:
        return METHODS[self.method].by_layer

    @property
    def signed(self) -> bool:
        """Whether zero is the control, so that values have two sides."""
        return bool(self.control)

    @property
    def title(self) -> str:
        name = METHODS[self.method].name
        return f"{name} less {CONTROL_NAMES[self.control]}" if self.control else name

    @property
    def units(self) -> str:
        return "difference" if self.control else METHODS[self.method].units


def choose(method: str = "received", layer: int = -1, head: int = -1, control: str = "") -> MapChoice:
    """A map that can be asked for; layer and head are dropped where the method has none, as the page hides them.

    Raises
    ------
    MindvizError
        For an unknown method or control.
    """
    if method not in METHODS:
        raise MindvizError(f"a method needs to be one of {', '.join(METHODS)}, found {method!r}")
    if control and control not in CONTROL_NAMES:
        raise MindvizError(f"a control needs to be one of {', '.join(CONTROL_NAMES)}, found {control!r}")
    return MapChoice(method, *((layer, head) if METHODS[method].by_layer else (-1, -1)), control)


def label(workspace: Workspace, subject: str, choice: MapChoice) -> str:
    """The title, with layer and head where the method has them: what a file calls its map.

    Raises
    ------
    MindvizError
        For a layer or head that the encoder of the subject does not have.
    """
    if not choice.by_layer:
        return choice.title
    workspace.check_layer_and_head(subject, choice.layer, choice.head)
    return f"{choice.title} ({', '.join(layer_and_head(workspace, subject, choice))})"


def layer_and_head(workspace: Workspace, subject: str, choice: MapChoice) -> tuple[str, str]:
    """Their names as on the page: ``"layer 2"``, ``"all heads"``."""
    layers, heads = workspace.layers_and_heads(subject)
    layer_names = views.layer_choices(layers, workspace.has_read_out(subject))
    return layer_names[choice.layer + 1][0], views.head_choices(heads)[choice.head + 1][0]


def file_stem(window: Window, choice: MapChoice) -> str:
    """``mindviz_subject-1_test1_scan-17_received_layer-2``: subject, run, scan and map, safe in any file system."""
    parts = ["mindviz", f"subject-{window.subject}", window.run, f"scan-{window.index}", choice.method]
    parts += [f"{name}-{i + 1}" for name, i in (("layer", choice.layer), ("head", choice.head)) if i >= 0]
    parts += [f"less-{choice.control}"] if choice.control else []
    return "_".join(re.sub(r"[^\w.]+", "-", part.replace("_", "-")) for part in parts)
