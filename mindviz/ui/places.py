"""A clicked place of the cortex: the page asks, the time courses of a run answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from mindviz.session import map_names, time_courses
from mindviz.session.map_choice import MapChoice
from mindviz.session.map_jobs import PageRequest
from mindviz.session.map_request import MapRequest
from mindviz.session.scans import Scans
from mindviz.session.workspace import Workspace
from mindviz.types import MindvizError
from mindviz.ui import cortex_view
from mindviz.ui.brain_parts import BrainPanel

_log = logging.getLogger(__name__)
_UNKNOWN = "Reading the run failed for a reason that mindviz does not know; the terminal it runs in shows the details."
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden"}


def connect_places(panel: BrainPanel, workspace: Workspace, where: Sequence[Any], drawn: Sequence[Any]) -> None:
    """Describe the place that is clicked, and the same place again after another map or scan was `drawn`.

    Which place that is, the page says with every request: kept here, it would be that of whichever of several clicks is
    answered last, and the page would wait for ever for the answer to its own.
    """

    def tell(sent: Any, *asked: Any) -> Any:
        return answered(sent, lambda place, ticket: _answer(workspace, place, asked, ticket))

    def tell_all(sent: Any, *asked: Any) -> Any:
        """The same once the maps are known for the whole run; another click may have seen to that meanwhile."""

        def filled(place: time_courses.Place, ticket: int) -> str:
            missing = _fill(workspace, asked)
            return _answer(workspace, place, asked, ticket, goes_on=False, missing=missing)

        return answered(sent, filled)

    inputs: list[Any] = [panel.asked, *where, *panel.choices, panel.other]
    clicked = panel.view.select(tell, inputs, panel.view, js=cortex_view.ASK, trigger_mode="multiple", **_QUIET)
    latest: dict[str, Any] = {"js": cortex_view.ASK, "trigger_mode": "always_last", **_QUIET}
    for told in [clicked, *(event.then(tell, inputs, panel.view, **latest) for event in drawn)]:
        for answer in (told, told.then(tell_all, inputs, panel.view, **latest)):
            answer.failure(None, None, None, js=cortex_view.UNTOLD)


def answered(sent: Any, job: Callable[[time_courses.Place, int], str]) -> Any:
    """The answer of `job` on the place that a page asks about, or the sentence that says why there is none.

    Beside the queue, gradio tells the page of no error.
    """
    request = PageRequest.read(sent)
    if request.place is None:
        return gr.skip()
    place = time_courses.Place(*(request.place[key] for key in ("side", "vertex", "outlines")))
    try:
        return gr.update(detail=job(place, request.ticket))
    except MindvizError as error:
        said = str(error)
    except Exception:  # noqa: BLE001 - logged whole; the page shows a sentence, never a traceback
        _log.exception("telling of %s failed", place)
        said = _UNKNOWN
    return gr.update(detail=time_courses.told_json(time_courses.refused(place, said), request.ticket))


def _answer(
    workspace: Workspace,
    place: time_courses.Place,
    asked: Sequence[Any],
    ticket: int = 0,
    goes_on: bool = True,
    missing: str = "",
) -> str:
    """What the viewer tells of a place (`time_courses.told`) after what the page `asked`, as JSON."""
    scans, request = _read(asked)
    beside = beside_of(workspace, scans.subject, request)
    beside = replace(beside, missing=missing) if beside else None
    content = time_courses.told(workspace, scans, request.choice, place, goes_on, beside)
    return time_courses.told_json(content, ticket)


def _read(asked: Sequence[Any]) -> tuple[Scans, MapRequest]:
    """The values of the page's lists: subject, run and scan, then what is chosen of the map."""
    subject, run, scan, *chosen = asked
    return Scans(subject, run, int(scan)), MapRequest.read(*chosen)


def _fill(workspace: Workspace, asked: Sequence[Any]) -> str:
    """Compute what is missing of the maps that are told of, if they are cheap; says why there is no second one."""
    scans, request = _read(asked)
    known, scan = time_courses.courses_of(workspace), scans.index or 0
    beside = beside_of(workspace, scans.subject, request)
    known.fill(scans.subject, scans.run, request.choice, scan)
    if beside and isinstance(beside.what, MapChoice):
        try:
            known.fill(beside.subject, scans.run, beside.what, scan)
        except MindvizError as error:
            return str(error)
    return ""


def beside_of(workspace: Workspace, subject: str, request: MapRequest) -> time_courses.Beside | None:
    """The map that `request.other` puts beside that of `request.choice`; None for none."""
    choice, other = request.choice, request.other
    if not other:
        return None
    theirs = request.own.map(other)
    if theirs:
        return time_courses.Beside((choice.title, f"Your map: {theirs[0]}"), subject, theirs[1])
    second, whose = map_names.changed(request, subject)
    titles = map_names.aspects(workspace, (choice, subject), (second, whose), other.partition(":")[0])
    return time_courses.Beside(titles, whose, second)
