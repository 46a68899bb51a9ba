"""A long computation that reports its steps, can be stopped, and is consumed as a generator."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
_SESSIONS = 256  # whose newest request is remembered


@dataclass(frozen=True)
class Step:
    """`step` of `total` is done (step counts from 1)."""

    step: int
    total: int


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """The last thing a stream yields: what the job returned."""

    result: Result


class Cancelled(Exception):
    """Raised inside the job, by its callback, after somebody asked it to stop; and by the stream to its consumer."""


def stream(job: Callable[[Callable[..., None]], Result], stop: threading.Event) -> Iterator[Step | Finished[Result]]:
    """Run `job(callback)` in a thread; yield a `Step` for each call ``callback(step, total, ...)``, then `Finished`.

    The job stops at its next step once `stop` is set or the consumer closes the stream; an error of the job is raised
    here. Steps that the consumer was too slow for are skipped: only the latest is yielded.

    Raises
    ------
    Cancelled
        `stop` was set before the job had ended.
    """
    messages: queue.Queue[Any] = queue.Queue()

    def callback(step: int, total: int, *_: Any) -> None:
        if stop.is_set():
            raise Cancelled
        messages.put(Step(step, total))

    def work() -> None:
        try:
            messages.put(Finished(job(callback)))
        except BaseException as error:  # noqa: BLE001 - handed over to the consumer's thread, which raises it
            messages.put(error)

    threading.Thread(target=work, name="mindviz-decode", daemon=True).start()
    try:
        yield from _latest(messages, stop)
    finally:
        stop.set()


def _latest(messages: queue.Queue[Any], stop: threading.Event) -> Iterator[Any]:
    while True:
        message = messages.get()
        for _ in range(messages.qsize()):  # what is there now: a fast job could fill it for ever
            if isinstance(message, Step):
                message = messages.get()
        if isinstance(message, BaseException):
            raise message
        if stop.is_set():
            raise Cancelled
        yield message
        if isinstance(message, Finished):
            return


@dataclass(frozen=True)
class Running:
    """A job of one browser session: what it works on, and its stop switch."""

    what: Hashable
    stop: threading.Event


class Jobs:
    """At most one job for each browser session: starting a new one stops the one before."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}

    def start(self, session: str, what: Hashable) -> Running:
        self.stop(session)
        self._running[session] = Running(what, threading.Event())
        return self._running[session]

    def wanted(self, session: str, what: Hashable) -> Running | None:
        """The session's job, if it is to work on `what` and has not been stopped."""
        job = self._running.get(session)
        return None if job is None or job.stop.is_set() or job.what != what else job

    def stop(self, session: str, unless: Hashable = None) -> bool:
        """Ask the session's job to stop, unless it works on `unless`; whether a job goes on."""
        job = self._running.get(session)
        if job is None or job.stop.is_set():
            self._running.pop(session, None)
            return False
        if unless is not None and job.what == unless:
            return True
        job.stop.set()
        del self._running[session]
        return False


@dataclass
class Asked(Generic[Result]):
    """Request `ticket` of a browser session: what is to be worked on (None: nothing more), and its stop switch."""

    ticket: int
    what: Result | None
    stop: threading.Event = field(default_factory=threading.Event)


class Newest(Generic[Result]):
    """The newest request of each browser session, by the number that the page gave it.

    Requests that are under way at once reach the server in any order, so the one that comes last need not be the one
    that the person made last; only the page knows.
    """

    def __init__(self) -> None:
        self._asked: OrderedDict[str, Asked[Result]] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, session: str, ticket: int, what: Result | None) -> bool:
        """Stop what the session asked for before, and keep `what` until it is taken; False, and nothing is done, where
        the session has asked for something else since."""
        with self._lock:
            before = self._asked.get(session)
            if before and before.ticket > ticket:
                return False
            if before:
                before.stop.set()
            self._asked[session] = Asked(ticket, what)
            self._asked.move_to_end(session)
            while len(self._asked) > _SESSIONS:
                self._asked.popitem(last=False)
        return True

    def take(self, session: str) -> tuple[Result, threading.Event] | None:
        """What is to be worked on, and its stop switch; whoever comes first gets it, all others None."""
        with self._lock:
            asked = self._asked.get(session)
            if asked is None or asked.what is None:
                return None
            what, asked.what = asked.what, None
        return what, asked.stop
