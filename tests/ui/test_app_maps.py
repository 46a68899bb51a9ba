"""Choices of the cortex panel in a real browser: one scan of the window, a person's own maps and parcellations."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from support.app_page import choose, decode, pick, save
from support.brain_files import write_dlabel

from mindviz.brain import from_cortex, parcellations, write_gifti

pytestmark = pytest.mark.browser
TITLED = "text => document.querySelector('#cortex .mv-title').textContent === text"


@pytest.mark.slow
def test_one_scan_of_the_window_is_drawn_told_of_and_saved(page, app, tmp_path):
    choose(page, 5)
    decode(page)
    page.wait_for_selector("#app-save:enabled")
    both = values(page)
    pick(page, "#app-position", "second scan")
    page.wait_for_function(TITLED, arg="Attention received, second scan of the window")
    assert values(page) != both
    find = "[...document.querySelectorAll('#cortex *')].find((node) => node.viewer).viewer"
    place = "(v) => { const vertex = v.map.left.findIndex((x) => x === x); v.pick('left', vertex); }"
    page.evaluate(f"({place})({find})")
    page.wait_for_selector("#cortex .mv-plot")
    told = page.locator("#cortex .mv-plot").get_attribute("aria-label")
    assert "Attention received, second scan of the window (1 = every patch alike): lowest" in told
    page.keyboard.press("Escape")
    pick(page, "#app-other", "Map: Attention rollout")
    page.wait_for_selector("#cortex .mv-compared")
    titles = page.locator("#cortex .mv-pane-title").all_inner_texts()
    assert all(title.endswith("second scan of the window") for title in titles)
    saved = save(page, tmp_path)
    assert saved.name.startswith("mindviz_subject-1_test1_scan-5_received") and "_position-2" in saved.name
    pick(page, "#app-method", "Lesion of an area (HCP-MMP)")  # takes voxels out of both scans
    page.wait_for_function(TITLED, arg="Lesion of an area (HCP-MMP) beside Attention rollout")
    assert not page.locator("#app-position").is_visible()


@pytest.mark.slow
def test_the_map_and_the_place_of_the_last_choice_stay(page, app):
    choose(page, 5)
    decode(page)
    page.wait_for_selector("#app-save:enabled")
    pick(page, "#app-method", "Lesion of an area (HCP-MMP)")
    pick(page, "#app-method", "Integrated gradients")  # while the lesion is being computed, if that takes a while
    pick(page, "#app-method", "Attention received")
    page.wait_for_function(TITLED, arg="Attention received")
    voxels = """(v) => { const held = [...v.map.left.keys()].filter((i) => v.map.left[i] === v.map.left[i]);
      for (const i of held.slice(0, 3)) v.pick('left', i); return v.picked.vertex; }"""
    vertex = page.evaluate(f"({voxels})({VIEWER})")  # three clicks, faster than any is answered
    page.wait_for_selector("#cortex .mv-plot")
    page.wait_for_function("() => !document.querySelector('#cortex .mv-detail[aria-busy]')")
    page.wait_for_timeout(4000)  # late answers
    assert page.inner_text("#cortex .mv-title") == "Attention received"
    assert not page.locator("#cortex .mv-busy").is_visible()
    assert page.evaluate(f"{VIEWER}.picked.vertex") == vertex
    assert "Attention received" in page.locator("#cortex .mv-plot").get_attribute("aria-label")
    page.locator("#cortex .mv-close").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "mv-canvas"


def test_a_clip_of_another_run_chooses_no_scan(page, app):
    choose(page, 5)
    send = "detail => document.dispatchEvent(new CustomEvent('mindviz-scan', { detail }))"
    page.evaluate(send, {"run": "another", "scan": 2})
    assert page.inner_text(".app-strip-scan") == "Scan 5"
    page.evaluate(send, {"run": "test1", "scan": 2})
    assert page.inner_text(".app-strip-scan") == "Scan 2"


VIEWER = "[...document.querySelectorAll('#cortex *')].find((node) => node.viewer).viewer"


def values(page) -> list[float]:
    return page.evaluate(f"[...({VIEWER}).map.left].filter((x) => x === x)")


@pytest.mark.slow
def test_an_own_map_stands_beside_and_an_own_parcellation_is_lesioned_by(page, app, tmp_path):
    mine = from_cortex(np.linspace(-1, 2, 59412, dtype=np.float32))
    pair = [str(path) for path in write_gifti(mine, tmp_path, "mine")]
    areas = parcellations.load("yeo7")
    write_dlabel(tmp_path / "nets.dlabel.nii", areas.labels, areas.names)
    (tmp_path / "bad<b>.func.gii").write_text("nothing")
    upload = page.locator("#app-own ~ input[type=file], .app-brain-choices input[type=file]").first
    decode(page)
    page.wait_for_selector("#app-save:enabled")
    upload.set_input_files(str(tmp_path / "bad<b>.func.gii"))
    page.wait_for_selector("[data-testid=toast-body]")
    said = page.inner_text("[data-testid=toast-body]")
    assert ".func.gii: expected a GIFTI file" in said and "/" not in said.partition(":")[0]
    upload.set_input_files(pair)
    page.wait_for_selector("#cortex .mv-compared")
    name = "mine_hemi-L.func.gii + mine_hemi-R.func.gii"
    titles = page.locator("#cortex .mv-pane-title").all_inner_texts()
    assert titles == ["Attention received", f"Your map: {name}"]
    assert page.locator("#app-other input").input_value() == f"Your map: {name}"
    upload.set_input_files(str(tmp_path / "nets.dlabel.nii"))
    page.wait_for_function(TITLED, arg=f"Lesion of a parcel (nets.dlabel.nii) beside Your map: {name}")
    assert page.locator("#app-method input").input_value() == "Lesion of a parcel (nets.dlabel.nii)"
    assert "depends on" in page.inner_text("#app-caution") and not page.locator("#app-position").is_visible()
    assert not page.locator("#cortex .mv-busy").is_visible()
    with zipfile.ZipFile(save(page, tmp_path)) as archive:
        told = next(json.loads(archive.read(n)) for n in archive.namelist() if n.endswith("map.json"))
    assert told["map"]["parcellation"] == "nets.dlabel.nii" and told["beside"] == {"file": name}
    pick(page, "#app-method", "Attention received")
    pick(page, "#app-other", "Map: Lesion of a parcel (nets.dlabel.nii)")
    page.wait_for_function(TITLED, arg="Attention received beside Lesion of a parcel (nets.dlabel.nii)")
    assert page.locator("#cortex .mv-message").all_inner_texts() == ["", ""], "both were drawn"
    assert not list((app.home / "gradio").rglob("*.dlabel.nii")), "what was opened is not kept"
    fresh = page.context.new_page()  # another session has none of it
    fresh.goto(app.address, wait_until="domcontentloaded")
    fresh.locator("#app-method input").click()
    assert not any("nets" in told for told in fresh.get_by_role("option").all_inner_texts())
