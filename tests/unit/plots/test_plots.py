"""Figures show the map; files are complete; bad input gives a message."""

import numpy as np
import pytest
from PIL import Image

from mindviz.brain import Projection, from_cortex, parcellations
from mindviz.plots import network_bars, network_means, plot_cortex, plot_networks, save_figure
from mindviz.plots.cortex import scale_of
from mindviz.plots.stages import StagePanel, plot_stages
from mindviz.types import MindvizError, SurfaceMap


def _area_map(names, value=2.0):
    areas = parcellations.load("hcp-mmp")
    vertices = np.flatnonzero(areas.mask(names))
    return Projection(vertices).to_surface(np.full(vertices.size, value) + np.linspace(0, 0.1, vertices.size))


def _colourful(path):
    rgb = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return rgb.max(axis=2) - rgb.min(axis=2) > 30  # pixels that are not grey


def test_the_whole_caution_is_below_the_colour_bar_and_covers_nothing(tmp_path):
    said = (
        "Attention is not importance: "
        + "it tells which patches of cortex the encoder mixed. " * 5
        + "Zero is the mean."
    )
    plain, figure = (plot_cortex(_area_map(["V1"]), "V1", "a.u.", dpi=60, caution=text) for text in ("", said))
    text = next(t for t in figure.texts if "importance" in t.get_text())
    assert text.get_text().replace("\n", " ") == said.strip()
    figure.canvas.draw()
    box, page = text.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0
    bar = figure.axes[-1].get_tightbbox()
    assert box.y1 <= bar.y0, "below the units of the colour bar"
    for ending in (".png", ".svg"):
        save_figure(figure, tmp_path / f"map{ending}")
    assert "Zero is the mean." in (tmp_path / "map.svg").read_text()
    sizes = [axes.get_position().height * whole.get_figheight() for whole in (plain, figure) for axes in whole.axes[:1]]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01), "the cortex keeps its size"


def _stages(caution):
    one = _area_map(["V1"])
    networks = parcellations.load("yeo7")
    bars = np.ones(7), np.tile([0.9, 1.1], (7, 1))
    panel = StagePanel("Full model", "layer 1", one, networks.names[1:], networks.colors[1:], *bars)
    return plot_stages([[panel]], "a.u.", "Attention", True, dpi=40, caution=caution)


@pytest.mark.parametrize("draw", [_stages, lambda said: plot_networks(_area_map(["V1"]), "yeo7", "By", "a", said)])
def test_every_figure_of_a_map_carries_its_caution_without_covering_anything(draw, tmp_path):
    said = "Attention is not importance: " + "it tells which patches the encoder mixed. " * 4 + "No $ is a formula $."
    plain, figure = draw(""), draw(said)
    text = next(t for t in figure.texts if "importance" in t.get_text())
    assert text.get_text().replace("\n", " ").replace("\\$", "$") == said
    figure.draw_without_rendering()
    box, page = text.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0
    assert all(box.y1 <= axes.get_tightbbox().y0 for axes in figure.axes if axes.axison)
    assert figure.get_figheight() > plain.get_figheight() and figure.get_figwidth() == plain.get_figwidth()
    path = save_figure(figure, tmp_path / "figure.svg").read_text()
    assert "No $ is a formula $." in " ".join(path.split())


def test_the_plotly_bars_carry_the_caution_too():
    bars = network_bars(_area_map(["V1"]), caution="Attention < importance. " * 9)
    (said,) = bars.layout.annotations
    assert said.text.count("&lt;") == 9 and "<br>" in said.text and bars.layout.margin.b > 100
    assert not network_bars(_area_map(["V1"])).layout.annotations


