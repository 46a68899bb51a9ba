"""Maps being computed: one at a time for each page, with progress and a way to stop. Knows nothing of gradio."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from mindviz.progress import Progress
from mindviz.session.background import Cancelled
from mindviz.session.latest import LatestOnly


@dataclass(frozen=True)
class PageRequest:
    """What a page asks of the cortex: which page, the number of the request (`LatestOnly`), and the place told of."""

    page: str = ""
    ticket: int = 0
    place: dict[str, Any] | None = None

    @classmethod
    def read(cls, sent: Any) -> PageRequest:
        """From what the page sent (`mindviz.ui.cortex_view`); a page whose script did not load sends nothing."""
        if not isinstance(sent, dict):
            return cls()
        place = sent.get("place")
        return cls(str(sent["page"])[:64], int(sent["ticket"]), place if isinstance(place, dict) else None)


@dataclass(eq=False)
class MapJob:
    """A map that is being computed; `share` of it is done (None where the computation has no steps)."""

    stop: threading.Event = field(default_factory=threading.Event)
    what: str = ""
    share: float | None = None
    given_up: bool = False
    ended: bool = False

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


class MapJobs:
    """At most one map on its way for each page: asking for another stops the one before."""

    def __init__(self) -> None:
        self._asks: LatestOnly[MapJob] = LatestOnly()

    def begin(self, asked: PageRequest) -> MapJob | None:
        """None where the page has asked for another since; that one is computed."""
        job = MapJob()
        if asked.page:
            ask = self._asks.ask(asked.page, job, asked.ticket)
            if ask is None:
                return None
            job.stop = ask.stop
        return job

    def how_far(self, page: str) -> dict[str, Any] | None:
        """What is being computed for a page, and the share of it that is done, if that is known; None for nothing."""
        ask = self._asks.latest(page)
        if ask is None or ask.work.ended or not ask.work.what:
            return None
        return {"text": f"Computing: {ask.work.what}", "share": ask.work.share}

    def give_up(self, page: str) -> None:
        """Stop what is being computed for a page, at its next step."""
        ask = self._asks.latest(page)
        if ask and not ask.work.ended:
            ask.work.given_up = True
            self._asks.stop(page)
