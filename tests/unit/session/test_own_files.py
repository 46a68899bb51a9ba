"""Maps and parcellations that a person opens in the app: what they become, what is refused, what is written of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from support.brain_files import dlabel, write_func

from mindviz.brain import cortex_index, from_cortex, parcellations, to_cortex, write_gifti
from mindviz.brain.files.cifti_maps import write_dscalar
from mindviz.session import map_export, map_names, own_files, time_courses
from mindviz.session.map_request import MapRequest
from mindviz.session.own_files import NOTHING, opened
from mindviz.types import MindvizError, SamplingSettings
from mindviz.ui import brain_panel, places

MESH = "fsLR-32k"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    surface = from_cortex(np.linspace(-1, 2, 59412, dtype=np.float32))
    write_gifti(surface, folder, "mine")
    write_dscalar(surface, folder / "mine.dscalar.nii")
    dlabel(folder / "nets.dlabel.nii", parcellations.load("yeo7"))
    return folder


@pytest.fixture
def decoded(workspace):
    return workspace.decode("1", "test1", 3, SamplingSettings(1, 1.0, 3))


def test_both_hemispheres_are_one_map_and_a_parcellation_a_method(files):
    pair = [files / f"mine_hemi-{side}.func.gii" for side in "LR"]
    own, value = opened(NOTHING, pair, MESH)
    assert value == "own:mine_hemi-L.func.gii + mine_hemi-R.func.gii"
    assert [v for _, v in own.others()] == [value] and own.others()[0][0].startswith("Your map: mine_hemi-L")
    np.testing.assert_allclose(to_cortex(own.map(value)[1]), np.linspace(-1, 2, 59412), atol=1e-6)
    both, method = opened(own, [files / "nets.dlabel.nii"], MESH)
    assert both.methods() == [("Lesion of a parcel (nets.dlabel.nii)", method)] and both.maps == own.maps
    choice = both.choice(method, 2, 1, "uniform", 0)
    assert (choice.method, choice.parcels.name, choice.layer, choice.position) == (
        "lesion_area",
        "nets.dlabel.nii",
        -1,
        -1,
    )
    assert choice.parcels is both.parcels["nets.dlabel.nii"] and NOTHING.choice("lesion_area").parcels is None
    assert (NOTHING.maps, NOTHING.parcels) == ({}, {}), "another session has none of it"


def test_a_session_keeps_few(files):
    own = NOTHING
    for i in range(own_files.MOST + 2):
        path = files / f"again{i}.dscalar.nii"
        path.write_bytes((files / "mine.dscalar.nii").read_bytes())
        own, value = opened(own, [path], MESH)
    assert len(own.maps) == own_files.MOST and own.others()[-1][1] == value
    with pytest.raises(MindvizError, match=r"again0\.dscalar\.nii: no such map is open"):
        own.map("own:again0.dscalar.nii")
    with pytest.raises(MindvizError, match="gone: no such parcellation is open"):
        own.choice("parcels:gone")


def test_what_is_refused_names_no_folder_of_the_server(files, tmp_path, monkeypatch):
    (tmp_path / "bad.func.gii").write_text("nothing")
    (tmp_path / "some.txt").write_text("nothing")
    (tmp_path / "packed.func.gii.gz").write_bytes(b"")
    left = write_func(tmp_path / "lh.func.gii", np.zeros(10242, np.float32), side="Left")
    told = {
        (tmp_path / "bad.func.gii",): "bad.func.gii: expected a GIFTI file",
        (tmp_path / "some.txt",): "some.txt: expected a map .* or a parcellation",
        (tmp_path / "packed.func.gii.gz",): "found a name that ends otherwise",
        (left,): "lh.func.gii: expected a map on fsLR-32k, the mesh of these scans, found one on fsaverage5",
        (files / "mine.dscalar.nii", files / "nets.dlabel.nii"): "found a parcellation",
        (): "found none",
    }
    for paths, said in told.items():
        with pytest.raises(MindvizError, match=said) as refused:
            opened(NOTHING, paths, MESH)
        assert str(tmp_path) not in str(refused.value) and str(files) not in str(refused.value)
    monkeypatch.setattr(own_files, "MAX_BYTES", 2**18)
    with pytest.raises(MindvizError, match=r"mine\.dscalar\.nii: expected at most"):
        opened(NOTHING, [files / "mine.dscalar.nii"], MESH)


def test_names_are_shown_as_far_as_they_can_be():
    assert own_files.shown_name("a\x00b\u202ec.annot") == "a?b?c.annot"
    long = own_files.shown_name("x" * 300 + ".dscalar.nii")
    assert len(long) == 60 and long.endswith(".dscalar.nii") and "…" in long


def test_a_map_stands_beside_any_other_and_is_named_in_the_record(workspace, decoded, files, tmp_path):
    named = tmp_path / "</script><b>$x$.dscalar.nii".replace("/", "")
    named.write_bytes((files / "mine.dscalar.nii").read_bytes())
    own, value = opened(NOTHING, [named], MESH)
    assert (f"Your map: {named.name}", value) in map_names.others(workspace, "1", "received", own)
    request = MapRequest.read("rollout", position=1, own=own, other=value)
    sent = brain_panel.payload(workspace, decoded, request)
    first, second = json.loads(sent)["maps"]
    assert first["title"] == "Attention rollout, second scan of the window"
    assert second["title"] == f"Your map: {named.name}" and second["simulated"] is False and first["simulated"] is True
    told = json.loads(map_export.export_map(workspace, decoded, tmp_path / "map", request).read_text())
    assert told["beside"] == {"file": named.name} and told["map"]["position"] == 1
    page = (tmp_path / "map" / "map.html").read_text()
    assert named.name not in page and "\\u003cscript>\\u003cb>$x$" in page


def answer(workspace, place, request):
    """What is told of a place of scan 3."""
    choice = request.choice
    method = f"parcels:{choice.parcels.name}" if choice.parcels else choice.method
    asked = ("1", "test1", 3, method, choice.layer, choice.head, choice.control, choice.position, request.own, "")
    return json.loads(places._answer(workspace, place, asked))


def test_a_parcellation_is_lesioned_by_and_kept_apart_from_its_namesake(workspace, decoded, files, tmp_path):
    own, method = opened(NOTHING, [files / "nets.dlabel.nii"], MESH)
    request = MapRequest.read(method, own=own)
    shown = json.loads(brain_panel.payload(workspace, decoded, request))
    assert shown["title"] == "Lesion of a parcel (nets.dlabel.nii)"
    values = np.frombuffer(base64.b64decode(shown["values"]), "<f4")
    expected = workspace.map_of(decoded.window, request.choice).values
    order = np.argsort(workspace.dataset.run("1", "test1").vertices)
    expected = expected[order]
    np.testing.assert_allclose(values, expected[np.isfinite(expected)], atol=1e-6)
    known, choice = time_courses.courses_of(workspace), request.choice
    assert np.isfinite(known.known("1", "test1", choice)[3]).sum() == len(values)
    (tmp_path / "nets.dlabel.nii").write_bytes(dlabel_bytes(tmp_path))
    other, _ = opened(NOTHING, [tmp_path / "nets.dlabel.nii"], MESH)
    assert np.isnan(known.known("1", "test1", other.choice(method))).all()
    vertex = int(workspace.dataset.run("1", "test1").vertices[0])
    left = cortex_index(MESH)[0]
    place = time_courses.Place("left", int(left[vertex]))
    said = answer(workspace, place, request)["map"]
    assert said["note"].startswith("Lesion of a parcel (nets.dlabel.nii) takes long: known only for the 1 of 12")
    path = map_export.zip_map(workspace, decoded, tmp_path, request)
    assert path.name.endswith("_lesion-area_parcels-nets.dlabel.nii.zip")
    told = json.loads(map_export.export_map(workspace, decoded, tmp_path / "map", request).read_text())
    assert told["map"]["parcellation"] == "nets.dlabel.nii" and "$" not in told["map"]["label"]
    assert [set(file) for file in told["map"]["parcellation_files"]] == [{"file", "sha256"}]
    assert "method:lesion_area" in {value for _, value in map_names.others(workspace, "1", method, own)}


def dlabel_bytes(folder: Path) -> bytes:
    path = folder / "other.dlabel.nii"
    dlabel(path, parcellations.load("yeo17"))
    return path.read_bytes()


def test_one_scan_of_the_window_counts_for_the_map_and_its_course(workspace, decoded):
    shown = [json.loads(brain_panel.payload(workspace, decoded, MapRequest.read(position=i))) for i in (-1, 0, 1)]
    assert [s["title"].partition(", ")[2] for s in shown] == [
        "",
        *(f"{n} scan of the window" for n in ("first", "second")),
    ]
    assert len({s["values"] for s in shown}) == 3
    vertices = workspace.dataset.run("1", "test1").vertices
    place = time_courses.Place("left", int(cortex_index(MESH)[0][int(vertices[0])]))
    known = time_courses.courses_of(workspace)
    for i in (0, 1):
        choice = NOTHING.choice("received", position=i)
        known.fill("1", "test1", choice, 3)
        told = answer(workspace, place, MapRequest.read(position=i))["map"]
        expected = workspace.maps("1", "test1", np.arange(12), choice)[:, 0]
        np.testing.assert_allclose(told["values"], expected, rtol=1e-3)