def test_v1_is_drawn_at_the_occipital_end_of_the_medial_views(tmp_path):
    figure = plot_cortex(_area_map(["V1"]), "V1", "a.u.", simulated=True, dpi=60)
    shown = _colourful(save_figure(figure, tmp_path / "v1.png"))
    height, width = shown.shape
    medial = shown[int(0.5 * height) : int(0.87 * height)]
    columns = np.nonzero(medial)[1]
    assert columns.size > 100
    # medial view: the occipital pole is at the left end of the left hemisphere and the right end of the right one
    assert (columns < 0.25 * width).any() and (columns > 0.75 * width).any()
    assert not medial[:, int(0.3 * width) : int(0.7 * width)].any()
    assert "simulated data" in figure.get_suptitle()


def test_a_threshold_hides_smaller_values(tmp_path):
    hidden = _colourful(save_figure(plot_cortex(_area_map(["V1"]), threshold=5.0, dpi=40), tmp_path / "hidden.png"))
    assert not hidden[: int(0.87 * len(hidden))].any()


def test_svg_keeps_text_as_text(tmp_path):
    path = save_figure(plot_networks(_area_map(["V1"]), "yeo7", "By network", "a.u."), tmp_path / "bars.svg")
    assert "By network" in path.read_text() and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("fill", "note"), [(np.nan, "no values"), (1.5, "constant: 1.5")])
def test_empty_and_constant_maps_are_drawn_with_a_note(fill, note, tmp_path):
    figure = plot_cortex(from_cortex(np.full(59412, fill)), surface="flat", dpi=40)
    assert note in figure.get_suptitle()
    painted = _colourful(save_figure(figure, tmp_path / "flat.png"))[30:100]
    assert painted.any() == np.isfinite(fill)


def test_scale_is_symmetric_for_values_of_both_signs():
    scale = scale_of(np.array([-1.0, 3.0, np.nan]), threshold=2)
    assert scale.signed and scale.limits[0] == -scale.limits[1] == pytest.approx(-3, rel=0.05)
    assert scale.visible(np.array([-2.5, 0.5, 2.5, np.nan])).tolist() == [True, False, True, False]
    assert scale_of(np.array([1.0, 3.0]), signed=True).limits[0] < 0  # a difference that is nowhere negative
    assert scale_of(np.zeros(3), signed=True).limits == (-1, 1)


def test_network_means_match_a_loop():
    values = np.random.default_rng(0).standard_normal(59412).astype(np.float32)
    values[:20000] = np.nan
    networks = parcellations.load("yeo17")
    found = network_means(from_cortex(values), "yeo17")
    for i, name in enumerate(found.names):
        inside = values[(networks.labels == i + 1) & np.isfinite(values)]
        assert found.counts[i] == inside.size and found.means[i] == pytest.approx(inside.mean(), abs=1e-5), name


def test_a_network_without_voxels_has_no_mean_and_no_bar():
    surface_map = _area_map(["V1"])
    found = network_means(surface_map)
    assert found.names[0] == "Visual" and 2 <= found.means[0] <= 2.1
    assert np.isnan(found.means[found.names.index("Default")])
    bars = network_bars(surface_map).data[0]
    assert bars.y[found.names.index("Default")] is None and bars.marker.color[0] == "#781285"
    texts = [text.get_text().strip() for text in plot_networks(surface_map).axes[0].texts]
    assert texts.count("no voxels") == int((found.counts == 0).sum()) > 0


def test_bad_input_is_refused_with_a_clear_message(tmp_path):
    with pytest.raises(MindvizError, match=r"ends in .png, .svg, .pdf, found .bmp"):
        save_figure(plot_networks(_area_map(["V1"])), tmp_path / "x.bmp")
    with pytest.raises(MindvizError, match="left hemisphere"):
        plot_cortex(SurfaceMap(np.zeros(3), np.zeros(3), "fsLR-32k"))
    with pytest.raises(MindvizError, match="fsLR-32k only"):
        network_means(SurfaceMap(np.zeros(10242), np.zeros(10242), "fsaverage5"))
    assert list(tmp_path.iterdir()) == []
