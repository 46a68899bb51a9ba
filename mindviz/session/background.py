"""A long computation that reports its steps, can be stopped, and is consumed as a generator."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


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
        for _ in range(messages.qsize()):  # what is there now: a fast job could keep filling it
            if isinstance(message, Step):
                message = messages.get()
        if isinstance(message, BaseException):
            raise message
        if stop.is_set():
            raise Cancelled
        yield message
        if isinstance(message, Finished):
            return
