"""The cortex viewer in a real (software-rendered) Chromium: as an exported page and inside gradio."""

import json

import numpy as np
import pytest
from support.cortex_page import (
    LIMIT_MS,
    WEBGL,
    area_map,
    areas_seen,
    borders,
    coloured,
    drawn_pixels,
    launch,
    near,
    seen_vertices,
    show,
    watched,
)

from mindviz.brain import from_cortex, meshes, parcellations
from mindviz.ui import cortex_view
from mindviz.viewer import payloads
from mindviz.viewer.page import standalone_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(playwright):
    browser = launch(playwright, WEBGL)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    payload = payloads.values_payload(area_map("V1"), "Attention, layer 1", "× uniform", simulated=True)
    path = tmp_path_factory.mktemp("page") / "cortex.html"
    path.write_text(standalone_page(payload, height_px=300), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def module_page(browser, exported):
    page = watched(browser)
    page.emulate_media(reduced_motion="reduce")  # no waiting for the turns
    page.goto(exported.as_uri())
    page.wait_for_function("window.viewer", timeout=LIMIT_MS)
    yield page
    assert page.problems == []
    page.close()


@pytest.fixture
def page(module_page):
    module_page.evaluate(
        "viewer.setSurface('inflated'); viewer.setView('lateral'); viewer.setThreshold(0); viewer.reset();"
        "viewer.setOutlines(''); viewer.setScale('auto'); viewer.setOpacity(1); viewer.page.display.node.open = false"
    )
    show(module_page, area_map("V1"), simulated=True)
    return module_page


def test_the_map_is_drawn_on_grey_cortex_and_says_that_it_is_simulated(page):
    pixels = drawn_pixels(page)
    covered = pixels[..., 3] == 255
    assert 0.3 < covered.mean() < 0.9
    assert 0.005 < coloured(pixels).sum() / covered.sum() < 0.5
    assert page.locator(".mv-badge").is_visible()
    assert page.locator(".mv-title").inner_text() == "Attention, layer 1"
    assert page.locator(".mv-units").inner_text() == "× uniform"
    ticks = page.locator(".mv-ticks span").all_inner_texts()
    assert ticks[0] == "1" and ticks[-1] == "3" and len(ticks) == 5


def test_picking_agrees_with_the_parcellations_and_with_what_is_drawn(page):
    page.evaluate("viewer.setView('medial')")
    seen, drawn = seen_vertices(page), drawn_pixels(page)
    areas, networks, fine = (parcellations.load(name) for name in ("hcp-mmp", "yeo7", "yeo17"))
    in_v1 = (seen >= 0) & areas.mask("V1")[seen]
    yellow = coloured(drawn) & (drawn[..., 0] > drawn[..., 2] + 60)  # the top of viridis
    assert in_v1.sum() > 2000 and (yellow & in_v1).sum() / (yellow | in_v1).sum() > 0.9
    covered = drawn[..., 3] == 255
    assert ((seen >= 0) & ~covered).sum() == 0
    places = np.argwhere(seen >= 0)
    for y, x in places[np.random.default_rng(0).choice(len(places), 12, replace=False)].tolist():
        hit, vertex = page.evaluate("([x, y]) => viewer.at(x, y)", [x, y]), seen[y, x]
        assert hit["side"] == ("left" if parcellations.hemisphere_mask("fsLR-32k")[vertex] else "right")
        assert hit["area"] == areas.names[areas.labels[vertex]]
        assert hit["network"] == networks.names[networks.labels[vertex]]
        assert hit["network17"] == fine.names[fine.labels[vertex]]


@pytest.mark.parametrize(
    ("view", "has", "lacks", "left_first"),
    [
        ("lateral", "PF", "RSC", True),
        ("medial", "RSC", "PF", True),
        ("ventral", "TF", "6d", False),
        ("dorsal", "6d", "TF", True),
        ("posterior", "V1", "10d", True),
    ],
)
def test_each_view_shows_the_side_it_is_named_after(page, view, has, lacks, left_first):
    page.locator(f".mv-roomy >> text={view.capitalize()}").click()
    seen = seen_vertices(page)
    assert has in areas_seen(seen) and lacks not in areas_seen(seen)
    columns = np.broadcast_to(np.arange(seen.shape[1]), seen.shape)
    left = (seen >= 0) & parcellations.hemisphere_mask("fsLR-32k")[seen]
    assert (columns[left].mean() < columns[(seen >= 0) & ~left].mean()) == left_first


def test_new_values_keep_canvas_camera_surface_and_threshold(page):
    page.evaluate("window.before = document.querySelector('.mv-canvas')")
    page.evaluate("viewer.setSurface('pial'); viewer.setThreshold(0.25)")
    page.locator(".mv-canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("+")
    state = "[...viewer.scene.hemispheres.left.group.quaternion, viewer.scene.zoom, viewer.scene.surface, viewer.share]"
    before = page.evaluate(state)
    drawn = drawn_pixels(page)
    show(page, area_map("V2", 5.0), "Attention, layer 2")
    assert page.evaluate(state) == before and before[4:] == [1.25, "pial", 0.25]
    assert page.evaluate("window.before === document.querySelector('.mv-canvas')")
    again = drawn_pixels(page)
    assert np.array_equal(again[..., 3], drawn[..., 3]) and not np.array_equal(again, drawn)
    assert not page.locator(".mv-badge").is_visible()


@pytest.mark.parametrize("surface", ["very_inflated", "pial", "white", "flat", "sphere"])
def test_every_surface_is_drawn_whole(page, surface):
    page.evaluate(f"viewer.setView('posterior'); viewer.setSurface('{surface}'); viewer.drawNow()")
    pixels = drawn_pixels(page)
    covered = np.nonzero((pixels[..., 3] == 255).any(axis=0))[0]
    assert coloured(pixels).sum() > 500
    assert covered.min() > 0 and covered.max() < pixels.shape[1] - 1
    assert page.locator(".mv-roomy >> text=Medial").is_disabled() == (surface == "flat")
    assert surface.replace("_", " ") in page.locator(".mv-canvas").get_attribute("aria-label")


def test_the_threshold_hides_small_values_and_says_where(page):
    show(page, from_cortex(np.linspace(-2, 2, 59412)), "Signed")
    everything = coloured(drawn_pixels(page)).sum()
    page.get_by_label("Threshold").fill("500")
    some = coloured(drawn_pixels(page)).sum()
    assert 0 < some < 0.8 * everything
    assert page.locator(".mv-foot > .mv-field output").inner_text() == "0.99"
    box = page.locator(".mv-bar").bounding_box()
    hidden = page.locator(".mv-hidden").bounding_box()
    assert hidden["width"] == pytest.approx(box["width"] / 2, rel=0.02)
    assert hidden["x"] == pytest.approx(box["x"] + box["width"] / 4, abs=2)


def test_colour_maps_fit_the_kind_of_map(page):
    page.locator(".mv-display summary").click()
    colours = page.get_by_label("Colour map")
    assert colours.input_value() == "viridis" and colours.locator("option").count() >= 2
    first = drawn_pixels(page)
    colours.select_option("magma")
    assert not np.array_equal(drawn_pixels(page), first)
    show(page, from_cortex(np.linspace(-2, 2, 59412)), "Signed")
    assert colours.input_value() == "blue-red" and colours.locator("option").count() >= 2
    show(page, area_map("V1"))
    assert colours.input_value() == "magma"
    page.evaluate("viewer.setColours('viridis')")


@pytest.mark.parametrize("surface", ["inflated", "very_inflated", "pial", "white", "flat", "sphere"])
@pytest.mark.parametrize(("key", "name"), [("network", "yeo7"), ("network17", "yeo17"), ("area", "hcp-mmp")])
def test_outlines_are_drawn_where_labels_differ_and_can_be_seen(page, surface, key, name):
    page.evaluate(f"viewer.setSurface('{surface}')")
    before, seen = drawn_pixels(page), seen_vertices(page)
    page.evaluate(f"viewer.setOutlines('{key}')")
    after = drawn_pixels(page)
    change = np.abs(after - before)[..., :3].max(axis=-1)
    assert np.array_equal(before[..., 3], after[..., 3]) and (change > 40).sum() > 800
    anywhere, on_sheet = borders(seen, parcellations.load(name).labels)
    assert near(anywhere)[change > 40].mean() > 0.97
    assert near(change > 40)[on_sheet].mean() > 0.97
    line = change > 0.7 * np.quantile(change[change > 40], 0.9)
    assert np.median(np.abs(after - before).mean(axis=-1)[line]) > 60  # of 255: dark on light, light on dark
    page.evaluate("viewer.setOutlines('')")
    assert np.array_equal(drawn_pixels(page), before)


def test_the_scale_is_sequential_or_symmetric_as_chosen(page):
    page.locator(".mv-display summary").click()
    bar, first = page.evaluate("viewer.page.foot.bar.style.backgroundImage"), drawn_pixels(page)
    page.get_by_label("Colour scale").select_option("symmetric")
    ticks = page.locator(".mv-ticks span").all_inner_texts()
    assert ticks == ["−3", "−1.5", "0", "1.5", "3"] and page.get_by_label("Colour map").input_value() == "blue-red"
    assert page.evaluate("viewer.page.foot.bar.style.backgroundImage") != bar
    assert not np.array_equal(drawn_pixels(page), first)
    page.get_by_label("Colour scale").select_option("sequential")
    assert np.array_equal(drawn_pixels(page), first)
    values = np.random.default_rng(0).normal(size=59412).astype(np.float32)
    show(page, from_cortex(values), "Signed")
    np.testing.assert_allclose(page.evaluate("viewer.scale.limits"), np.percentile(values, [1, 99]), rtol=1e-4)
    assert page.get_by_label("Colour map").input_value() == "viridis"


def test_opacity_lets_the_folds_show_through(page):
    whole = drawn_pixels(page)
    page.evaluate("viewer.setOpacity(0.5)")
    half = drawn_pixels(page)
    page.evaluate("viewer.setOpacity(0)")
    bare = drawn_pixels(page)
    assert coloured(bare).sum() == 0
    mapped = coloured(whole)
    between = (half >= np.minimum(whole, bare) - 2) & (half <= np.maximum(whole, bare) + 2)
    assert between[mapped].all() and not np.array_equal(half, whole)
    page.evaluate("viewer.setValues(null)")
    assert np.array_equal(drawn_pixels(page), bare)


def test_the_morph_is_eased_short_and_ends_at_the_exact_coordinates(page):
    page.emulate_media(reduced_motion="no-preference")
    page.evaluate("viewer.animations.still = false")  # as with a graphics chip
    shares = page.evaluate(
        """() => { let now = 1000; performance.now = () => now; viewer.setSurface("sphere"); const shares = [];
        while (viewer.animations.size && now < 3000) { now += 16; viewer.drawNow();
          shares.push(viewer.animations.size ? viewer.scene.shared.morph.value : 1); }
        delete performance.now; return shares; }"""
    )
    page.evaluate("viewer.animations.still = true")
    page.emulate_media(reduced_motion="reduce")
    assert 200 < 16 * len(shares) <= 300 and (np.diff(shares) > 0).all()
    assert shares[0] < 0.06 and shares[-1] - shares[-2] < 0.06 < max(np.diff(shares))
    for side in ("left", "right"):
        shape = f"viewer.scene.hemispheres.{side}.shape.attributes"
        true = getattr(meshes.surface("fsLR-32k", "sphere"), side).coordinates
        centred = true - (true.max(0) + true.min(0)) / 2
        assert page.evaluate("viewer.scene.shared.morph.value") == 0
        found = np.reshape(page.evaluate(f"[...{shape}.position.array]"), (-1, 3))
        assert np.abs(found - centred).max() < 0.01
    after = drawn_pixels(page)
    page.evaluate("viewer.setSurface('pial'); viewer.setSurface('sphere')")  # without motion: a jump
    assert page.evaluate("viewer.animations.size") == 0 and np.array_equal(drawn_pixels(page), after)


def test_display_settings_survive_another_map(page):
    page.evaluate("viewer.setOutlines('network'); viewer.setScale('symmetric'); viewer.setOpacity(0.6)")
    page.evaluate("viewer.setColours('purple-orange'); viewer.setSurface('white')")
    show(page, area_map("V2", 5.0), "Attention, layer 2")
    chosen = (
        "Object.values(viewer.page.display).filter((c) => 'value' in c && c.tagName !== 'OUTPUT').map((c) => c.value)"
    )
    assert page.evaluate(chosen) == ["network", "symmetric", "purple-orange", "60"]
    label = page.locator(".mv-canvas").get_attribute("aria-label")
    assert "white surface" in label and "Outlines of Yeo-7 networks." in label and "V2 left 5" in label
    assert page.evaluate("viewer.scene.hemispheres.left.mesh.material === viewer.scene.outlined")
    page.evaluate("viewer.setColours('blue-red')")


def test_the_keyboard_reaches_every_display_setting(page):
    active = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    assert not page.locator(".mv-popover").is_visible()
    page.evaluate("viewer.setOutlines('network')")  # without outlines there is nothing to name
    page.get_by_label("Threshold").focus()
    page.keyboard.press("Tab")
    if page.locator(".mv-about").is_visible():  # where the width leaves no room for the keys below
        assert page.evaluate(active) == "Keys and sources"
        page.keyboard.press("Tab")
    assert page.evaluate(active) == "Display"
    page.keyboard.press("Enter")
    for name in ("Outlines", "Names of parcels", "Colour scale", "Colour map", "Opacity of the map"):
        page.keyboard.press("Tab")
        assert page.evaluate(active) == name
        assert page.evaluate("document.activeElement.closest('label').title.length > 10")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".mv-popover output").inner_text() == "95%"
    page.keyboard.press("Escape")
    assert page.evaluate(active) == "Display" and not page.locator(".mv-popover").is_visible()


@pytest.mark.parametrize("width", [360, 420, 1280])
def test_the_popover_covers_neither_cortex_nor_colour_bar_nor_the_edge(page, width):
    page.set_viewport_size({"width": width, "height": 720})
    page.locator(".mv-display summary").click()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # its room
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    popover, bar, stage, below = (
        page.locator(f".mv-{n}").bounding_box() for n in ("popover", "bar", "stage", "summary")
    )
    beside = popover["x"] >= stage["x"] + stage["width"] and popover["y"] + popover["height"] <= bar["y"]
    under = popover["y"] >= bar["y"] + bar["height"] and popover["y"] + popover["height"] <= below["y"]
    assert beside if width == 1280 else under
    assert popover["x"] >= 0 and popover["x"] + popover["width"] <= width
    assert popover["y"] >= 0 and popover["y"] + popover["height"] <= 720, "it is brought into sight"
    cut = "[...document.querySelectorAll('.mv-popover *')].filter((n) => n.scrollWidth > n.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    page.locator(".mv-canvas").click(position={"x": 5, "y": 5})
    assert not page.locator(".mv-popover").is_visible()
    page.set_viewport_size({"width": 960, "height": 600})


def test_hovering_names_area_network_hemisphere_and_value(page):
    page.evaluate("viewer.setView('medial')")
    seen = seen_vertices(page)
    y, x = np.argwhere((seen >= 0) & parcellations.load("hcp-mmp").mask("L_V1")[seen])[1000].tolist()
    box = page.locator(".mv-canvas").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    tooltip = page.locator(".mv-tooltip")
    tooltip.wait_for(state="visible")
    text = tooltip.inner_text()
    assert "V1, left hemisphere" in text and "Visual network (Vis" in text and "3 × uniform" in text
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    tooltip.wait_for(state="hidden")


def test_the_text_alternative_names_the_strongest_areas(page):
    summary = page.locator(".mv-summary")
    assert summary.get_attribute("aria-live") == "polite"
    text = summary.inner_text()
    assert text.startswith("Strongest areas (× uniform): V1 ") and "V1 left 3" in text and "V1 right 3" in text
    label = page.locator(".mv-canvas").get_attribute("aria-label")
    assert text in label and "lateral view" in label and "Simulated data" in label


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(np.nan, "This map has no values"), (2.5, "This map is constant: all 59,412 values are 2.5")],
)
def test_maps_that_show_nothing_are_drawn_with_a_sentence(page, value, sentence):
    show(page, from_cortex(np.full(59412, value)))
    assert sentence in page.locator(".mv-message").inner_text()
    pixels = drawn_pixels(page)
    assert (pixels[..., 3] == 255).mean() > 0.3
    assert coloured(pixels).any() == np.isfinite(value)
    show(page, area_map("V1"))
    assert not page.locator(".mv-message").is_visible()


