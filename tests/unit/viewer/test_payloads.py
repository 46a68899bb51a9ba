"""What the viewer is sent: decoded here again, independently of its script."""

import base64
import gzip
import json

import numpy as np
import pytest

from mindviz.brain import Projection, from_cortex, meshes, parcellations
from mindviz.types import MindvizError, SurfaceMap
from mindviz.viewer import geometry, payloads
from mindviz.viewer.page import standalone_page


def _unpack(payload):
    data = gzip.decompress(payload)
    size = int(np.frombuffer(data[:4], "<u4")[0])
    header = json.loads(data[4 : 4 + size])
    arrays = {
        key: np.frombuffer(data, info["dtype"], info["length"], 4 + size + info["offset"])
        for key, info in header["arrays"].items()
    }
    return header, arrays


@pytest.mark.parametrize("mesh", meshes.MESHES)
def test_geometry_keeps_every_surface_to_a_hundredth_of_a_millimetre(mesh):
    header, arrays = _unpack(geometry.geometry_payload(mesh))
    assert header["surfaces"][0]["name"] == "inflated" and header["vertices"] == meshes.hemisphere_vertices(mesh)
    for side in ("left", "right"):
        for name in ("inflated", "pial", "white", "sphere"):
            key = f"{side}/{name}"
            points = arrays[key].reshape(-1, 3) * header["arrays"][key]["scale"]
            true = getattr(meshes.surface(mesh, name), side).coordinates
            offset = (true - points).mean(axis=0)
            assert np.abs(true - points - offset).max() < 0.01
            assert np.abs(points.max(axis=0) + points.min(axis=0)).max() < 0.02  # centred
        faces = arrays[f"{side}/faces"].reshape(-1, 3)
        rows = lambda a: set(map(tuple, a.tolist()))  # noqa: E731
        assert rows(faces) == rows(getattr(meshes.surface(mesh, "pial"), side).faces)
        flat = faces[: header["arrays"][f"{side}/faces"]["flat"] // 3]
        assert rows(flat) == rows(getattr(meshes.surface(mesh, "flat"), side).faces)


@pytest.mark.parametrize(("mesh", "megabytes"), [("fsLR-32k", 2.8), ("fsaverage5", 0.9)])
def test_geometry_has_every_surface_that_the_packages_ship(mesh, megabytes):
    payload = geometry.geometry_payload(mesh)
    header, arrays = _unpack(payload)
    names = [surface["name"] for surface in header["surfaces"]]
    assert set(names) == set(meshes.SURFACES[mesh]) - {"midthickness"} and {"white", "flat", "sphere"} < set(names)
    assert all(arrays[f"{side}/{name}"].size == 3 * header["vertices"] for side in ("left", "right") for name in names)
    white, pial = (arrays[f"left/{name}"] * header["arrays"][f"left/{name}"]["scale"] for name in ("white", "pial"))
    apart = np.linalg.norm((white - pial).reshape(-1, 3), axis=1)
    assert 1 < np.median(apart) < 5  # the thickness of cortex, in mm
    assert len(payload) < megabytes * 1e6


def test_geometry_names_the_area_and_networks_of_each_vertex():
    header, arrays = _unpack(geometry.geometry_payload())
    left, right = meshes.cortex_index("fsLR-32k")
    for key, name in (("area", "hcp-mmp"), ("network", "yeo7"), ("network17", "yeo17")):
        expected = parcellations.load(name)
        assert tuple(header["parcellations"][key]["names"]) == expected.names
        found = np.concatenate([arrays[f"left/{key}"][left], arrays[f"right/{key}"][right]])
        np.testing.assert_array_equal(found, expected.labels)


def test_values_travel_exactly_and_only_where_there_are_any():
    rng = np.random.default_rng(0)
    vertices = rng.choice(59412, 700, replace=False)
    surface_map = Projection(vertices).to_surface(rng.random(700).astype(np.float32) + 1)
    payload = payloads.values_payload(surface_map, "a <b> title", "× uniform", simulated=True)
    sent = json.loads(payload)
    both = np.concatenate([surface_map.left, surface_map.right])
    mask = np.unpackbits(np.frombuffer(base64.b64decode(sent["mask"]), np.uint8), bitorder="little").astype(bool)
    values = np.full(both.size, np.nan, np.float32)
    values[mask[: both.size]] = np.frombuffer(base64.b64decode(sent["values"]), "<f4")
    np.testing.assert_array_equal(values, both)
    assert sent["simulated"] is True and sent["signed"] is False and sent["message"] == ""
    assert 1 <= sent["limits"][0] < sent["limits"][1] <= 2 and len(payload) < 20_000


@pytest.mark.parametrize(
    ("values", "message", "limits"),
    [
        (np.full(59412, np.nan), "no values", [0, 1]),
        (np.full(59412, np.inf), "no values", [0, 1]),
        (np.full(59412, 2.5), "all 59,412 values are 2.5", [2.5, 2.5]),
        (np.linspace(-1, 3, 59412), "", [-2.9604, 2.9604]),
    ],
)
def test_limits_and_the_sentence_for_maps_that_show_nothing(values, message, limits):
    sent = json.loads(payloads.values_payload(from_cortex(values), "t"))
    assert message in sent["message"] and bool(sent["message"]) == bool(message)
    np.testing.assert_allclose(sent["limits"], limits, rtol=0.02)


def test_bad_maps_and_limits_are_one_clear_sentence():
    with pytest.raises(MindvizError, match="left hemisphere"):
        payloads.values_payload(SurfaceMap(np.zeros(9), np.zeros(9), "fsLR-32k"), "t")
    with pytest.raises(MindvizError, match="need to increase"):
        payloads.values_payload(from_cortex(np.arange(59412.0)), "t", limits=(2.0, 2.0))
    with pytest.raises(MindvizError, match="unknown mesh"):
        geometry.geometry_payload("native")


def test_geometry_is_written_once(tmp_path):
    path = geometry.geometry_file("fsaverage5", tmp_path)
    first = path.stat().st_mtime_ns
    assert geometry.geometry_file("fsaverage5", tmp_path) == path and path.stat().st_mtime_ns == first
    assert path.read_bytes() == geometry.geometry_payload("fsaverage5") and list(tmp_path.iterdir()) == [path]


def test_a_standalone_page_names_no_other_place():
    payload = payloads.values_payload(from_cortex(np.arange(59412.0)), "</script><b>")
    page = standalone_page(payload, "fsLR-32k", page_title="<x>")
    assert "&lt;x&gt;" in page and "</script><b>" not in page
    assert "src=" not in page and "href=" not in page and "@import" not in page
