"""The cortex viewer in a real (software-rendered) Chromium: as an exported page and inside gradio."""

import base64
import json
import shutil

import numpy as np
import pytest

from mindviz.brain import Projection, from_cortex, meshes, parcellations
from mindviz.ui import viewer

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
WEBGL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
LIMIT_MS = 60_000


def _launch(playwright, flags):
    return playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


@pytest.fixture(scope="module")
def browser(playwright):
    browser = _launch(playwright, WEBGL)
    yield browser
    browser.close()


def _area_map(names, value=3.0):
    areas = parcellations.load("hcp-mmp")
    vertices = np.flatnonzero(areas.mask(["V1", "V2", "V3", "V4"]))
    values = np.where(areas.mask(names)[vertices], value, 1.0)
    return Projection(vertices).to_surface(values)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    payload = viewer.values_payload(_area_map("V1"), "Attention, layer 1", "× uniform", simulated=True)
    path = tmp_path_factory.mktemp("page") / "cortex.html"
    path.write_text(viewer.standalone_page(payload, height_px=300), encoding="utf-8")
    return path


def _watched(browser, scheme="light"):
    """A page that remembers its errors and every request that leaves the machine."""
    page = browser.new_page(viewport={"width": 960, "height": 600}, color_scheme=scheme)
    page.set_default_timeout(LIMIT_MS)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: _note_request(page.problems, request.url))
    return page


def _note_request(problems, url):
    if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "http://localhost:")):
        problems.append(url)


@pytest.fixture(scope="module")
def module_page(browser, exported):
    page = _watched(browser)
    page.emulate_media(reduced_motion="reduce")  # no waiting for the turns
    page.goto(exported.as_uri())
    page.wait_for_function("window.viewer", timeout=LIMIT_MS)
    yield page
    assert page.problems == []
    page.close()


@pytest.fixture
def page(module_page):
    module_page.evaluate(
        "viewer.setSurface('inflated'); viewer.setView('lateral'); viewer.setThreshold(0); viewer.reset()"
    )
    _show(module_page, _area_map("V1"), simulated=True)
    return module_page


def _show(page, surface_map, title="Attention, layer 1", units="× uniform", simulated=False):
    page.evaluate("p => viewer.setValues(p)", viewer.values_payload(surface_map, title, units, simulated=simulated))


def _pixels(page):
    """The drawn canvas as (height, width, rgba)."""
    data, width, height = page.evaluate(
        """() => { viewer.drawNow(); const gl = viewer.scene.renderer.getContext();
        const w = gl.drawingBufferWidth, h = gl.drawingBufferHeight, data = new Uint8Array(4 * w * h);
        gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
        let text = ""; for (const byte of data) text += String.fromCharCode(byte);
        return [btoa(text), w, h]; }"""
    )
    return _image(data, height, width)


def _coloured(pixels):
    return (pixels[..., :3].max(axis=-1) - pixels[..., :3].min(axis=-1) > 30) & (pixels[..., 3] == 255)


def _seen(page):
    """Which cortical vertex is seen at each pixel (height, width), -1 for none: all of the picking drawn at once."""
    data, width, height = page.evaluate(
        """() => { viewer.drawNow(); viewer.at(0, 0); const s = viewer.scene, { width, height } = s.size;
        s.pickTarget.setSize(width, height); s.renderer.setRenderTarget(s.pickTarget);
        s.renderer.render(s.pickScene, s.camera);
        const data = new Uint8Array(4 * width * height);
        s.renderer.readRenderTargetPixels(s.pickTarget, 0, 0, width, height, data);
        s.renderer.setRenderTarget(null); s.pickTarget.setSize(1, 1);
        let text = ""; for (const byte of data) text += String.fromCharCode(byte);
        return [btoa(text), width, height]; }"""
    )
    red, green, blue, side = np.moveaxis(_image(data, height, width), -1, 0)
    left, right = meshes.cortex_index("fsLR-32k")
    number = np.full(2 * 32492, -1)
    number[left], number[32492 + right] = np.arange(left.size), left.size + np.arange(right.size)
    vertex = number[np.where(side >= 254, red + 256 * green + 65536 * blue + 32492 * (side == 255), 0)]
    return np.where(side >= 254, vertex, -1)


def _image(data, height, width):
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[::-1].astype(int)


def _areas_seen(seen):
    areas = parcellations.load("hcp-mmp")
    return {areas.names[label] for label in np.unique(areas.labels[seen[seen >= 0]])}


def test_the_map_is_drawn_on_grey_cortex_and_says_that_it_is_simulated(page):
    pixels = _pixels(page)
    covered = pixels[..., 3] == 255
    assert 0.3 < covered.mean() < 0.9
    assert 0.005 < _coloured(pixels).sum() / covered.sum() < 0.5
    assert page.locator(".mv-badge").is_visible()
    assert page.locator(".mv-title").inner_text() == "Attention, layer 1"
    assert page.locator(".mv-units").inner_text() == "× uniform"
    ticks = page.locator(".mv-ticks span").all_inner_texts()
    assert ticks[0] == "1" and ticks[-1] == "3" and len(ticks) == 5


