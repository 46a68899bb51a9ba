"""The names of a map's layer and head as the page has them, and which maps a map can be compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mindviz.attribution.methods import METHODS
from mindviz.extensions.questions import READ_OUT
from mindviz.progress import Phases, no_phases
from mindviz.session.map_choice import CONTROL_NAMES, STAGE_NAMES, MapChoice, choose
from mindviz.session.map_request import MapRequest
from mindviz.session.own_files import NOTHING, PARCELS, OwnFiles
from mindviz.session.workspace import Workspace
from mindviz.types import AttentionMap, Decoded, MindvizError, SurfaceMap, Window
from mindviz.viewer import payloads


def layer_choices(workspace: Workspace, subject: str) -> list[tuple[str, int]]:
    """-1 is the mean over layers, as in `AttentionMap`; the only layer of a read-out alone is its own mean."""
    names = workspace.layers(subject)
    return [(names[0], -1)] if len(names) == 1 else [("all layers", -1), *((n, i) for i, n in enumerate(names))]


def head_choices(workspace: Workspace, subject: str) -> list[tuple[str, int]]:
    """The heads of the layers, which in a read-out are its questions; -1 is their mean."""
    every = "all questions" if asks_questions(workspace, subject) else "all heads"
    return [(every, -1), *((name, i) for i, name in enumerate(workspace.heads(subject)))]


def asks_questions(workspace: Workspace, subject: str) -> bool:
    """Whether the encoder is a read-out, whose heads are questions."""
    return READ_OUT in workspace.layers(subject)


def of_question(workspace: Workspace, subject: str, choice: MapChoice, question: str) -> MapChoice:
    """The map of the areas that one question of the read-out asks, by its name.

    Raises
    ------
    MindvizError
        The method has no heads, or the encoder of the subject no such question.
    """
    asked = workspace.heads(subject) if asks_questions(workspace, subject) else []
    if not choice.by_layer or question not in asked:
        raise MindvizError(
            f"expected a question that subject {subject} is asked ({', '.join(asked) or 'none is'}) and a map of "
            f"attention, found {question} and {choice.title}"
        )
    return replace(choice, head=asked.index(question))


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
    layers, heads = layer_choices(workspace, subject), head_choices(workspace, subject)
    return layers[min(choice.layer + 1, len(layers) - 1)][0], heads[choice.head + 1][0]


# --------------------------------------------------------------------------------------------- comparisons
def others(workspace: Workspace, subject: str, method: str, own: OwnFiles = NOTHING) -> list[tuple[str, str]]:
    """What a map of a method can be compared with, as (name, value) for a list; each changes one thing of the map.

    The maps that the person has opened come first.
    """
    first, chosen = [("compare with…", ""), *own.others()], method
    if workspace.decoder.data(subject) is None:  # nothing but its own attention can be asked of an imported checkpoint
        return first
    method = own.choice(method).method
    layers = layer_choices(workspace, subject)
    by_layer = METHODS[method].by_layer
    found = [(f"Layer: {name}", f"layer:{i}") for name, i in layers if by_layer and len(layers) > 1]
    if by_layer and asks_questions(workspace, subject):
        found += [(f"Question: {name}", f"question:{i}") for name, i in head_choices(workspace, subject)]
    known = workspace.methods(subject)
    found += [(f"Map: {METHODS[m].name}", f"method:{m}") for m in known if m != chosen]
    lesions = own.methods() if "lesion_area" in known else []
    found += [(f"Map: {name}", value) for name, value in lesions if value != chosen]
    if method != "pattern":  # which is of the training scans: it has neither control nor stage
        found += [(f"Control: less {name}", f"control:{control}") for control, name in CONTROL_NAMES.items()]
        found += [(f"Stage: {STAGE_NAMES[stage]}", f"stage:{stage}") for stage in workspace.stages(subject)]
    found += [(f"Subject: {other}", f"subject:{other}") for other in workspace.subjects if other != subject]
    return [*first, *found]


def changed(request: MapRequest, subject: str) -> tuple[MapChoice, str]:
    """The choice and subject that stand beside the map of a subject: what `request.other` stands for.

    Raises
    ------
    MindvizError
        For an unknown value, or a parcellation that is not open.
    """
    choice, other = request.choice, request.other
    kind, _, value = other.partition(":")
    if kind == PARCELS:
        return request.own.choice(other, control=choice.control), subject
    if kind == "subject" and value:
        return choice, value
    if kind == "layer" and value.lstrip("-").isdigit():
        return replace(choice, layer=int(value)), subject
    if kind == "question" and value.lstrip("-").isdigit():
        return replace(choice, head=int(value)), subject
    if kind == "method":
        control = "" if value == "pattern" else choice.control  # which has none
        return choose(value, choice.layer, choice.head, control, position=choice.position), subject
    if kind in ("control", "stage"):
        return choose(**{**vars(choice), kind: value}), subject
    raise MindvizError(f"a comparison is with a layer, question, method, control, stage or subject, found {other!r}")


def aspects(workspace: Workspace, one: tuple[MapChoice, str], two: tuple[MapChoice, str], kind: str) -> tuple[str, str]:
    """What two maps that stand side by side are called: that in which they differ, first."""
    first, second = (_aspect(workspace, choice, subject, kind) for choice, subject in (one, two))
    if kind in ("method", "control", PARCELS):
        return first, second
    return f"{first} · {one[0].title}", f"{second} · {two[0].title}"


def _aspect(workspace: Workspace, choice: MapChoice, subject: str, kind: str) -> str:
    if kind in ("layer", "question"):
        name = layer_and_head(workspace, subject, choice)[kind == "question"]
    elif kind == "stage":
        name = STAGE_NAMES[choice.stage].removeprefix("the ").removeprefix("an ")
    else:
        name = f"subject {subject}" if kind == "subject" else choice.title
    return name[0].upper() + name[1:]


@dataclass(frozen=True)
class Second:
    """The map beside another, of the same scan: what it is, of which subject; without a map, `missing` says why."""

    choice: MapChoice
    subject: str
    found: AttentionMap | None
    missing: str = ""


def second_of(workspace: Workspace, decoded: Decoded, request: MapRequest, phases: Phases = no_phases) -> Second | None:
    """The map that stands beside the first; None for none, and for a map that the person has opened."""
    if not request.other or request.own.map(request.other):
        return None
    window = decoded.window
    second, subject = changed(request, window.subject)
    progress = phases(f"{second.title}, to compare with")
    try:
        beside = _window(workspace, subject, window.run, window.index)
        found = workspace.map_of(beside, second, progress)
    except MindvizError as error:
        return Second(second, subject, None, str(error))
    return Second(second, subject, found)


def compared(
    workspace: Workspace, decoded: Decoded, request: MapRequest, surface: SurfaceMap, second: Second | None = None
) -> str:
    """A map (`surface`, of `request.choice`) beside that of the same scan which `request.other` stands for.

    A map that the person has opened is shown as it is, whatever the scan. Where there is no second map, bare cortex
    with a sentence says why. `second` is `second_of`, where it is known already.

    Returns
    -------
    str
        What `payloads.pair_payload` returns.
    """
    window, simulated, choice = decoded.window, workspace.simulated, request.choice
    theirs = request.own.map(request.other)
    if theirs:
        mine = payloads.values_payload(surface, choice.title, choice.units, simulated, signed=choice.signed)
        return payloads.pair_payload(mine, payloads.values_payload(theirs[1], f"Your map: {theirs[0]}"))
    second = second or second_of(workspace, decoded, request)
    if second is None:
        raise MindvizError(f"a map is compared with another, found {request.other!r}")
    theirs_is = (second.choice, second.subject)
    titles = aspects(workspace, (choice, window.subject), theirs_is, request.other.partition(":")[0])
    mine = payloads.values_payload(surface, titles[0], choice.units, simulated, signed=choice.signed)
    if second.found is None:
        said = second.missing[0].upper() + second.missing[1:]
        return payloads.pair_payload(mine, payloads.missing_payload(surface.mesh, titles[1], said, simulated))
    beside = workspace.surface_map(second.subject, second.found, titles[1])
    return payloads.pair_payload(
        mine, payloads.values_payload(beside, titles[1], second.choice.units, simulated, signed=second.choice.signed)
    )


def _window(workspace: Workspace, subject: str, run: str, index: int) -> Window:
    if run not in workspace.runs(subject) or index >= workspace.count(subject, run):
        raise MindvizError(f"subject {subject} has no scan {index} of {run}")
    return workspace.dataset.window(subject, run, index)


def patches(workspace: Workspace, subject: str) -> str:
    """The encoder's patches of a subject for the viewer (`payloads.patches_payload`)."""
    found = workspace.projection(subject)
    return payloads.patches_payload(found.vertices, np.asarray(workspace.patches(subject)), found.mesh, found.volume)