def test_a_map_of_another_mesh_is_refused_with_a_sentence(page):
    show(page, from_cortex(np.zeros(20484), "fsaverage5"))
    assert "The map is on fsaverage5, the cortex shown is fsLR-32k." in page.locator(".mv-message").inner_text()
    assert (drawn_pixels(page)[..., 3] == 255).mean() > 0.3


def test_without_webgl_there_is_a_message_and_the_text(playwright, exported):
    browser = launch(playwright, ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"])
    page = watched(browser, "dark")
    page.goto(exported.as_uri())
    page.wait_for_function("window.viewer", timeout=LIMIT_MS)
    assert "WebGL 2 is not available" in page.locator(".mv-message").inner_text()
    assert "V1 left 3" in page.locator(".mv-summary").inner_text()
    page.locator(".mv-roomy >> text=Medial").click()
    page.keyboard.press("ArrowRight")
    assert page.problems == []
    browser.close()


@pytest.mark.slow
def test_inside_gradio_an_update_changes_the_colours_only(browser):
    import gradio as gr

    def draw(layer):
        surface_map = area_map(f"V{int(layer)}")
        return payloads.values_payload(surface_map, f"Attention, layer {int(layer)}", simulated=True)

    with gr.Blocks() as demo:
        cortex = cortex_view.viewer_html(height_px=260)
        layer = gr.Number(1, label="Layer")
        layer.change(draw, layer, cortex, show_progress="hidden")
        demo.load(draw, layer, cortex, show_progress="hidden")
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        page = watched(browser)
        page.goto(address)
        page.wait_for_function(
            "document.querySelector('.mv-title')?.textContent === 'Attention, layer 1'", timeout=LIMIT_MS
        )
        find = "[...document.querySelectorAll('#cortex *')].find((node) => node.viewer).viewer"
        page.evaluate(f"window.viewer = {find}; window.before = document.querySelector('.mv-canvas')")
        assert coloured(drawn_pixels(page)).sum() > 300
        page.evaluate("viewer.setView('dorsal'); viewer.setThreshold(0.3)")
        page.locator("input[type=number]").fill("2")
        page.locator("input[type=number]").blur()
        page.wait_for_function("document.querySelector('.mv-title').textContent === 'Attention, layer 2'")
        assert page.evaluate("window.before === document.querySelector('.mv-canvas') && before.isConnected")
        assert page.evaluate("[viewer.view, viewer.share, viewer.stats.updates]") == ["dorsal", 0.3, 2]
        assert json.loads(page.evaluate("JSON.stringify(viewer.map.limits)")) == [1, 3]
        assert page.problems == []
        page.close()
    finally:
        demo.close()