def test_picking_agrees_with_the_parcellations_and_with_what_is_drawn(page):
    page.evaluate("viewer.setView('medial')")
    seen, drawn = _seen(page), _pixels(page)
    areas, networks, fine = (parcellations.load(name) for name in ("hcp-mmp", "yeo7", "yeo17"))
    in_v1 = (seen >= 0) & areas.mask("V1")[seen]
    yellow = _coloured(drawn) & (drawn[..., 0] > drawn[..., 2] + 60)  # the top of viridis
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
    seen = _seen(page)
    assert has in _areas_seen(seen) and lacks not in _areas_seen(seen)
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
    drawn = _pixels(page)
    _show(page, _area_map("V2", 5.0), "Attention, layer 2")
    assert page.evaluate(state) == before and before[4:] == [1.25, "pial", 0.25]
    assert page.evaluate("window.before === document.querySelector('.mv-canvas')")
    again = _pixels(page)
    assert np.array_equal(again[..., 3], drawn[..., 3]) and not np.array_equal(again, drawn)
    assert not page.locator(".mv-badge").is_visible()


@pytest.mark.parametrize("surface", ["very_inflated", "pial", "flat"])
def test_every_surface_is_drawn_whole(page, surface):
    page.evaluate(f"viewer.setSurface('{surface}'); viewer.drawNow()")
    pixels = _pixels(page)
    covered = np.nonzero((pixels[..., 3] == 255).any(axis=0))[0]
    assert _coloured(pixels).sum() > 500
    assert covered.min() > 0 and covered.max() < pixels.shape[1] - 1
    assert page.locator(".mv-roomy >> text=Medial").is_disabled() == (surface == "flat")
    assert surface.replace("_", " ") in page.locator(".mv-canvas").get_attribute("aria-label")


def test_the_threshold_hides_small_values_and_says_where(page):
    _show(page, from_cortex(np.linspace(-2, 2, 59412)), "Signed")
    everything = _coloured(_pixels(page)).sum()
    page.locator("input[type=range]").fill("500")
    some = _coloured(_pixels(page)).sum()
    assert 0 < some < 0.8 * everything
    assert page.locator(".mv-field output").inner_text() == "0.99"
    box = page.locator(".mv-bar").bounding_box()
    hidden = page.locator(".mv-hidden").bounding_box()
    assert hidden["width"] == pytest.approx(box["width"] / 2, rel=0.02)
    assert hidden["x"] == pytest.approx(box["x"] + box["width"] / 4, abs=2)


def test_colour_maps_fit_the_kind_of_map(page):
    assert page.locator(".mv-foot select").input_value() == "viridis"
    first = _pixels(page)
    page.locator(".mv-foot select").select_option("magma")
    assert not np.array_equal(_pixels(page), first)
    _show(page, from_cortex(np.linspace(-2, 2, 59412)), "Signed")
    assert page.locator(".mv-foot select").input_value() == "blue-red"
    _show(page, _area_map("V1"))
    assert page.locator(".mv-foot select").input_value() == "magma"
    page.evaluate("viewer.setColours('viridis')")


def test_hovering_names_area_network_hemisphere_and_value(page):
    page.evaluate("viewer.setView('medial')")
    seen = _seen(page)
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
    _show(page, from_cortex(np.full(59412, value)))
    assert sentence in page.locator(".mv-message").inner_text()
    pixels = _pixels(page)
    assert (pixels[..., 3] == 255).mean() > 0.3
    assert _coloured(pixels).any() == np.isfinite(value)
    _show(page, _area_map("V1"))
    assert not page.locator(".mv-message").is_visible()


def test_a_map_of_another_mesh_is_refused_with_a_sentence(page):
    _show(page, from_cortex(np.zeros(20484), "fsaverage5"))
    assert "The map is on fsaverage5, the cortex shown is fsLR-32k." in page.locator(".mv-message").inner_text()
    assert (_pixels(page)[..., 3] == 255).mean() > 0.3


def test_without_webgl_there_is_a_message_and_the_text(playwright, exported):
    browser = _launch(playwright, ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"])
    page = _watched(browser, "dark")
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
        surface_map = _area_map(f"V{int(layer)}")
        return viewer.values_payload(surface_map, f"Attention, layer {int(layer)}", simulated=True)

    with gr.Blocks() as demo:
        cortex = viewer.viewer_html(height_px=260)
        layer = gr.Number(1, label="Layer")
        layer.change(draw, layer, cortex, show_progress="hidden")
        demo.load(draw, layer, cortex, show_progress="hidden")
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        page = _watched(browser)
        page.goto(address)
        page.wait_for_function(
            "document.querySelector('.mv-title')?.textContent === 'Attention, layer 1'", timeout=LIMIT_MS
        )
        find = "[...document.querySelectorAll('#cortex *')].find((node) => node.viewer).viewer"
        page.evaluate(f"window.viewer = {find}; window.before = document.querySelector('.mv-canvas')")
        assert _coloured(_pixels(page)).sum() > 300
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
