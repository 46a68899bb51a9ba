"""What stands behind "Take an area out": what is shown, in which order, and what no longer is."""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.lesioned import write_lesioned

from mindviz import session, ui
from mindviz.attribution.lesion import CAUTION, Change
from mindviz.brain import parcellations
from mindviz.session import background
from mindviz.session.lesions import Lesions
from mindviz.session.own_files import NOTHING, OwnFiles
from mindviz.types import MindvizError, SamplingSettings
from mindviz.ui import lesion_panel
from mindviz.ui.lesion_panel import CLOSED, LesionPanel, LesionRequest, Made, sentences

REQUEST = SimpleNamespace(session_hash="a")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, tiny_checkpoint: Path):
    return session.open(write_lesioned(tmp_path_factory.mktemp("panel") / "data", tiny_dataset, tiny_checkpoint))


@pytest.fixture(scope="module")
def decoded(opened):
    return opened.decode("1", "test1", 5, SamplingSettings(2, 2.0, 11))


@pytest.fixture
def panel(opened) -> LesionPanel:
    return LesionPanel(opened, Lesions(opened))


def value(by: str = "yeo7", which: str = "", is_open: bool = True, ticket: int = 0) -> str:
    return json.dumps({"open": is_open, "by": by, "which": which, "ticket": ticket})


def told(updates) -> list[dict]:
    return [update["shown"] for update in updates if "shown" in update]


def run(panel: LesionPanel, chosen: str, decoded, own: OwnFiles = NOTHING) -> list[dict]:
    panel.asked(chosen, decoded, own, REQUEST)
    return told(panel.run(REQUEST))


# ---------------------------------------------------------------------- what is shown
def test_the_farthest_moved_is_painted_first_and_told_in_words(panel: LesionPanel, decoded) -> None:
    shown = run(panel, value(), decoded)
    assert {s["state"] for s in shown} == {"working", "done"}
    assert any(s["message"] == "Reading the run" for s in shown) and any(
        "Decoding without" in s["message"] for s in shown
    )
    tickets = [s["ticket"] for s in shown]
    assert tickets == sorted(tickets) and len(set(tickets)) == len(tickets)
    last = shown[-1]
    found = panel.lesions.losses(decoded.window, "yeo7")
    assert [name for name, _ in last["list"]] == [found.groups.names[i] for i in found.order]
    assert last["chosen"] == last["list"][0][0] and f"moves {found.moved.max():.2f}" in last["list"][0][1]
    assert all(last[key].startswith("data:video/mp4") for key in ("truth", "intact", "film"))
    assert last["film"] != last["intact"] and last["said"][-1] == CAUTION and last["simulated"]
    said = " ".join(last["said"])
    assert f"of 12, intact {found.rank:g}, by guessing 6.5" in said and "of 320 voxels" in said
    assert "Another seed, with nothing taken out" in said and "the lesion changes" in said
    before = next(s for s in shown if s["film"])
    assert "Another seed" not in " ".join(before["said"]), "the film is shown before its baseline is known"


def test_another_group_is_painted_and_a_patch_that_is_not_heard_changes_nothing(panel: LesionPanel, decoded) -> None:
    last = run(panel, value("patch", "patch 4"), decoded)[-1]
    assert last["chosen"] == last["name"] == "patch 4" and last["film"] == last["intact"]
    assert "move by 0.00;" in last["said"][0] and "SSIM 1.00 and an error of 0 grey levels" in last["said"][2]
    area = run(panel, value("hcp-mmp"), decoded)[-1]
    side = {"L": "left", "R": "right"}[area["chosen"][0]]
    assert area["name"] == f"{area['chosen'][2:]} {side}" and area["list"][0][1].startswith(area["name"])


def test_a_group_of_another_scan_that_is_not_there_gives_way_to_the_first(panel: LesionPanel, decoded) -> None:
    last = run(panel, value("patch", "patch 900"), decoded)[-1]
    assert last["state"] == "done" and last["chosen"] == last["list"][0][0]


def test_a_parcellation_of_one_s_own_can_be_taken_apart(panel: LesionPanel, decoded) -> None:
    own = OwnFiles(parcels={"mine": replace(parcellations.load("yeo17"), name="mine", files=(("m", "1"),))})
    assert panel.groupings(own)[-1] == ["parcels:mine", "parcels of mine"] and len(panel.groupings(NOTHING)) == 3
    assert run(panel, value("parcels:mine"), decoded, own)[-1]["state"] == "done"
    gone = run(panel, value("parcels:mine"), decoded)[-1]
    assert gone["state"] == "error" and "open the file again" in gone["message"] and gone["again"]


@pytest.mark.parametrize(
    ("ssim", "rmse", "told"),
    [
        (0.5, 30, "more than that."),
        (0.7, 20, "no more than that."),
        (0.9, 9, "no more than that."),
        (0.9, 30, "more than that by the error alone."),
        (0.5, 9, "more than that by SSIM alone."),
    ],
)
def test_a_change_is_read_against_another_seed_by_both_measures(panel, decoded, ssim, rmse, told) -> None:
    found, seed = panel.lesions.losses(decoded.window, "yeo7"), Change(0.7, 20.0, 0.4)
    made = Made(found, 0, "film", Change(ssim, rmse, 0.3), Change(1.0, 0.0, 0.4), seed)
    assert f"the lesion changes {told}" in sentences(made)[-1]


# ---------------------------------------------------------------------- what cannot be
def test_before_anything_was_decoded_it_says_so(panel: LesionPanel) -> None:
    update = panel.asked(value(), None, NOTHING, REQUEST)["shown"]
    assert update["state"] == "empty" and update["message"].startswith("Decode a scan first")
    assert told(panel.run(REQUEST)) == []


