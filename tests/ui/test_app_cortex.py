"""The cortex panel in a real browser: answers in any order, progress, giving up, two courses, keys, what covers it."""

from __future__ import annotations

import json

import pytest
from support.app_page import choose, decode, held, pick

pytestmark = pytest.mark.browser
TITLED = "text => document.querySelector('#cortex .mv-title').textContent === text"
VIEWER = "[...document.querySelectorAll('#cortex *')].find((node) => node.viewer).viewer"
# within one moment, as clicks on a busy machine are
THREE_CLICKS = """(v) => { const voxels = [...v.map.left.keys()].filter((i) => v.map.left[i] === v.map.left[i]);
    performance.now = () => 1000;
    for (const voxel of voxels.slice(0, 3)) v.pick('left', voxel);
    delete performance.now;
    return v.picked.vertex; }"""
ANSWERED = "() => !document.querySelector('#cortex .mv-detail[aria-busy]')"


def open_map(page) -> None:
    choose(page, 5)
    decode(page)
    page.wait_for_selector("#app-save:enabled")
    page.wait_for_function(TITLED, arg="Attention received")
    page.wait_for_timeout(1000)  # what follows a drawing is asked, too


def first_words(page) -> str:
    return page.locator("#cortex .mv-plot").get_attribute("aria-label").split(". ")[0]


@pytest.mark.slow
@pytest.mark.parametrize("late", ["requests", "answers"])
def test_the_last_click_is_told_of_whatever_arrives_first(page, app, late):
    open_map(page)
    with held(page, lambda sent: '"vertex":' in sent) as waiting:
        vertex = page.evaluate(f"({THREE_CLICKS})({VIEWER})")
        clicks = waiting(3)
        assert len(clicks) == 3
        if late == "requests":
            for route in reversed(clicks):
                route.fulfill(response=route.fetch())
        else:
            answers = [(route, route.fetch()) for route in clicks]
            for route, answer in reversed(answers):
                route.fulfill(response=answer)
    page.wait_for_function(ANSWERED)
    page.wait_for_selector("#cortex .mv-plot")
    page.wait_for_timeout(1500)
    assert page.evaluate(f"{VIEWER}.picked.vertex") == vertex
    assert page.locator("#cortex .mv-detail[aria-busy]").count() == 0 and "left hemisphere" in first_words(page)


@pytest.mark.slow
def test_a_click_that_is_not_answered_says_so(page, app):
    """An answer that is an error; where the server is gone altogether, gradio says so and loads the page anew."""
    open_map(page)
    with held(page, lambda sent: '"vertex":' in sent) as waiting:
        page.evaluate(f"({THREE_CLICKS})({VIEWER})")
        for route in waiting(3):
            route.fulfill(status=500, json={"error": "broken"})
        page.wait_for_function(
            "() => document.querySelector('.mv-detail-message')?.textContent.startsWith('No answer')"
        )
        assert page.locator("#cortex .mv-detail[aria-busy]").count() == 0


@pytest.mark.slow
def test_a_map_that_was_asked_for_before_the_one_that_is_shown_never_replaces_it(page, app):
    open_map(page)

    def of_a_lesion(sent: str) -> bool:
        asked = json.loads(sent)["data"]
        return isinstance(asked[0], dict) and asked[2] == "lesion_area"

    with held(page, of_a_lesion) as waiting:
        pick(page, "#app-method", "Lesion of an area (HCP-MMP)")
        late = waiting(1)
        assert late
        pick(page, "#app-method", "Attention rollout")
        page.wait_for_function(TITLED, arg="Attention rollout")
        for route in late:
            route.fulfill(response=route.fetch())
    page.wait_for_timeout(1500)
    assert page.inner_text("#cortex .mv-title") == "Attention rollout"
    assert not page.locator("#cortex .mv-busy").is_visible()


