"""The app in a real browser: a scan is decoded, both films play, the cortex is drawn, nothing leaves the machine.

Screenshots are left in ``out/screenshots/``. Without a browser the tests are skipped; where ``CI=true`` they fail.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile

import pytest
from support.app_page import PATIENCE, ROOT, SCREENSHOTS, STARTING_S, choose, decode, pick, save

from mindviz.session.map_export import MAP_FILES

pytestmark = pytest.mark.browser


PLAYING = """() => [...document.querySelectorAll('.app-player video')].every(
    (v) => !v.paused && v.videoWidth > 0 && v.readyState >= 2 && !v.error)"""
TIMES = "() => [...document.querySelectorAll('.app-player video')].map((v) => v.currentTime)"


ADVANCED = f"before => ({TIMES})().every((time, i) => time !== before[i])"
IN_STEP = f"() => {{ const [a, b] = ({TIMES})(); return a > 0.2 && Math.abs(a - b) < 0.1; }}"


def test_a_scan_is_decoded_and_both_films_play_in_step(page, app):
    choose(page, app.scans - 5)
    decode(page)
    page.wait_for_function(PLAYING)
    before = page.evaluate(TIMES)
    assert len(before) == 2
    page.wait_for_function(ADVANCED, arg=before)
    page.wait_for_function(IN_STEP)
    assert page.inner_text(".app-caption")
    assert "SSIM" in page.inner_text("#app-scores") and "guessing" in page.inner_text("#app-scores")
    assert re.search(r"seed \d+ · \d+ steps", page.inner_text(".app-note"))


def test_the_cortex_is_drawn_and_coloured_by_the_decoding(page, app):
    page.wait_for_selector("#cortex canvas")
    bare = colours(page)
    assert len(bare) > 20, "the cortex was not drawn"
    decode(page)
    page.wait_for_function("() => document.querySelector('#cortex').innerText.includes('Attention received')")
    page.wait_for_timeout(500)
    assert colours(page) - bare, "the map did not change the picture"
    assert "not importance" in page.inner_text("body")


def colours(page) -> set[tuple[int, ...]]:
    """The colours in a picture of the canvas."""
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(page.locator("#cortex canvas").first.screenshot())).convert("RGB")
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}


def parts_of_attention(page) -> list[str]:
    """The lists that choose a part of the attention: a layer and a head, or a question."""
    return [name for name in ("Layer", "Head", "Question") if page.get_by_label(name, exact=True).is_visible()]


@pytest.mark.slow
def test_another_method_and_a_control_are_drawn(page, app):
    decode(page)
    titled = "text => document.querySelector('#cortex .mv-title').textContent === text"
    page.wait_for_function(titled, arg="Attention received")
    assert parts_of_attention(page) in (["Layer", "Head"], ["Question"])
    pick(page, "#app-method", "Integrated gradients")
    page.wait_for_function(titled, arg="Integrated gradients")
    assert "depends on" in page.inner_text(".app-fine")
    assert parts_of_attention(page) == []
    pick(page, "#app-control", "less untrained encoder")
    page.wait_for_function(titled, arg="Integrated gradients less untrained encoder")
    pick(page, "#app-method", "Activation pattern")  # which has no control
    page.wait_for_function(titled, arg="Activation pattern")
    assert not page.locator("#app-control input").is_enabled()
    assert page.locator("#app-control input").input_value() == "as it is"


@pytest.mark.slow
def test_the_map_that_is_shown_is_saved_as_a_zip(page, app, tmp_path):
    assert page.is_disabled("#app-save"), "there is no map yet"
    choose(page, 5)
    decode(page)
    page.wait_for_selector("#app-save:enabled")
    first = save(page, tmp_path)
    assert first.name.startswith("mindviz_subject-1_test1_scan-5_received")
    pick(page, "#app-method", "Attention rollout")
    pick(page, "#app-control", "less its mean")
    page.wait_for_function("() => document.querySelector('#cortex .mv-title').textContent.endsWith('less its mean')")
    second = save(page, tmp_path)  # not the file of before
    assert second.name == "mindviz_subject-1_test1_scan-5_rollout_less-uniform.zip"
    with zipfile.ZipFile(second) as archive:
        assert sorted(archive.namelist()) == sorted(f"{second.stem}/{name}" for name in MAP_FILES)
        told = json.loads(archive.read(f"{second.stem}/map.json"))
        archive.extractall(tmp_path)
    assert (told["map"]["method"], told["map"]["control"], told["simulated"]) == ("rollout", "uniform", True)
    page.goto((tmp_path / second.stem / "map.html").as_uri())  # the page alone, from a disk
    page.wait_for_selector("#cortex canvas")
    assert "Attention rollout less its mean" in page.inner_text("#cortex .mv-title")


def test_everything_simulated_says_so(page, app):
    assert page.inner_text(".app-badge").lower() == "simulated"


@pytest.mark.slow
def test_a_decoding_can_be_stopped_and_another_scan_clears_it(page, app):
    page.locator("#app-controls input[type=number]").nth(1).fill("100")
    page.keyboard.press("Tab")
    page.click("#app-decode")
    page.wait_for_function("""() => { if (!document.querySelector('.app-screen[data-state=working]')) return false;
        document.querySelector('.app-stop').click(); return true; }""")  # at once: a fast machine is soon done
    page.wait_for_function("() => document.querySelector('.app-message').textContent.startsWith('Stopped')")
    choose(page, 2)
    page.wait_for_selector(".app-screen[data-state=empty]")
    assert page.is_enabled("#app-decode")


def test_bad_settings_are_told_in_a_sentence(page, app):
    page.fill("#app-seed input", "")
    page.keyboard.press("Tab")
    page.click("#app-decode")
    page.wait_for_selector(".app-screen[data-state=error]")
    told = page.inner_text(".app-message")
    assert "seed" in told and "Traceback" not in page.content()


def test_the_page_fits_a_projector(page, app):
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    bottom = page.evaluate("() => document.querySelector('.app-players').getBoundingClientRect().bottom")
    assert bottom <= 720, "both films must be seen without scrolling"


def test_a_place_is_told_of_and_its_clips_choose_the_scan(page, app):
    if app.scans < 240:
        pytest.skip("no area of the tiny dataset has ten voxels")
    choose(page, 5)
    decode(page)
    page.wait_for_selector("#cortex .mv-area")
    page.locator("#cortex .mv-area").first.click()
    page.wait_for_selector("#cortex .mv-plot")
    page.wait_for_function("() => !document.querySelector('#cortex .mv-note')")  # the whole run is known
    said = page.locator("#cortex .mv-plot").get_attribute("aria-label")
    assert f"over {app.scans} scans of test1" in said and "at scan 5, which is shown" in said and "BOLD (z)" in said
    assert min(page.evaluate(ANSWERS)) < 300, "no click was answered within 300 ms"
    clip = page.locator("#cortex .mv-clip").nth(1)
    scan = clip.get_attribute("data-scan")
    clip.click()
    page.wait_for_function("s => document.querySelector('.app-strip-scan').textContent === `Scan ${s}`", arg=scan)
    shown = (
        "s => document.querySelector('.mv-plot').getAttribute('aria-label').includes(`at scan ${s}, which is shown`)"
    )
    page.wait_for_function(shown, arg=scan)  # the mark goes with the scan
    page.keyboard.press("Escape")
    assert not page.locator("#cortex .mv-detail").is_visible()
    decode(page)
    page.wait_for_selector("#cortex .mv-area")
    page.wait_for_timeout(500)
    assert not page.locator("#cortex .mv-detail").is_visible(), "what was closed stays closed"


ANSWERS = """async () => { const { viewer } = [...document.querySelectorAll('#cortex *')].find((node) => node.viewer);
    const detail = document.querySelector('.mv-detail'), taken = [];
    for (const { side, vertex } of [...viewer.strongest, ...viewer.strongest]) {
      const start = performance.now();
      viewer.pick(side, vertex);
      while (detail.hasAttribute('aria-busy')) await new Promise((go) => setTimeout(go, 5));
      taken.push(performance.now() - start); }
    return taken; }"""


@pytest.mark.slow
def test_two_maps_are_compared_and_saved_as_one_page(page, app, tmp_path):
    choose(page, 5)
    decode(page)
    page.wait_for_selector("#app-save:enabled")
    kind, name = ("Question", "motion") if parts_of_attention(page) == ["Question"] else ("Layer", "layer 1")
    pick(page, "#app-other", f"{kind}: {name}")
    page.wait_for_selector("#cortex .mv-compared")
    first, second = page.locator("#cortex .mv-pane-title").all_inner_texts()
    assert second == f"{name.capitalize()} · Attention received" != first and first.endswith("· Attention received")
    pick(page, "#app-control", "less its mean")
    page.wait_for_function(
        "() => document.querySelector('#cortex .mv-title').textContent.match(/less its mean.*less its mean/)"
    )
    page.wait_for_function(
        "() => document.querySelector('#app-caution').innerText.includes('Zero is its control: the')"
    )
    saved = save(page, tmp_path)
    with zipfile.ZipFile(saved) as archive:
        archive.extractall(tmp_path)
    page.goto((tmp_path / saved.stem / "map.html").as_uri())
    page.wait_for_selector("#cortex .mv-compared canvas")
    assert (
        page.locator(".mv-pane-title").all_inner_texts()[1] == f"{name.capitalize()} · Attention received less its mean"
    )
    said = page.inner_text(".mv-caution")
    assert "not importance" in said and "Zero is its control: the mean of the map over all voxels." in said


@pytest.mark.parametrize("other", ["", "Map: Attention rollout"])
def test_the_cortex_panel_is_seen_whole_on_a_small_screen(page, app, other):
    if app.scans < 240:
        pytest.skip("no area of the tiny dataset has ten voxels")
    decode(page)
    page.wait_for_selector("#cortex .mv-area")
    if other:
        pick(page, "#app-other", other)
        page.wait_for_selector("#cortex .mv-compared")
    bottoms = "(names) => names.map((name) => document.querySelector(name).getBoundingClientRect().bottom)"
    for bottom in page.evaluate(bottoms, ["#cortex .mv-summary", "#cortex .mv-menus", "#app-caution .app-fine"]):
        assert 0 < bottom <= 720
    page.locator("#cortex .mv-area").first.click()
    page.wait_for_selector("#cortex .mv-plot")
    for bottom in page.evaluate(bottoms, ["#cortex .mv-bar", "#cortex .mv-detail", "#app-caution .app-fine"]):
        assert 0 < bottom <= 720
    page.keyboard.press("Escape")
    assert not page.locator("#cortex .mv-detail").is_visible()


@pytest.mark.parametrize("colours_of", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1440, 900)])
def test_the_pictures_of_the_page(browser, app, width, height, colours_of, request):
    """For people to look at: the page with a decoded scan, at two sizes, light and dark."""
    if app.scans < 240:
        pytest.skip("pictures are taken of the demo only")
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours_of)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(app.address)
    choose(page, 24)
    decode(page)
    page.wait_for_function(PLAYING)
    page.wait_for_timeout(1500)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    written = SCREENSHOTS / f"demo-{width}x{height}-{colours_of}.png"
    page.screenshot(path=str(written))
    context.close()
    assert written.stat().st_size > 50_000


@pytest.mark.slow
def test_a_missing_checkpoint_is_one_sentence_at_the_command_line(tiny_dataset, tmp_path):
    started = [sys.executable, "app.py", "--data", str(tiny_dataset), "--checkpoint", str(tmp_path / "none")]
    done = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, timeout=STARTING_S)
    assert done.returncode == 2
    assert done.stderr.startswith("mindviz: ") and str(tmp_path / "none") in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.strip().count("\n") == 0