def test_a_checkpoint_without_a_mean_scan_is_a_sentence(panel: LesionPanel, decoded, monkeypatch) -> None:
    monkeypatch.setattr(type(panel.workspace.decoder), "data", lambda *_: None)
    update = panel.asked(value(), decoded, NOTHING, REQUEST)["shown"]
    assert update["state"] == "error" and "stores no mean training scan" in update["message"]
    assert told(panel.run(REQUEST)) == []


@pytest.mark.parametrize(
    ("error", "said"), [(MindvizError("a file is broken"), "A file is broken"), (OSError("?"), "does not know")]
)
def test_what_fails_is_a_sentence_in_place_of_the_film(panel, decoded, monkeypatch, error, said) -> None:
    def fails(*_):
        raise error

    monkeypatch.setattr(panel.lesions, "losses", fails)
    last = run(panel, value(), decoded)[-1]
    assert last["state"] == "error" and said in last["message"] and last["again"] and last["film"] is None


# ---------------------------------------------------------------------- what is no longer wanted
def test_a_closed_panel_computes_nothing(panel: LesionPanel, decoded, monkeypatch) -> None:
    monkeypatch.setattr(panel.lesions, "losses", lambda *_: pytest.fail("it went to work"))
    assert "shown" not in panel.asked(value(is_open=False), decoded, NOTHING, REQUEST)
    assert told(panel.run(REQUEST)) == []
    assert json.loads(CLOSED)["open"] is False


def test_a_late_answer_never_follows_a_newer_question(panel: LesionPanel, decoded) -> None:
    """The first question is stopped by the second, wherever it is; what it has said is older than what follows."""
    panel.asked(value(ticket=1), decoded, NOTHING, REQUEST)
    first = panel.run(REQUEST)
    early = [next(first), next(first)][-1]["shown"]
    newer = panel.asked(value("patch", ticket=2), decoded, NOTHING, REQUEST)["shown"]
    assert told(first) == [] and newer["ticket"] > early["ticket"] and newer["answers"] > early["answers"]
    last = told(panel.run(REQUEST))[-1]
    assert (last["state"], last["by"], last["answers"]) == ("done", "patch", 2)
    assert told(panel.run(REQUEST)) == [], "it is computed once, whoever else was to begin it"


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (1, 4, 2, 3), (2, 4, 3, 1)])
@pytest.mark.parametrize("begun", ["each after its question", "all at the end"])
def test_of_questions_in_any_order_the_one_of_the_highest_number_is_answered(panel, decoded, order, begun) -> None:
    """As they reach a server that has several threads; each is followed by a run, which knows of no question."""
    kinds = {1: "hcp-mmp", 2: "patch", 3: "yeo7", 4: "patch"}
    runs, said, highest = [], [], 0
    for ticket in order:
        update = panel.asked(value(kinds[ticket], ticket=ticket), decoded, NOTHING, REQUEST)
        assert ("shown" in update) == (ticket > highest), "one that was overtaken says nothing"
        highest = max(highest, ticket)
        runs.append(panel.run(REQUEST))
        if begun == "each after its question":
            said += told([next(runs[-1]), next(runs[-1], {})])
    ended = [told(run) for run in runs]
    answered = [one for one in [*said, *itertools.chain(*ended)] if one["answers"] == 4]
    assert answered[-1]["state"] == "done" and answered[-1]["by"] == "patch"
    assert sum(bool(one) for one in ended) == 1, "nothing else is finished"


def test_what_runs_goes_on_when_an_overtaken_stop_or_closing_arrives(panel: LesionPanel, decoded) -> None:
    panel.asked(value(ticket=5), decoded, NOTHING, REQUEST)
    running = panel.run(REQUEST)
    next(running), next(running)
    assert "shown" not in panel.stopped(value(ticket=3), decoded, NOTHING, REQUEST)
    assert "shown" not in panel.asked(value(is_open=False, ticket=4), decoded, NOTHING, REQUEST)
    assert told(running)[-1]["state"] == "done"


def test_another_scan_and_stop_end_it(panel: LesionPanel, decoded) -> None:
    for end in (
        lambda: panel.asked(value(), None, NOTHING, REQUEST),
        lambda: panel.stopped(value(), decoded, NOTHING, REQUEST),
    ):
        panel.asked(value(), decoded, NOTHING, REQUEST)
        running = panel.run(REQUEST)
        next(running), next(running)
        shown = end()["shown"]
        assert shown["state"] == "empty" and told(running) == []
    assert shown["message"] == "Stopped." and shown["again"] and shown["intact"]


def test_a_stopped_job_ends_within_a_step(panel: LesionPanel, decoded) -> None:
    stop = threading.Event()
    asked = LesionRequest.read(value("patch"), decoded, NOTHING)
    steps = panel.steps(asked, decoded, stop)
    next(steps)
    stop.set()
    with pytest.raises(background.Cancelled):
        list(steps)


def test_two_sessions_do_not_stop_each_other(panel: LesionPanel, decoded) -> None:
    panel.asked(value(), decoded, NOTHING, REQUEST)
    panel.asked(value(), decoded, NOTHING, SimpleNamespace(session_hash="b"))
    assert told(panel.run(REQUEST))[-1]["state"] == "done"


def test_the_page_answers_every_event_of_the_panel(opened) -> None:
    with ui.build(opened) as page:
        config = page.get_config_file()
    view = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "app-lesion")
    tied = [d for d in config["dependencies"] if view in d["outputs"]]
    assert tied and all(d["trigger_mode"] == "multiple" for d in tied)
    queued = [d for d in tied if d["queue"] is not False]
    assert len(queued) == 7, "a choice, the press of Decode, and five events that change what was decoded"
    assert next(c["props"]["value"] for c in config["components"] if c["id"] == view) == lesion_panel.CLOSED
