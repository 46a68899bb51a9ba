"""What is told of a place of the cortex, and what a map can be compared with: against loops over the scans."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mindviz.attribution.methods import METHODS
from mindviz.brain import meshes, parcellations
from mindviz.session import map_choice, map_names, time_courses
from mindviz.session.map_request import MapRequest
from mindviz.session.own_files import NOTHING
from mindviz.session.scans import Scans
from mindviz.session.time_courses import Courses, Place, driving_clips, region, told
from mindviz.types import MindvizError, SamplingSettings
from mindviz.ui import brain_panel, places
from mindviz.viewer import payloads

RECEIVED = map_choice.choose("received", 1, 2)


def place_of(workspace, column: int, outlines: str = "", subject: str = "1") -> Place:
    vertex = int(workspace.dataset.run(subject, "test1").vertices[column])
    left, right = meshes.cortex_index("fsLR-32k")
    if vertex < left.size:
        return Place("left", int(left[vertex]), outlines)
    return Place("right", int(right[vertex - left.size]), outlines)


@pytest.fixture
def fresh(monkeypatch):
    """Nothing is remembered of other tests."""
    time_courses.courses_of.cache_clear()
    yield
    time_courses.courses_of.cache_clear()


# ------------------------------------------------------------------------------------------- which voxels
@pytest.mark.parametrize("column", [0, 40, 319])
def test_a_vertex_stands_for_its_voxel(workspace, column):
    found = region(workspace, "1", place_of(workspace, column))
    assert found.columns.tolist() == [column]
    areas = parcellations.load("hcp-mmp")
    label = areas.labels[workspace.dataset.run("1", "test1").vertices[column]]
    assert found.title.startswith(areas.names[label] or place_of(workspace, column).side)
    assert found.title.endswith(f"hemisphere, voxel {column + 1}")


@pytest.mark.parametrize(("key", "name"), [("network", "yeo7"), ("network17", "yeo17"), ("area", "hcp-mmp")])
def test_a_parcel_stands_for_its_voxels_of_one_hemisphere(workspace, key, name):
    vertices = workspace.dataset.run("1", "test1").vertices
    parcels = parcellations.load(name)
    column = int(np.flatnonzero(parcels.labels[vertices])[5])
    found = region(workspace, "1", place_of(workspace, column, key))
    labels = parcels.by_hemisphere().labels[vertices]
    assert found.columns.tolist() == np.flatnonzero(labels == labels[column]).tolist()
    assert parcels.names[parcels.labels[vertices[column]]] in found.title


def test_a_patch_stands_for_what_the_encoder_sees_as_one(workspace):
    size = workspace.decoder.encoder_config("1").patch_size
    found = region(workspace, "1", place_of(workspace, 2 * size + 3, "patch"))
    assert found.columns.tolist() == list(range(2 * size, 3 * size)) and found.title.startswith("Patch 3,")
    np.testing.assert_array_equal(workspace.patches("1"), workspace.explainer("1").patches())


def test_a_place_without_a_voxel_is_a_sentence(workspace, fresh):
    left = meshes.cortex_index("fsLR-32k")[0]
    wall = int(np.setdiff1d(np.arange(32492), left)[0])
    unseen = int(left[np.setdiff1d(np.arange(left.size), workspace.dataset.run("1", "test1").vertices)[0]])
    answers = [told(workspace, Scans("1", "test1", 3), RECEIVED, Place("left", vertex)) for vertex in (wall, unseen)]
    assert "medial wall" in answers[0]["message"] and "sees 320 of 59,412 vertices" in answers[1]["message"]
    for wrong in (("middle", 3, ""), ("left", -1, ""), ("left", 3, "lobes")):
        with pytest.raises(MindvizError, match="expected a vertex"):
            Place(*wrong)


# ---------------------------------------------------------------------------------------- what is told
def test_the_courses_are_the_map_and_the_bold_of_every_scan(workspace, fresh):
    column, run = 17, workspace.dataset.run("1", "test1")
    known = time_courses.courses_of(workspace)
    assert known.lacking("1", "test1", RECEIVED)
    known.fill("1", "test1", RECEIVED, around=3)
    assert not known.lacking("1", "test1", RECEIVED)
    found = told(workspace, Scans("1", "test1", 3), RECEIVED, place_of(workspace, column))
    explainer = workspace.explainer("1")
    expected = [
        explainer.map(workspace.dataset.window("1", "test1", i), "received", 1, 2).values[column] for i in range(12)
    ]
    np.testing.assert_allclose(found["map"]["values"], expected, rtol=2e-3)
    np.testing.assert_allclose(found["bold"]["values"], run.bold[:, column], rtol=2e-3)
    assert (found["scan"], found["tr"], found["lag"], found["size"]) == (3, 2.0, 2, 2)
    assert found["bold"]["units"] == "z" and found["map"]["units"] == METHODS["received"].units
    assert found["map"]["note"] == ""


@pytest.mark.parametrize("control", ["uniform", "untrained"])
def test_a_cheap_map_less_its_control_over_the_run(workspace, fresh, control):
    choice, decoded = (
        map_choice.choose("rollout", control=control),
        workspace.decode("1", "test1", 5, SamplingSettings(1)),
    )
    known = Courses(workspace)
    known.fill("1", "test1", choice, around=0)
    expected = workspace.attribution(decoded, choice).values
    np.testing.assert_allclose(known.known("1", "test1", choice)[5], expected, atol=1e-5)


def test_an_expensive_map_is_told_of_the_scans_that_were_drawn_only(workspace, fresh):
    decoded = workspace.decode("1", "test1", 4, SamplingSettings(1))
    brain_panel.payload(workspace, decoded, MapRequest.read("lesion_patch"))
    choice = map_choice.choose("lesion_patch")
    known = time_courses.courses_of(workspace)
    assert not known.lacking("1", "test1", choice)
    found = told(workspace, Scans("1", "test1", 4), choice, place_of(workspace, 17))["map"]
    assert [i for i, value in enumerate(found["values"]) if value is not None] == [4]
    assert found["note"] == "Lesion of a patch takes long: known only for the 1 of 12 scans drawn so far."


def test_it_is_said_whether_more_is_being_computed(workspace, fresh):
    choice, place = map_choice.choose("rollout"), place_of(workspace, 17)
    time_courses.courses_of(workspace).known("1", "test1", choice)[:, :] = np.nan
    said = [
        time_courses.told(workspace, Scans("1", "test1", 4), choice, place, goes_on=on)["map"]["note"]
        for on in (True, False)
    ]
    assert said[0] == "Known for 0 of 12 scans so far; more are being computed."
    assert said[1] == "Known for 0 of 12 scans so far; another click here computes more."


def test_filling_stops_when_patience_ends_and_goes_on_later(workspace, monkeypatch):
    monkeypatch.setattr(time_courses, "PATIENCE_S", 0.0)
    known = Courses(workspace)
    known.fill("1", "test1", RECEIVED, around=6)
    assert np.flatnonzero(np.isfinite(known.known("1", "test1", RECEIVED)[:, 0])).tolist() == [6]
    monkeypatch.setattr(time_courses, "PATIENCE_S", 60.0)
    known.fill("1", "test1", RECEIVED, around=6)
    assert np.isfinite(known.known("1", "test1", RECEIVED)).all()


def test_the_clips_that_drive_a_voxel_share_no_volume(workspace):
    bold = workspace.dataset.run("1", "test1").bold[:, [30]].mean(axis=1)
    means = {k: float(bold[k + 2 : k + 4].mean()) for k in range(9)}  # the last windows reach past the end
    found = driving_clips(workspace, "1", "test1", np.array([30]))
    assert found[0][0] == max(means, key=means.__getitem__)
    for i, (index, mean) in enumerate(found):
        assert mean == pytest.approx(means[index], abs=1e-6)
        free = [k for k in means if all(abs(k - other) >= 2 for other, _ in found[:i])]
        assert index == max(free, key=means.__getitem__)
    assert len(found) == 3


def test_a_known_run_is_told_quickly_and_as_json(workspace, fresh):
    time_courses.courses_of(workspace).fill("1", "test1", RECEIVED, 0)
    asked = ("1", "test1", 0, "received", 1, 2, "", -1, NOTHING, "")
    text = places._answer(workspace, place_of(workspace, 3), asked)
    assert json.loads(text)["sheet"].startswith("data:image/jpeg;base64,") and "NaN" not in text


# ---------------------------------------------------------------------------------------- comparisons
@pytest.fixture
def decoded(workspace):
    return workspace.decode("1", "test1", 3, SamplingSettings(1, 1.0, 0))


@pytest.mark.parametrize(
    ("other", "titles"),
    [
        ("layer:0", ["Layer 2 · Attention received", "Layer 1 · Attention received"]),
        ("layer:-1", ["Layer 2 · Attention received", "All layers · Attention received"]),
        ("method:rollout", ["Attention received", "Attention rollout"]),
        ("control:uniform", ["Attention received", "Attention received less its mean"]),
        ("stage:untrained", ["Full model · Attention received", "Untrained encoder · Attention received"]),
        ("subject:2", ["Subject 1 · Attention received", "Subject 2 · Attention received"]),
    ],
)
def test_a_map_stands_beside_another(workspace, decoded, other, titles):
    assert other in {value for _, value in map_names.others(workspace, "1", "received")}
    request = MapRequest.read("received", 1, other=other)
    both = json.loads(brain_panel.payload(workspace, decoded, request))["maps"]
    assert [one["title"] for one in both] == titles and all(one["simulated"] for one in both)
    assert both[0]["values"] != both[1]["values"] and not both[1]["message"]
    choice, subject = map_names.changed(request, "1")
    expected = workspace.map_of(workspace.dataset.window(subject, "test1", 3), choice).values
    alone = payloads.values_payload(
        workspace.surface_map(subject, workspace_map(expected), ""), "", signed=choice.signed
    )
    assert json.loads(alone)["values"] == both[1]["values"] and both[1]["units"] == choice.units


def workspace_map(values):
    from mindviz.types import AttentionMap

    return AttentionMap(values, -1, -1, "full", "received")


def test_a_comparison_that_cannot_be_is_a_sentence_on_bare_cortex(workspace, decoded):
    # the activation pattern is known of the first subject alone
    second = json.loads(brain_panel.payload(workspace, decoded, MapRequest.read("pattern", other="subject:2")))["maps"][
        1
    ]
    assert "expected activation patterns of subject 2" in second["message"] and second["values"] == ""
    with pytest.raises(MindvizError, match="a comparison is with"):
        brain_panel.payload(workspace, decoded, MapRequest.read(other="colour:red"))
    with pytest.raises(MindvizError, match="need one mesh"):
        one = payloads.missing_payload("fsLR-32k", "a", "b")
        payloads.pair_payload(one, payloads.missing_payload("fsaverage5", "a", "b"))


def test_a_pattern_stands_as_it_is_beside_a_map_less_its_control(workspace, decoded):
    for control in map_choice.CONTROL_NAMES:
        with pytest.raises(MindvizError, match="an activation pattern has no control"):
            map_choice.choose("pattern", control=control)
    request = MapRequest.read("rollout", control="uniform", other="method:pattern")
    choice, subject = map_names.changed(request, "1")
    assert (choice.method, choice.control, subject) == ("pattern", "", "1")
    both = json.loads(brain_panel.payload(workspace, decoded, request))["maps"]
    assert both[1]["title"] == METHODS["pattern"].name and both[1]["values"] and not both[1]["message"]


def test_what_has_no_layers_controls_or_stages_is_not_compared_by_them(workspace):
    kinds = {value.partition(":")[0] for _, value in map_names.others(workspace, "1", "pattern")}
    assert kinds == {"", "method", "subject"}
    assert "layer" not in {value.partition(":")[0] for _, value in map_names.others(workspace, "1", "rollout")}


def test_the_caution_of_a_map_less_a_control_says_what_zero_is():
    assert map_choice.choose("rollout").caution("Said.") == "Said."
    assert map_choice.choose("rollout", control="shuffled").caution("Said.") == (
        "Said. Zero is its control: the same map of scans whose voxels were exchanged between scans."
    )


def test_patches_travel_by_mesh_vertex(workspace):
    sent = json.loads(map_names.patches(workspace, "1"))
    import base64

    labels = np.frombuffer(base64.b64decode(sent["labels"]), "<u2")
    vertices, size = workspace.dataset.run("1", "test1").vertices, workspace.decoder.encoder_config("1").patch_size
    left, right = meshes.cortex_index("fsLR-32k")
    by_vertex = np.concatenate([labels[:32492][left], labels[32492:][right]])
    np.testing.assert_array_equal(by_vertex[vertices], np.arange(320) // size + 1)
    assert (np.delete(by_vertex, vertices) == 0).all() and sent["count"] == -(-320 // size)
    with pytest.raises(MindvizError, match="one patch below"):
        payloads.patches_payload(vertices, np.zeros(3, int))