def test_a_long_computation_tells_its_share_and_can_be_given_up(page, app):
    if app.scans < 240:
        pytest.skip("maps of the tiny model take no time")
    open_map(page)
    pick(page, "#app-method", "Lesion of an area (HCP-MMP)")
    page.wait_for_function(TITLED, arg="Lesion of an area (HCP-MMP)")
    pick(page, "#app-control", "less shuffled scans")
    what = page.wait_for_function("""() => { const busy = document.querySelector('#cortex .mv-busy');
        if (!/^[1-9]\\d?% · \\d+ s$/.test(busy.querySelector('output').textContent)) return false;
        const told = busy.querySelector('.mv-busy-what').textContent;
        busy.querySelector('button').click(); return told; }""")  # at once: a fast machine is soon done
    assert what.json_value() == "Computing: Lesion of an area (HCP-MMP) less shuffled scans"
    page.wait_for_function(TITLED, arg="No map")
    assert page.inner_text("#cortex .mv-message").startswith("Given up before it was computed.")
    assert not page.locator("#cortex .mv-busy").is_visible()
    pick(page, "#app-control", "as it is")
    page.wait_for_function(TITLED, arg="Lesion of an area (HCP-MMP)")


def test_a_click_on_two_maps_tells_of_both(page, app):
    open_map(page)
    pick(page, "#app-other", "Map: Attention rollout")
    page.wait_for_selector("#cortex .mv-compared")
    page.evaluate(f"({THREE_CLICKS})({VIEWER})")
    page.wait_for_selector("#cortex .mv-plot .mv-beside", state="attached")  # flat where all scans have one map
    named = page.locator("#cortex .mv-axis-name").all_text_contents()
    assert [name.partition(" (")[0] for name in named] == ["Attention received", "Attention rollout", "BOLD"]
    said = page.locator("#cortex .mv-plot").get_attribute("aria-label")
    assert "Attention rollout (1 = every patch alike): lowest" in said


@pytest.mark.slow
def test_a_key_chooses_the_next_map_and_the_one_before(page, app):
    open_map(page)
    page.locator("#cortex .mv-canvas").focus()
    page.keyboard.press("m")
    page.wait_for_function(TITLED, arg="Attention rollout")
    assert page.locator("#app-method input").input_value() == "Attention rollout"
    assert not page.get_by_label("Layer").is_visible()
    assert page.evaluate("document.activeElement.className") == "mv-canvas"
    page.keyboard.press("Shift+M")
    page.wait_for_function(TITLED, arg="Attention received")
    page.keyboard.press("Shift+M")  # round to the last one
    page.wait_for_function(TITLED, arg="Activation pattern")
    assert "M chooses the next map" in page.locator("#cortex .mv-about p").text_content()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["", "Map: Attention rollout"])
def test_the_display_settings_leave_the_cortex_in_sight(page, app, other):
    if app.scans < 240:
        pytest.skip("seen on the demo only")
    open_map(page)
    if other:
        pick(page, "#app-other", other)
        page.wait_for_selector("#cortex .mv-compared")
    before = page.locator("#cortex .mv-stage").bounding_box()
    page.locator("#cortex .mv-display summary").click()
    popover, stage = (page.locator(f"#cortex .mv-{name}").bounding_box() for name in ("popover", "stage"))
    assert stage == before and popover["y"] >= stage["y"] + stage["height"] and popover["y"] + popover["height"] <= 720
    page.keyboard.press("Escape")


def test_the_strongest_areas_stay_in_words_while_a_place_is_told_of(page, app):
    if app.scans < 240:
        pytest.skip("no area of the tiny dataset has ten voxels")
    open_map(page)
    words = page.inner_text("#cortex .mv-summary")
    page.locator("#cortex .mv-area").first.click()
    page.wait_for_selector("#cortex .mv-plot")
    summary = page.locator("#cortex .mv-summary")
    assert words.startswith("Strongest areas") and summary.text_content() == words
    assert summary.evaluate("(node) => getComputedStyle(node).display") != "none"
    page.locator("#cortex .mv-area").nth(1).focus()  # where there is no room for it, it is seen from the keyboard
    assert summary.bounding_box()["height"] > 10
