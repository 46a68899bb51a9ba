"""Only the latest request of each page counts, whatever the order in which requests arrive."""

from __future__ import annotations

import itertools

import pytest

from mindviz.session.latest import MOST_PAGES, LatestOnly


def test_a_page_has_one_request_and_another_one_stops_it():
    latest = LatestOnly[int]()
    first, other = latest.ask("a", 3), latest.ask("b", 3)
    assert first and other and latest.stop("a", unless=lambda work: work == 3) and not first.stop.is_set()
    assert not latest.stop("a", unless=lambda work: work == 4) and first.stop.is_set()
    assert not other.stop.is_set() and not latest.stop("a") and latest.latest("a") is None


def test_what_waits_in_a_queue_begins_once_and_only_if_it_is_still_wanted():
    latest = LatestOnly[int]()
    assert latest.take("a") is None
    asked = [latest.ask("a", 3), latest.ask("a", 3)]  # pressed twice
    assert latest.take("a") is asked[1] and asked[0] and asked[0].stop.is_set()
    assert latest.take("a") is None and latest.latest("a") is asked[1], "it is under way"
    latest.ask("a", 5)
    latest.stop("a")
    assert latest.take("a") is None


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
def test_of_numbered_requests_the_highest_counts_in_whatever_order_they_arrive(order):
    latest, kept = LatestOnly[int](), []
    for ticket in order:
        ask = latest.ask("a", ticket * 10, ticket)
        assert (ask is not None) == (ticket > max(kept, default=0)), "one that was overtaken does nothing"
        kept += [ticket] if ask else []
    taken = latest.take("a")
    assert taken and (taken.ticket, taken.work, taken.stop.is_set()) == (3, 30, False)


def test_a_request_for_no_more_work_stops_what_runs_and_is_not_taken():
    latest = LatestOnly[int | None]()
    latest.ask("a", 1, 1)
    running = latest.take("a")
    assert latest.ask("a", None, 2) and running and running.stop.is_set() and latest.take("a") is None


def test_pages_that_asked_for_nothing_in_a_long_time_are_forgotten():
    latest = LatestOnly[str]()
    for page in range(MOST_PAGES + 10):
        latest.ask(str(page), "it")
    assert latest.take("0") is None and latest.take("9") is None
    assert latest.take("10") and latest.take(str(MOST_PAGES + 9))
