"""How long work reports itself: a function that is called with (done, total), one for each phase of the work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total); may raise, to cancel."""


def silent(done: int, total: int) -> None:
    """No progress shown."""


def part_of(progress: Progress, before: int, parts: int, size: int = 1) -> Progress:
    """The progress of one computation of several: `before` of `parts` are done, and it is `size` of them."""
    return lambda done, total: progress(before * total + size * done, parts * total)


Phases = Callable[[str], Progress]
"""Given what is computed, what is called with (done, total); it may raise, to cancel."""


def no_phases(what: str) -> Progress:
    """No progress shown."""
    return silent
