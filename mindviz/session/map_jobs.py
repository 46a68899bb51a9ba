"""What is being computed for a page: one map at a time, how far it is, and giving it up. Knows nothing of gradio."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from mindviz.progress import Progress
from mindviz.session.background import Cancelled

_PAGES = 256  # whose last request is remembered


@dataclass(frozen=True)
class Request:
    """What a page asks of the cortex: which page, the number of the request, and the place that is told of there.

    The page counts its own requests. Nothing else can: several are under way at once, and they neither reach the server
    nor begin there in the order in which they were asked, least of all on a busy machine.
    """

    page: str = ""
    ticket: int = 0
    place: dict[str, Any] | None = None

    @classmethod
    def read(cls, sent: Any) -> Request:
        """From what the page sent (`viewer.ASK`); a page whose script did not load sends nothing."""
        if not isinstance(sent, dict):
            return cls()
        place = sent.get("place")
        return cls(str(sent["page"])[:64], int(sent["ticket"]), place if isinstance(place, dict) else None)


@dataclass
class Drawing:
    """A map on its way, asked for by request `ticket` of a page."""

    ticket: int
    what: str = ""
    share: float | None = None  # None where the computation has no steps
    given_up: bool = False
    ended: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def phase(self, what: str) -> Progress:
        """What a computation calls with (done, total).

        Raises
        ------
        Cancelled
            There, once the map is no longer wanted.
        """
        self.what, self.share = what, None

        def progress(done: int, total: int) -> None:
            if self.stop.is_set():
                raise Cancelled
            self.share = done / total if total > 1 else None

        return progress


class Drawings:
    """At most one map on its way for each page: asking for another stops the one before."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, Drawing] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, asked: Request) -> Drawing | None:
        """None where the page has asked for another since: that one is drawn."""
        drawing = Drawing(asked.ticket)
        if not asked.page:
            return drawing
        with self._lock:
            before = self._last.get(asked.page)
            if before and before.ticket > asked.ticket:
                return None
            if before:
                before.stop.set()
            self._last[asked.page] = drawing
            self._last.move_to_end(asked.page)
            while len(self._last) > _PAGES:
                self._last.popitem(last=False)
        return drawing

    def how_far(self, page: str) -> dict[str, Any] | None:
        """What is being computed for a page, and the share of it that is done, if that is known; None for nothing."""
        drawing = self._last.get(page)
        if drawing is None or drawing.ended or not drawing.what:
            return None
        return {"text": f"Computing: {drawing.what}", "share": drawing.share}

    def give_up(self, page: str) -> None:
        """Stop what is being computed for a page, at its next step."""
        drawing = self._last.get(page)
        if drawing and not drawing.ended:
            drawing.given_up = True
            drawing.stop.set()
