"""What is being computed for a page, what it asks, and what is told of a place: without a browser."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mindviz.brain import Projection, from_cortex, meshes
from mindviz.progress import part_of
from mindviz.session import map_choice, map_names, own_files, time_courses
from mindviz.session.background import Cancelled
from mindviz.session.map_jobs import MapJobs, PageRequest
from mindviz.session.map_request import MapRequest
from mindviz.session.own_files import OwnFiles
from mindviz.types import MindvizError, SamplingSettings
from mindviz.ui import brain_panel, places


@pytest.fixture
def fresh():
    time_courses.courses_of.cache_clear()
    yield
    time_courses.courses_of.cache_clear()


# ------------------------------------------------------------------------------------------------ requests
def test_a_request_is_read_and_a_page_without_its_script_asks_none():
    place = {"side": "left", "vertex": 3, "outlines": ""}
    assert PageRequest.read({"page": "a", "ticket": 4, "place": place}) == PageRequest("a", 4, place)
    assert PageRequest.read({"page": "a", "ticket": 4, "place": None}).place is None
    assert PageRequest.read(None) == PageRequest("", 0, None)


def test_another_map_stops_the_one_before_and_one_asked_for_earlier_is_not_begun():
    jobs = MapJobs()
    first = jobs.begin(PageRequest("page", 3))
    second = jobs.begin(PageRequest("page", 5))
    assert first and second and first.stop.is_set() and not second.stop.is_set()
    assert jobs.begin(PageRequest("page", 4)) is None and not second.stop.is_set()
    other = jobs.begin(PageRequest("another page", 1))
    assert other and not second.stop.is_set()
    assert jobs.begin(PageRequest()) is not None, "a page that says nothing of itself is drawn for"


def test_how_far_a_map_is_and_that_it_ends_at_its_next_step():
    jobs = MapJobs()
    job = jobs.begin(PageRequest("page", 1))
    assert job and jobs.how_far("page") is None and jobs.how_far("no page") is None
    step = job.phase("Lesion of a patch")
    assert jobs.how_far("page") == {"text": "Computing: Lesion of a patch", "share": None}
    step(3, 12)
    assert jobs.how_far("page") == {"text": "Computing: Lesion of a patch", "share": 0.25}
    jobs.give_up("page")
    with pytest.raises(Cancelled):
        step(4, 12)
    assert job.given_up
    job.ended = True
    assert jobs.how_far("page") is None


def test_parts_of_a_computation_add_up():
    seen: list[float] = []

    def shown(done: int, total: int) -> None:
        seen.append(done / total)

    one, rest = part_of(shown, 0, 4), part_of(shown, 1, 4, 3)
    for step in (0, 5, 10):
        one(step, 10)
    for step in (0, 1, 2):
        rest(step, 2)
    assert seen == [0, 0.125, 0.25, 0.25, 0.625, 1]


@pytest.mark.parametrize(("method", "control"), [("lesion_area", "shuffled"), ("lesion_patch", ""), ("rollout", "")])
def test_a_map_tells_its_share_from_nothing_to_all_and_can_be_stopped(workspace, fresh, method, control):
    decoded = workspace.decode("1", "test1", 3, SamplingSettings(1, 1.0, 0))
    shares: dict[str, list[float]] = {}

    def phase(what: str):
        shares[what] = []
        return lambda done, total: shares[what].append(done / total)

    brain_panel.payload(workspace, decoded, MapRequest.read(method, control=control, other="stage:untrained"), phase)
    assert len(shares) == 2 and all(told == sorted(told) for told in shares.values())
    assert all(told[0] == 0 and told[-1] == 1 for told in shares.values())

    def stop(what: str):
        def cancel(done: int, total: int) -> None:
            raise Cancelled

        return cancel

    with pytest.raises(Cancelled):
        brain_panel.payload(workspace, decoded, MapRequest.read(method, control=control), stop)


# ------------------------------------------------------------------------------------- what is told of a place
def place_of(workspace, column):
    vertex = int(workspace.dataset.run("1", "test1").vertices[column])
    left, right = meshes.cortex_index("fsLR-32k")
    side = ("left", left[vertex]) if vertex < left.size else ("right", right[vertex - left.size])
    return {"side": side[0], "vertex": int(side[1]), "outlines": ""}


def test_an_answer_is_of_the_place_that_the_page_says_and_bears_its_number():
    """The server remembers no place: of several clicks, the one that is answered last would decide which it is."""
    asked = [{"page": "p", "ticket": i, "place": {"side": "left", "vertex": i, "outlines": ""}} for i in (7, 8)]

    def job(place: time_courses.Place, ticket: int) -> str:
        return time_courses.told_json(time_courses.refused(place, "told"), ticket)

    told = [json.loads(places.answered(sent, job)["detail"]) for sent in reversed(asked)]
    assert [(answer["vertex"], answer["ticket"]) for answer in told] == [(8, 8), (7, 7)]
    assert "detail" not in places.answered({"page": "p", "ticket": 9, "place": None}, job), "nothing is picked"


@pytest.mark.parametrize(("error", "said"), [(MindvizError("no run"), "no run"), (KeyError("x"), "the terminal")])
def test_what_fails_is_a_sentence(error, said):
    def job(place: time_courses.Place, ticket: int) -> str:
        raise error

    sent = {"page": "p", "ticket": 2, "place": {"side": "left", "vertex": 1, "outlines": ""}}
    answer = json.loads(places.answered(sent, job)["detail"])
    assert said in answer["message"] and answer["ticket"] == 2


def detail(workspace, column, other, own=own_files.NOTHING, method="rollout"):
    place = time_courses.Place(**place_of(workspace, column))
    return json.loads(places._answer(workspace, place, ("1", "test1", 3, method, -1, -1, "", -1, own, other)))


def test_a_place_of_two_maps_tells_both_courses(workspace, fresh):
    known = time_courses.courses_of(workspace)
    for method in ("received", "rollout"):
        known.fill("1", "test1", map_choice.choose(method), 0)
    told = detail(workspace, 17, "method:received")
    for part, method in (("map", "rollout"), ("beside", "received")):
        expected = workspace.maps("1", "test1", np.arange(12), map_choice.choose(method))[:, 17]
        np.testing.assert_allclose(told[part]["values"], expected, rtol=2e-3)
    assert [told[part]["name"] for part in ("map", "beside")] == ["Attention rollout", "Attention received"]
    assert detail(workspace, 17, "")["beside"] is None


def test_the_second_map_is_told_of_as_far_as_there_is_one(workspace, fresh):
    other = detail(workspace, 17, "subject:2")["beside"]
    assert other["values"] == [] and other["note"].startswith("Subject 2 · Attention rollout: No voxel here")
    mine = from_cortex(np.arange(59412, dtype=np.float32))
    own, vertex = OwnFiles({"mine": mine}), workspace.dataset.run("1", "test1").vertices[17]
    fixed = detail(workspace, 17, "own:mine", own)["beside"]
    assert fixed["values"] == [] and fixed["note"] == f"Your map: mine: {vertex:.3g} here, the same for every scan."
    none = Projection(np.array([0])).to_surface(np.array([1.0], np.float32))
    assert detail(workspace, 17, "own:mine", OwnFiles({"mine": none}))["beside"]["note"].endswith("no value here.")


def test_why_there_is_no_second_map_is_told_once_it_was_looked_for(workspace, fresh):
    place, own = time_courses.Place(**place_of(workspace, 17)), own_files.NOTHING
    asked = ("1", "test1", 3, "pattern", -1, -1, "", -1, own, "subject:2")
    missing = places._fill(workspace, asked)
    told = json.loads(places._answer(workspace, place, asked, missing=missing))
    assert "expected activation patterns of subject 2" in told["beside"]["note"]


def test_what_was_drawn_beside_is_remembered(workspace, fresh):
    decoded = workspace.decode("1", "test1", 3, SamplingSettings(1, 1.0, 0))
    brain_panel.payload(workspace, decoded, MapRequest.read("rollout", other="method:lesion_patch"))
    values = detail(workspace, 17, "method:lesion_patch")["beside"]["values"]
    assert [i for i, value in enumerate(values) if value is not None] == [3]


# ------------------------------------------------------------------------------- an own parcellation as the second
def test_a_lesion_by_ones_own_parcels_stands_beside_another_map(workspace, fresh):
    from mindviz.brain import parcellations

    own = OwnFiles(parcels={"nets": replace(parcellations.load("yeo7"), name="nets")})
    assert ("Map: Lesion of a parcel (nets)", "parcels:nets") in map_names.others(workspace, "1", "received", own)
    assert "parcels:nets" not in {value for _, value in map_names.others(workspace, "1", "parcels:nets", own)}
    decoded = workspace.decode("1", "test1", 3, SamplingSettings(1, 1.0, 0))
    both = json.loads(brain_panel.payload(workspace, decoded, MapRequest.read(own=own, other="parcels:nets")))["maps"]
    assert [one["title"] for one in both] == ["Attention received", "Lesion of a parcel (nets)"]
    alone = json.loads(brain_panel.payload(workspace, decoded, MapRequest.read("parcels:nets", own=own)))
    assert both[1]["values"] == alone["values"] and alone["values"]
    with pytest.raises(MindvizError, match="gone: no such parcellation is open"):
        map_names.changed(MapRequest.read(own=own, other="parcels:gone"), "1")
