"""Only the latest request of each page counts: asking for something else stops what was asked for before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Work = TypeVar("Work")
MOST_PAGES = 256
"""How many pages are remembered; beyond that, the page that has been silent longest is forgotten."""


@dataclass(eq=False)
class Ask(Generic[Work]):
    """Request number `ticket` of a page: the work (None: no more work), and the switch that stops it."""

    ticket: int
    work: Work
    stop: threading.Event = field(default_factory=threading.Event)
    taken: bool = False


class LatestOnly(Generic[Work]):
    """The latest request of each page, which stops the one before.

    A page numbers its requests: several are under way at once and reach the server in any order, so only the page knows
    which it made last. Requests without a number are numbered in the order in which they come.
    """

    def __init__(self) -> None:
        self._asks: OrderedDict[str, Ask[Work]] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, page: str, work: Work, ticket: int | None = None) -> Ask[Work] | None:
        """Stop what the page asked for before; None, and nothing is done, if it has asked for something else since."""
        with self._lock:
            before = self._asks.get(page)
            number = ticket if ticket is not None else (before.ticket + 1 if before else 0)
            if before and before.ticket > number:
                return None
            if before:
                before.stop.set()
            ask = self._asks[page] = Ask(number, work)
            self._asks.move_to_end(page)
            while len(self._asks) > MOST_PAGES:
                self._asks.popitem(last=False)
        return ask

    def latest(self, page: str) -> Ask[Work] | None:
        """The page's latest request, unless it was stopped."""
        ask = self._asks.get(page)
        return None if ask is None or ask.stop.is_set() else ask

    def take(self, page: str) -> Ask[Work] | None:
        """The same, for whoever does the work: handed out once, and only if there is work."""
        with self._lock:
            ask = self.latest(page)
            if ask is None or ask.taken or ask.work is None:
                return None
            ask.taken = True
        return ask

    def stop(self, page: str, unless: Callable[[Work], bool] | None = None) -> bool:
        """Stop what the page asked for last, `unless` that work may go on; whether it does."""
        ask = self.latest(page)
        if ask is None or (unless is not None and unless(ask.work)):
            return ask is not None
        ask.stop.set()
        return False
