"""An area is taken out in a real browser: three films play in step, the newest choice wins, nothing needs scrolling."""

from __future__ import annotations

import re

import pytest
from support.app_page import PATIENCE, SCREENSHOTS, choose, decode, held
from support.brain_files import write_dlabel

from mindviz.brain import parcellations

pytestmark = pytest.mark.browser

VIDEOS = "[...document.querySelectorAll('.app-lesion video')]"
PLAYING = f"() => {VIDEOS}.every((v) => !v.paused && v.videoWidth > 0 && v.readyState >= 2 && !v.error)"
IN_STEP = f"""() => {{ const times = {VIDEOS}.map((v) => v.currentTime);
    return times.length === 3 && Math.min(...times) > 0.2 && Math.max(...times) - Math.min(...times) < 0.1; }}"""
MESSAGE = "text => document.querySelector('.app-lesion-message').textContent.startsWith(text)"
PRESSED = """text => { const press = new MutationObserver(() => {
      if (!document.querySelector('.app-lesion-message').textContent.startsWith(text)) return;
      press.disconnect();
      document.querySelector('.app-lesion-button').click(); });
    press.observe(document.querySelector('.app-lesion'), { subtree: true, childList: true, characterData: true }); }"""
STATE = "() => document.querySelector('.app-lesion [data-state]').dataset.state"
SOURCES = f"() => {VIDEOS}.map((v) => v.getAttribute('src'))"
SETTLED = """() => { const { top, bottom } = document.querySelector('.app-lesion').getBoundingClientRect();
    return top >= 0 && bottom <= window.innerHeight; }"""


# within one moment, as keys are on a busy machine
CHOOSE = """names => { const by = document.querySelector('.app-lesion-by');
    for (const name of names) { by.value = name; by.dispatchEvent(new Event('change')); } }"""


def open_panel(page) -> None:
    page.click("#app-lesion-open")
    page.wait_for_selector(".app-lesion-head h2")
    page.wait_for_function(SETTLED)


def finished(page, name: str = "") -> str:
    """What is said once the film without that group, and its baseline, are there."""
    named = f"() => document.querySelector('.app-lesion-name').textContent.endsWith('without {name}')"
    page.wait_for_function(named if name else "() => true")
    page.wait_for_selector(".app-lesion [data-state=done]")
    page.wait_for_function("() => document.querySelector('.app-lesion-said').innerText.includes('Another seed')")
    return page.inner_text(".app-lesion-said")


def test_an_area_is_taken_out_and_the_films_play_in_step(page, app):
    assert not page.locator(".app-lesion").is_visible()
    choose(page, 5)
    open_panel(page)
    page.wait_for_function(MESSAGE, arg="Decode a scan first")
    assert page.evaluate(SOURCES) == [None, None, None]
    decode(page)
    said = finished(page)
    assert "the tokens move by" in said and "SSIM to what was shown" in said and "nothing but noise" in said
    assert ("by guessing 120.5" in said) == (app.scans == 240) and ("no CLIP" in said) == (app.scans < 240)
    page.wait_for_function(PLAYING)
    page.wait_for_function(IN_STEP)
    assert page.inner_text(".app-lesion-simulated").lower() == "simulated"
    moved = [float(x) for x in re.findall(r"moves ([\d.]+)", page.inner_text(".app-lesion-which"))]
    assert len(moved) > 3 and moved == sorted(moved, reverse=True)
    before = page.evaluate(SOURCES)
    last = page.locator(".app-lesion-which option").last.get_attribute("value")
    page.select_option(".app-lesion-which", last)
    assert f"Without {last} (" in finished(page, last)
    after = page.evaluate(SOURCES)
    assert after[:2] == before[:2] and after[2] != before[2] and page.input_value(".app-lesion-which") == last


