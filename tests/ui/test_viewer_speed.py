"""What makes the cortex viewer quick without a graphics chip, what it shows meanwhile, its keys; in Chromium."""

import numpy as np
import pytest
from support.cortex_page import LIMIT_MS, WEBGL, area_map, drawn_pixels, launch, seen_vertices, watched

from mindviz.viewer import payloads
from mindviz.viewer.page import standalone_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(playwright, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "cortex.html"
    path.write_text(standalone_page(payloads.values_payload(area_map("V1"), "V1"), height_px=300))
    browser = launch(playwright, WEBGL)
    page = watched(browser)
    page.goto(path.as_uri())
    page.wait_for_function("window.viewer", timeout=LIMIT_MS)
    yield page
    assert page.problems == []
    browser.close()


@pytest.mark.parametrize("surface", ["inflated", "pial", "flat", "sphere"])
@pytest.mark.parametrize("turn", [None, (0.7, 0.4)])
def test_leaving_out_what_is_turned_away_changes_no_pixel_and_no_pick(page, surface, turn):
    page.evaluate(f"viewer.setView('posterior'); viewer.setSurface('{surface}')")
    if turn:
        page.evaluate("([right, down]) => viewer.turnBy(right, down)", list(turn))
    drawn, seen = drawn_pixels(page), seen_vertices(page)
    kept, whole = page.evaluate("(({ count, whole }) => [count, whole.count])(viewer.scene.hemispheres.left.facing)")
    assert page.evaluate("viewer.scene.software") and 0 < kept < (whole if surface == "flat" else 0.7 * whole)
    page.evaluate("viewer.scene.culls = false")
    everything, all_seen = drawn_pixels(page), seen_vertices(page)
    page.evaluate("viewer.scene.culls = true")
    assert np.array_equal(drawn, everything) and np.array_equal(seen, all_seen)


def test_two_maps_and_outlines_are_drawn_whole_as_well(page):
    both = payloads.pair_payload(*(payloads.values_payload(area_map(name), name) for name in ("V1", "V2")))
    page.evaluate("p => { viewer.setValues(p); viewer.setOutlines('area'); }", both)
    drawn = drawn_pixels(page)
    page.evaluate("viewer.scene.culls = false")
    assert np.array_equal(drawn, drawn_pixels(page))
    page.evaluate("viewer.scene.culls = true; viewer.setOutlines('')")
    page.evaluate("p => viewer.setValues(p)", payloads.values_payload(area_map("V1"), "V1"))


def test_another_surface_is_there_at_once_and_was_made_ready_before(page):
    page.wait_for_function("Object.keys(viewer.scene.cache).filter((key) => !key.includes('outlines')).length === 12")
    page.evaluate("viewer.setSurface('inflated'); viewer.setView('lateral'); viewer.drawNow()")
    draws, moving = page.evaluate(
        "(() => { const before = viewer.stats.draws; viewer.setSurface('white');"
        " const moving = viewer.animations.size; viewer.drawNow(); return [viewer.stats.draws - before, moving]; })()"
    )
    assert (draws, moving) == (1, 0)


def test_the_share_that_is_done_is_told_without_being_read_out_at_every_step(page):
    busy = page.locator(".mv-busy")
    page.evaluate("viewer.setBusy({ text: 'Computing: a lesion', share: null })")
    assert busy.is_visible() and "%" not in busy.inner_text() and busy.locator("button").count() == 0
    spoken = page.evaluate_handle("viewer.page.busy.node.querySelector('[role=status]').firstChild")
    page.evaluate("viewer.setBusy({ text: 'Computing: a lesion', share: 0.42 })")
    assert "42% · 0 s" in busy.inner_text()
    assert page.locator(".mv-busy [role=progressbar]").get_attribute("aria-valuenow") == "42"
    assert page.evaluate("(node) => node.isConnected", spoken), "what is read out did not change"
    page.evaluate("viewer.setBusy(null)")
    assert not busy.is_visible()


def test_the_keys_turn_zoom_and_choose_a_view(page):
    state = "[...viewer.scene.hemispheres.left.group.quaternion, viewer.scene.zoom, viewer.share, viewer.view]"
    page.evaluate("viewer.setSurface('inflated'); viewer.setView('lateral'); viewer.reset(); viewer.setThreshold(0)")
    page.locator(".mv-canvas").focus()
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-", "]", "[", "2", "0"):
        before = page.evaluate(state)
        page.keyboard.press(key)
        assert page.evaluate(state) != before or key == "0", key
    assert page.evaluate("viewer.view") == "medial"
    page.keyboard.press("m")  # nobody listens in a page of its own
    assert "M chooses" not in page.locator(".mv-credit").text_content()
