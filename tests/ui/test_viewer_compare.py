"""Two maps side by side, names of parcels, patches of the encoder, and what is told of a place, in an exported page."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.cortex_page import LIMIT_MS, WEBGL, area_map, coloured, drawn_pixels, launch, near, show, watched

from mindviz.brain import Projection, from_cortex, meshes, parcellations
from mindviz.viewer import payloads
from mindviz.viewer.page import standalone_page

pytestmark = pytest.mark.browser
AREAS = parcellations.load("hcp-mmp")
VOXELS = np.flatnonzero(AREAS.mask(["V1", "V2", "V3", "V4"]))
CAUTION = "Attention is not <importance>. Zero is its control: the mean of the map over all voxels."


def pair(first="V1", second="V2", value=3.0, units="× uniform", other_units="× uniform"):
    one = payloads.values_payload(area_map(first), f"Left {first}", units, simulated=True)
    return payloads.pair_payload(one, payloads.values_payload(area_map(second, value), f"Right {second}", other_units))


@pytest.fixture(scope="module")
def module_page(playwright, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "cortex.html"
    patches = payloads.patches_payload(VOXELS, np.arange(VOXELS.size) // 32)
    path.write_text(standalone_page(pair(), height_px=300, caution=CAUTION, patches=patches), encoding="utf-8")
    browser = launch(playwright, WEBGL)
    page = watched(browser)
    page.emulate_media(reduced_motion="reduce")
    page.goto(path.as_uri())
    page.wait_for_function("window.viewer", timeout=LIMIT_MS)
    yield page
    assert page.problems == []
    browser.close()


@pytest.fixture
def page(module_page):
    module_page.evaluate(
        "viewer.setSurface('inflated'); viewer.setView('medial'); viewer.setThreshold(0); viewer.reset();"
        "viewer.setOutlines(''); viewer.setNames(false); viewer.setCommonScale(true); viewer.setScale('auto');"
        "viewer.close(); viewer.options.onPick = viewer.options.onClose = viewer.options.onScan = undefined"
    )
    return module_page


def halves(pixels):
    middle = pixels.shape[1] // 2
    return pixels[:, :middle], pixels[:, middle:]


# --------------------------------------------------------------------------------------------- two maps
def test_two_maps_stand_side_by_side_in_an_exported_page(page):
    page.evaluate("p => viewer.setValues(p)", pair())
    left, right = halves(drawn_pixels(page))
    assert np.array_equal(left[..., 3], right[..., 3]), "one camera: both show the same cortex"
    assert coloured(left).any() and coloured(right).any() and not np.array_equal(left, right)
    assert page.locator(".mv-pane-title").all_inner_texts() == ["Left V1", "Right V2"]
    assert page.locator(".mv-bar").count() == 2 and page.locator(".mv-badge").is_visible()
    assert page.locator(".mv-units").all_inner_texts() == ["× uniform"] * 2
    assert "Left V1, beside it Right V2" in page.locator(".mv-canvas").get_attribute("aria-label")
    assert page.locator(".mv-caution").inner_text() == CAUTION


def test_camera_surface_and_threshold_are_shared(page):
    page.evaluate("p => viewer.setValues(p)", pair())
    before = drawn_pixels(page)
    page.locator(".mv-canvas").focus()
    page.keyboard.press("ArrowRight")
    page.evaluate("viewer.setSurface('pial')")
    left, right = halves(drawn_pixels(page))
    assert np.array_equal(left[..., 3], right[..., 3]) and not np.array_equal(
        before[..., 3][:, : left.shape[1]], left[..., 3]
    )
    page.evaluate("viewer.setSurface('inflated'); viewer.setView('medial')")
    whole = [coloured(half).sum() for half in halves(drawn_pixels(page))]
    page.evaluate("viewer.setThreshold(0.5)")
    some = [coloured(half).sum() for half in halves(drawn_pixels(page))]
    assert all(0 < few < many for few, many in zip(some, whole, strict=True))


def test_the_same_map_twice_is_drawn_the_same_and_each_pane_answers_for_its_own(page):
    page.evaluate("p => viewer.setValues(p)", pair("V1", "V1"))
    left, right = halves(drawn_pixels(page))
    assert (np.abs(left - right).max(axis=-1) > 8).mean() < 1e-3, "the same picture, but for rounding of places"
    page.evaluate("p => viewer.setValues(p)", pair("V1", "V1", value=5.0))
    y, x = np.argwhere(coloured(left) & (left[..., 0] > left[..., 2] + 60))[200].tolist()
    one, two = (page.evaluate("([x, y]) => viewer.at(x, y)", [x + shift, y]) for shift in (0, left.shape[1]))
    assert (one["pane"], two["pane"]) == (0, 1) and (one["value"], two["value"]) == (3, 5)
    assert (one["side"], one["vertex"]) == (two["side"], two["vertex"])


def test_one_scale_is_a_choice_where_units_agree(page):
    page.evaluate("p => viewer.setValues(p)", pair(value=5.0))
    box = page.get_by_label("One scale for both maps")
    assert page.evaluate("viewer.scales.map((s) => s.limits)") == [[1, 5], [1, 5]]
    first = halves(drawn_pixels(page))[0]
    page.locator(".mv-display summary").click()
    box.uncheck()
    assert page.evaluate("viewer.scales.map((s) => s.limits)") == [[1, 3], [1, 5]]
    assert not np.array_equal(halves(drawn_pixels(page))[0], first)
    box.check()
    page.evaluate("p => viewer.setValues(p)", pair(value=5.0, other_units="share"))
    assert box.is_disabled() and page.evaluate("viewer.scales.map((s) => s.limits)") == [[1, 3], [1, 5]]
    page.evaluate("viewer.page.display.node.open = false")


def test_a_map_that_could_not_be_made_is_a_sentence_beside_the_other(page):
    one = payloads.values_payload(area_map("V1"), "There")
    missing = payloads.missing_payload("fsLR-32k", "Not there", "The encoder before contrast has no read-out.")
    page.evaluate("p => viewer.setValues(p)", payloads.pair_payload(one, missing))
    left, right = halves(drawn_pixels(page))
    assert coloured(left).any() and not coloured(right).any() and (right[..., 3] == 255).any()
    assert page.locator(".mv-message").all_inner_texts() == ["", "The encoder before contrast has no read-out."]
    show(page, area_map("V1"))
    assert page.locator(".mv-pane").count() == 1 and page.locator(".mv-bar").count() == 1


# ------------------------------------------------------------------------------------- names and patches
def test_strongest_areas_of_an_image_weigh_its_voxels_not_the_vertices_in_them(page):
    """V1's first voxel fills many vertices and is weak, its other ones fill one each: an area's mean is of voxels."""
    areas = parcellations.load("hcp-mmp")
    left = np.flatnonzero(areas.mask(["V1"]) & (np.arange(59412) < meshes.cortex_index("fsLR-32k")[0].size))
    values, counted = np.full(59412, np.nan), np.zeros(59412)
    values[left], values[left[:20]], counted[left[:20]], counted[left[-1]] = 1.0, 7.0, 1, 1
    whole = from_cortex(values)
    once = from_cortex(counted)
    show(page, replace(whole, counted=np.concatenate([once.left, once.right]) == 1))
    assert page.locator(".mv-summary").inner_text().startswith(f"Strongest areas (× uniform): V1 left {141 / 21:.3g}")
    show(page, whole)
    mean = values[left].mean()
    assert page.locator(".mv-summary").inner_text().startswith(f"Strongest areas (× uniform): V1 left {mean:.3g}")


@pytest.mark.parametrize("key", ["network", "area"])
def test_names_stand_on_their_parcels_without_overlap(page, key):
    show(page, from_cortex(np.linspace(0, 1, 59412)))
    page.evaluate(f"viewer.setOutlines('{key}')")
    page.locator(".mv-display summary").click()
    page.get_by_label("Names of parcels").check()
    page.evaluate("viewer.page.display.node.open = false")
    page.wait_for_function("viewer.scene.size.width === 928")  # the drawing has its room back
    # At one moment: a frame that is drawn later may place them anew.
    canvas, boxes, names = page.evaluate(
        """() => {
            viewer.drawNow(); viewer.names.place();
            const box = (node) => node.getBoundingClientRect().toJSON();
            const written = [...document.querySelectorAll(".mv-names span")].filter((node) => node.checkVisibility());
            return [box(document.querySelector(".mv-canvas")), written.map(box), written.map((node) => node.innerText)];
        }"""
    )
    assert 4 <= len(names) <= (12 if key == "area" else 14)
    for box, name in zip(boxes, names, strict=True):
        middle = [box["x"] + box["width"] / 2 - canvas["x"], box["y"] + box["height"] / 2 - canvas["y"]]
        assert page.evaluate("([x, y]) => viewer.at(x, y)", middle)[key] == name
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = (a["x"] >= b["x"] + b["width"], b["x"] >= a["x"] + a["width"])
            assert any(apart) or a["y"] >= b["y"] + b["height"] or b["y"] >= a["y"] + a["height"]


def test_only_the_strongest_areas_are_named_and_names_go_with_the_outlines(page):
    show(page, area_map("V1"))
    page.evaluate("viewer.setOutlines('area'); viewer.setNames(true); viewer.drawNow(); viewer.names.place()")
    assert set(page.locator(".mv-names span").all_inner_texts()) <= {"V1", "V2", "V3", "V4"}
    assert "V1" in page.locator(".mv-names span").all_inner_texts()
    page.evaluate("viewer.setOutlines('')")
    assert not page.locator(".mv-names").is_visible()
    assert page.get_by_label("Names of parcels").is_disabled()


def test_borders_of_patches_lie_between_patches(page):
    show(page, Projection(VOXELS).to_surface(np.ones(VOXELS.size) + (np.arange(VOXELS.size) > 5)))
    page.evaluate("viewer.setView('posterior')")
    before = drawn_pixels(page)
    page.evaluate("viewer.setOutlines('patch')")
    change = np.abs(drawn_pixels(page) - before)[..., :3].max(axis=-1) > 40
    assert change.sum() > 300
    assert near(coloured(before), 4)[change].mean() > 0.97, "no border where the encoder sees nothing"
    labels = page.evaluate("[...viewer.geometry.arrays['left/patch']]")
    expected = np.zeros(32492, int)
    left = meshes.cortex_index("fsLR-32k")[0]
    held = VOXELS[: np.searchsorted(VOXELS, left.size)]
    expected[left[held]] = np.arange(held.size) // 32 + 1
    np.testing.assert_array_equal(labels, expected)


def test_an_empty_parcellation_is_a_sentence(page):
    nothing = payloads.patches_payload(VOXELS, np.full(VOXELS.size, -1))
    show(page, area_map("V1"))
    page.evaluate("p => viewer.setPatches(p)", nothing)
    page.evaluate("viewer.setOutlines('patch')")
    assert "no border to draw" in page.locator(".mv-message").inner_text()
    page.evaluate("p => viewer.setPatches(p)", payloads.patches_payload(VOXELS, np.arange(VOXELS.size) // 32))
    assert not page.locator(".mv-message").is_visible()


# --------------------------------------------------------------------------------- what is told of a place
def told(side, vertex, scan=3, known=None):
    values = [1 + 0.1 * i for i in range(12)]
    return {
        "message": "",
        "side": side,
        "vertex": vertex,
        "title": "V1, left hemisphere, voxel 7",
        "run": "test1",
        "scan": scan,
        "tr": 2.0,
        "lag": 2,
        "size": 2,
        "map": {"name": "Attention", "units": "× uniform", "values": values if known is None else known, "note": ""},
        "bold": {"name": "BOLD", "units": "z", "values": values[::-1]},
        "clips": [{"scan": i, "bold": 2.0 - i} for i in (0, 4, 8)],
        "sheet": "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
    }


def pick(page):
    """Click on V1 and answer as the app does; what was asked and what is shown."""
    show(page, area_map("V1"))
    page.evaluate(
        "window.asked = []; window.chosen = []; viewer.options.onPick = (p) => asked.push(p);"
        "viewer.options.onClose = () => asked.push('closed'); viewer.options.onScan = (s) => chosen.push(s); 0"
    )
    pixels = drawn_pixels(page)
    y, x = np.argwhere(coloured(pixels) & (pixels[..., 0] > pixels[..., 2] + 60))[300].tolist()
    hit = page.evaluate("([x, y]) => viewer.at(x, y)", [x, y])
    page.locator(".mv-canvas").click(position={"x": x, "y": y})
    assert page.evaluate("asked") == [{"side": hit["side"], "vertex": hit["vertex"], "outlines": ""}]
    return hit


def test_a_click_tells_two_courses_marks_the_scan_and_escape_closes_it(page):
    hit = pick(page)
    assert page.locator(".mv-detail").is_visible() and page.locator(".mv-mark").is_visible()
    page.evaluate("t => viewer.setDetail(t)", json.dumps(told(hit["side"], hit["vertex"])))
    plot = page.locator(".mv-plot")
    points = page.evaluate("[...document.querySelectorAll('path.mv-line')].map((p) => p.getPointAtLength(0).y)")
    assert len(points) == 2 and points[0] > points[1], "the one rises, the other falls"
    named = page.locator(".mv-axis-name").all_text_contents()
    assert named == ["Attention (× uniform)", "BOLD (z)"] and "(s)" in plot.text_content()
    said = plot.get_attribute("aria-label")
    assert "lowest 1 at 0 s, highest 2.1 at 22 s, 1.3 at scan 3" in said and "1.6 4 s after it" in said
    width, left = page.evaluate(
        "(({ width, x }) => [width, x].map((v) => v.baseVal.value))(document.querySelector('.mv-plot rect.mv-now'))"
    )
    axis = page.evaluate(
        "(({ x1, x2 }) => [x1, x2].map((v) => v.baseVal.value))(document.querySelector('.mv-plot > line.mv-axis'))"
    )
    assert (left - axis[0]) / (axis[1] - axis[0]) == pytest.approx(3 / 12, abs=0.01)
    assert width / (axis[1] - axis[0]) == pytest.approx(1 / 12, abs=0.01)
    page.keyboard.press("Escape")
    assert not page.locator(".mv-detail").is_visible() and page.evaluate("asked.at(-1)") == "closed"
    page.evaluate("t => viewer.setDetail(t)", json.dumps(told(hit["side"], hit["vertex"])))
    assert not page.locator(".mv-detail").is_visible(), "an answer that comes too late"


def test_the_clips_choose_their_scan_by_mouse_and_by_keyboard(page):
    hit = pick(page)
    page.evaluate("t => viewer.setDetail(t)", json.dumps(told(hit["side"], hit["vertex"])))
    clips = page.locator(".mv-clip")
    assert "Clip 2: scan 4, at 0:08" in clips.nth(1).get_attribute("aria-label")
    clips.nth(1).click()
    clips.nth(2).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("chosen") == [4, 8]
    page.keyboard.press("Escape")
    assert not page.locator(".mv-detail").is_visible()


def test_what_is_known_of_few_scans_is_dots_and_a_place_without_voxel_a_sentence(page):
    hit = pick(page)
    few = told(hit["side"], hit["vertex"], known=[None] * 3 + [1.5] + [None] * 8)
    few["map"]["note"] = "Known only for the 1 of 12 scans drawn so far."
    page.evaluate("t => viewer.setDetail(t)", json.dumps(few))
    assert page.locator("circle.mv-dot:not(.mv-bold)").count() == 1
    assert page.locator(".mv-note").inner_text() == few["map"]["note"]
    none = {"message": "No voxel here.", "side": hit["side"], "vertex": hit["vertex"]}
    page.evaluate("t => viewer.setDetail(t)", json.dumps(none))
    assert page.locator(".mv-detail-message").inner_text() == "No voxel here." and page.locator(".mv-plot").count() == 0


def test_enter_on_the_canvas_asks_for_the_strongest_area_then_the_next(page):
    pick(page)
    page.evaluate("viewer.close(); asked.length = 0")
    page.locator(".mv-canvas").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    first, second = page.evaluate("asked")
    strongest = page.evaluate("viewer.strongest.map(({ side, vertex }) => ({ side, vertex, outlines: '' }))")
    assert [first, second] == strongest[:2]


def test_a_refusal_stays_when_the_outlines_change(page):
    show(page, from_cortex(np.zeros(20484), "fsaverage5"))
    page.evaluate("viewer.setOutlines('network')")
    assert "The map is on fsaverage5" in page.locator(".mv-message").first.inner_text()
    show(page, area_map("V1"))
    assert not page.locator(".mv-message").first.is_visible()


def test_two_maps_are_told_of_in_words_and_left_is_a_hemisphere(page):
    page.evaluate("p => viewer.setValues(p)", pair("V1", "V2"))
    text = page.locator(".mv-summary").inner_text()
    first, second = text.split("Of the second: ")
    assert first.startswith("Strongest areas of the first map: V1 ") and "V1 left 3" in first and "V1 right 3" in first
    assert second.startswith("V2 ") and "V2 left 3" in second and "V2 right 3" in second and "on the left" not in text
    assert text in page.locator(".mv-canvas").get_attribute("aria-label")


def test_an_answer_is_announced_and_the_focus_comes_back_to_the_cortex(page):
    hit = pick(page)
    heard = page.locator(".mv-heard[role=status]")
    assert heard.text_content() == ""
    page.evaluate("t => viewer.setDetail(t)", json.dumps(told(hit["side"], hit["vertex"])))
    assert heard.text_content().startswith("V1, left hemisphere, voxel 7, over 12 scans of test1. Attention")
    page.locator(".mv-close").focus()
    page.keyboard.press("Enter")
    assert not page.locator(".mv-detail").is_visible() and heard.text_content() == ""
    assert page.evaluate("document.activeElement.className") == "mv-canvas"


def test_only_the_main_button_asks_and_only_its_own_answer_is_shown(page):
    hit = pick(page)
    page.evaluate("t => viewer.setDetail(t)", json.dumps(told(hit["side"], hit["vertex"]) | {"outlines": "area"}))
    assert page.locator(".mv-detail[aria-busy]").count() == 1 and page.locator(".mv-plot").count() == 0
    page.evaluate("viewer.close(); asked.length = 0")
    at = page.evaluate("([side, vertex]) => viewer.scene.project(side, vertex)", [hit["side"], hit["vertex"]])
    page.locator(".mv-canvas").click(position={"x": at["x"], "y": at["y"]}, button="right")
    assert page.evaluate("asked") == []