@pytest.mark.slow
def test_the_newest_choice_wins_and_another_scan_clears_it(page, app):
    choose(page, 5)
    decode(page)
    open_panel(page)
    page.wait_for_function(MESSAGE, arg="")
    for by in ("hcp-mmp", "patch", "yeo7", "patch"):  # faster than any can be answered
        page.select_option(".app-lesion-by", by)
    finished(page)
    assert page.input_value(".app-lesion-by") == "patch" and page.inner_text(".app-lesion-name").endswith(
        page.input_value(".app-lesion-which")
    )
    page.wait_for_timeout(1500)
    assert page.input_value(".app-lesion-by") == "patch", "no late answer follows"
    page.select_option(".app-lesion-by", "hcp-mmp")
    choose(page, 2)
    page.wait_for_function(MESSAGE, arg="Decode a scan first")
    page.wait_for_timeout(1500)
    assert page.evaluate(STATE) == "empty" and page.evaluate(SOURCES) == [None, None, None]
    decode(page)
    finished(page)
    assert page.input_value(".app-lesion-by") == "hcp-mmp", "what was chosen is taken out of the next scan, too"


@pytest.mark.slow
def test_the_newest_choice_wins_whatever_arrives_first(page, app):
    choose(page, 5)
    decode(page)
    open_panel(page)
    finished(page)
    with held(page, lambda sent: '\\"ticket\\":' in sent) as waiting:
        page.evaluate(CHOOSE, ["hcp-mmp", "patch", "yeo7", "patch"])
        asked = waiting(4)
        assert len(asked) == 4
        for route in reversed(asked):
            route.fulfill(response=route.fetch())
    page.wait_for_function("() => document.querySelector('.app-lesion-which').value.startsWith('patch')")
    finished(page)
    assert page.input_value(".app-lesion-by") == "patch"


@pytest.mark.slow
def test_an_own_parcellation_can_be_taken_apart(page, app, tmp_path):
    areas = parcellations.load("yeo17")
    write_dlabel(tmp_path / "mine.dlabel.nii", areas.labels, areas.names)
    choose(page, 5)
    decode(page)
    open_panel(page)
    finished(page)
    upload = page.locator("#app-own ~ input[type=file], .app-brain-choices input[type=file]").first
    upload.set_input_files(str(tmp_path / "mine.dlabel.nii"))
    page.wait_for_function("() => document.querySelector('.app-lesion-by').options.length === 4")
    page.select_option(".app-lesion-by", label="parcels of mine.dlabel.nii")
    page.wait_for_function(f"() => {[*areas.names[1:]]}.includes(document.querySelector('.app-lesion-which').value)")
    assert "the tokens move by" in finished(page)


@pytest.mark.slow
def test_it_can_be_stopped_and_begun_again_and_closed(page, app):
    page.locator("#app-controls input[type=number]").nth(1).fill("100" if app.scans < 240 else "20")
    page.keyboard.press("Tab")
    decode(page)
    page.evaluate(PRESSED, "Decoding without")
    open_panel(page)
    page.wait_for_function(MESSAGE, arg="Stopped")
    page.wait_for_timeout(1000)
    assert page.evaluate(STATE) == "empty" and page.evaluate(SOURCES)[2] is None
    page.click(".app-lesion-button")
    page.wait_for_function("() => document.querySelector('.app-lesion [data-state]').dataset.state === 'working'")
    page.click(".app-lesion-close")
    assert not page.locator(".app-lesion").is_visible()
    assert page.locator(".app-screen[data-state=done]").is_visible(), "the decoding itself stays"


@pytest.mark.slow
def test_it_is_reached_and_seen_whole_on_a_projector(page, app):
    assert page.viewport_size == {"width": 1280, "height": 720}
    bottom = page.evaluate("() => document.querySelector('#app-lesion-open').getBoundingClientRect().bottom")
    assert 0 < bottom <= 720, "the button is seen without scrolling"
    open_panel(page)
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("() => document.activeElement.className") == "app-lesion-by"  # the keyboard goes on from here


@pytest.mark.parametrize(("width", "height", "colours"), [(1440, 900, "light"), (1280, 720, "dark")])
def test_the_pictures_of_the_panel(browser, app, width, height, colours):
    """For people to look at."""
    if app.scans < 240:
        pytest.skip("pictures are taken of the demo only")
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(app.address)
    choose(page, 24)
    decode(page)
    open_panel(page)
    page.select_option(".app-lesion-by", "hcp-mmp")
    page.wait_for_function("() => document.querySelector('.app-lesion-name').textContent.match(/left|right/)")
    finished(page)
    page.wait_for_function(PLAYING)
    page.wait_for_function(SETTLED)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    written = SCREENSHOTS / f"lesion-{width}x{height}-{colours}.png"
    page.screenshot(path=str(written))
    context.close()
    assert written.stat().st_size > 50_000
