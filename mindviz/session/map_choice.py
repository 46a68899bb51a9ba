"""The choice of a map of a scan, its names, and the caution that goes with it. Knows neither gradio nor a model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mindviz.attribution.methods import METHODS
from mindviz.brain import Parcellation
from mindviz.types import MindvizError, Window

CONTROL_NAMES = {"untrained": "untrained encoder", "shuffled": "shuffled scans", "uniform": "its mean"}
CONTROLS_SAID = {
    "untrained": "the same map of an encoder of random weights",
    "shuffled": "the same map of scans whose voxels were exchanged between scans",
    "uniform": "the mean of the map over all voxels",
}
"""What zero stands for in a map less a control."""
_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth")
STAGE_NAMES = {
    "full": "the full model",
    "contrast": "the encoder after contrast",
    "mask": "the encoder before contrast",
    "untrained": "an untrained encoder",
}


@dataclass(frozen=True)
class MapChoice:
    """A method of attribution, the layer and head of a method that has them (-1: their mean), a control or ``""``, and
    the stage of training of the encoder that is asked; which scan of the window is meant (-1: all of them), and the
    parcellation by which areas are taken out (None: HCP-MMP). Two parcellations of one name make two choices.

    Make one with `choose`.
    """

    method: str
    layer: int
    head: int
    control: str
    stage: str = "full"
    position: int = -1
    parcels: Parcellation | None = None

    @property
    def by_layer(self) -> bool:
        return METHODS[self.method].by_layer

    @property
    def signed(self) -> bool:
        """Whether zero is the control, so that values have two sides."""
        return bool(self.control)

    @property
    def computed(self) -> str:
        """What a file calls the method: with the control that was taken off."""
        return f"{self.method} minus {self.control}" if self.control else self.method

    @property
    def title(self) -> str:
        name = f"Lesion of a parcel ({self.parcels.name})" if self.parcels else METHODS[self.method].name
        name += f", {position_name(self.position)}" if self.position >= 0 else ""
        return f"{name} less {CONTROL_NAMES[self.control]}" if self.control else name

    @property
    def units(self) -> str:
        return "difference" if self.control else METHODS[self.method].units

    def caution(self, said: str) -> str:
        """What is `said` of the method (`Workspace.caution`), and of the control what zero stands for."""
        return f"{said} Zero is its control: {CONTROLS_SAID[self.control]}." if self.control else said


def position_name(position: int) -> str:
    """What one scan of the window (from 0), or all of them (-1), is called."""
    if position < 0:
        return "all scans of the window"
    return f"{_PLACES[position] if position < len(_PLACES) else f'{position + 1}th'} scan of the window"


def position_choices(method: str, size: int) -> list[tuple[str, int]]:
    """The scans of a window of `size` that a map of a method can be asked for, as (name, value); -1 is all of them."""
    known = METHODS[method].by_position and size > 1
    both = "both scans of the window" if size == 2 else position_name(-1)
    return [(both, -1), *((position_name(i), i) for i in range(size) if known)]


def choose(
    method: str = "received",
    layer: int = -1,
    head: int = -1,
    control: str = "",
    stage: str = "full",
    position: int = -1,
    parcels: Parcellation | None = None,
) -> MapChoice:
    """A map that can be asked for; layer, head and position are dropped where the method has none, as the page hides
    them.

    Raises
    ------
    MindvizError
        For an unknown method, control or stage, a parcellation where no areas are taken out, or a control of a pattern.
    """
    if method not in METHODS:
        raise MindvizError(f"a method needs to be one of {', '.join(METHODS)}, found {method!r}")
    if control and control not in CONTROL_NAMES:
        raise MindvizError(f"a control needs to be one of {', '.join(CONTROL_NAMES)}, found {control!r}")
    if control and method == "pattern":
        raise MindvizError("an activation pattern has no control here: it is of the training scans, not of these")
    if stage not in STAGE_NAMES:
        raise MindvizError(f"a stage needs to be one of {', '.join(STAGE_NAMES)}, found {stage!r}")
    if parcels and method != "lesion_area":
        raise MindvizError(f"a parcellation is for lesions of areas (lesion_area), found one for {method}")
    known = METHODS[method]
    apart = (layer, head) if known.by_layer else (-1, -1)
    return MapChoice(method, *apart, control, stage, position if known.by_position else -1, parcels)


def file_stem(window: Window, choice: MapChoice) -> str:
    """``mindviz_subject-1_test1_scan-17_received_layer-2``: subject, run, scan and map, safe in any file system."""
    parts = ["mindviz", f"subject-{window.subject}", window.run, f"scan-{window.index}", choice.method]
    parts += [f"{name}-{i + 1}" for name, i in _numbered(choice) if i >= 0]
    parts += [f"parcels-{choice.parcels.name[:40]}"] if choice.parcels else []
    parts += [f"less-{choice.control}"] if choice.control else []
    return "_".join(re.sub(r"[^\w.]+", "-", part.replace("_", "-")) for part in parts)


def _numbered(choice: MapChoice) -> tuple[tuple[str, int], ...]:
    return (("layer", choice.layer), ("head", choice.head), ("position", choice.position))
