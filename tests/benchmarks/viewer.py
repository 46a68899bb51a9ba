"""How long the cortex viewer takes to answer, in headless Chromium that draws on the processor, on fsLR-32k.

Run ``python tests/benchmarks/viewer.py``. It prints the median, the smallest and the largest of 20 for each change,
from the call to the last pixel; what the app's Python side takes for it (the map, its JSON) is counted in where it
says so.
Other processes on the machine make all of it slower, so the load is printed too, and the processor time that the
browser spends on each change, which they touch less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TARGET_MS, FIRST_TARGET_MS = 300, 2500
SIZE = {"width": 960, "height": 640}  # a canvas of 928 x 440 pixels
SUBJECT = "1"

# Values are handed over as text, as gradio does; drawNow returns when the pixels are there.
TIMED = "x => {{ const t = performance.now(); viewer.{}(x); viewer.drawNow(); return performance.now() - t; }}"
MAP, THRESHOLD, OUTLINES = (TIMED.format(name) for name in ("setValues", "setThreshold", "setOutlines"))
SURFACE = """async (name) => { const t = performance.now(); viewer.setSurface(name); let draws = 0;
    while (viewer.animations.size) { await new Promise(requestAnimationFrame); draws++; }
    viewer.drawNow(); return performance.now() - t; }"""
CLICK = """text => { const told = JSON.parse(text), t = performance.now(); viewer.picked = told; viewer.detail.wait();
    viewer.setDetail(text); document.body.offsetHeight; return performance.now() - t; }"""


class Bench:
    """A page with the viewer, and a decoded scan to show in it."""

    def __init__(self, page: Any, workspace: Any, address: str, repeats: int) -> None:
        self.page, self.workspace, self.address, self.repeats = page, workspace, address, repeats
        self.run = workspace.runs(SUBJECT)[0]
        self.decoded = workspace.decode(SUBJECT, self.run, 0, workspace.decoder.default_settings)

    def first_draw(self, _: int) -> float:
        """From opening the page to the first picture, in a page of its own: one left open keeps its graphics busy."""
        page = self.page.context.browser.new_page(viewport=SIZE)
        page.goto(self.address)
        page.wait_for_function("window.viewer")
        taken = float(page.evaluate("viewer.drawnAt"))
        page.close()
        return taken

    def change(self, script: str, value: Any) -> float:
        return float(self.page.evaluate(script, value))

    def layer(self, index: int) -> float:
        """Python makes the map of another layer, the browser draws it."""
        from mindviz.ui import brain_panel

        start = time.perf_counter()
        text = brain_panel.payload(self.workspace, self.decoded, "received", index % 3)
        return (time.perf_counter() - start) * 1000 + self.change(MAP, text)

    def scan(self, index: int) -> float:
        """Python encodes another scan and makes its map, the browser draws it."""
        from mindviz.session import map_choice
        from mindviz.viewer import payloads

        start, choice = time.perf_counter(), map_choice.choose("received", 2)
        window = self.workspace.dataset.window(SUBJECT, self.run, index + 1)
        surface = self.workspace.surface_map(SUBJECT, self.workspace.map_of(window, choice), choice.title)
        text = payloads.values_payload(surface, choice.title, choice.units, True)
        return (time.perf_counter() - start) * 1000 + self.change(MAP, text)

    def click(self, index: int) -> float:
        """Python tells of a voxel, once the run's map is known; the browser draws the two courses."""
        from mindviz.brain import meshes
        from mindviz.session import map_choice, time_courses
        from mindviz.ui import places

        time_courses.courses_of(self.workspace).fill(SUBJECT, self.run, map_choice.choose("received", 2), 0)
        left = meshes.cortex_index(self.workspace.dataset.mesh)[0]
        vertices = self.workspace.dataset.run(SUBJECT, self.run).vertices
        start = time.perf_counter()
        place = time_courses.Place("left", int(left[vertices[10 * index]]))
        text = places.detail(self.workspace, place, SUBJECT, self.run, 0, "received", 2)
        return (time.perf_counter() - start) * 1000 + self.change(CLICK, text)

    def compared(self, index: int) -> float:
        from mindviz.ui import brain_panel

        start = time.perf_counter()
        text = brain_panel.payload(self.workspace, self.decoded, "received", 2, other=f"layer:{index % 2}")
        return (time.perf_counter() - start) * 1000 + self.change(MAP, text)

    def measured(self) -> Iterator[tuple[str, int, list[float]]]:
        """Each change: its name, its target in ms, and how long it took each time."""
        from mindviz.ui import brain_panel

        maps = [brain_panel.payload(self.workspace, self.decoded, "received", i) for i in (0, 2)]
        self.page.goto(self.address)
        self.page.wait_for_function("window.viewer")
        surfaces = ("pial", "very_inflated", "white", "inflated", "sphere")
        changes: list[tuple[str, int, Callable[[int], float]]] = [
            ("map", TARGET_MS, lambda i: self.change(MAP, maps[i % 2])),
            ("threshold", TARGET_MS, lambda i: self.change(THRESHOLD, (i + 1) / 40)),
            ("layer, with Python's part", TARGET_MS, self.layer),
            ("time (scan), with Python's part", TARGET_MS, self.scan),
            ("surface", TARGET_MS, lambda i: self.change(SURFACE, surfaces[i % 5])),
            ("outlines", TARGET_MS, lambda i: self.change(OUTLINES, ("area", "network", "network17")[i % 3])),
            ("click on a voxel, with Python's part", TARGET_MS, self.click),
            ("two maps compared, with Python's part", TARGET_MS, self.compared),
            ("first draw, from opening the page", FIRST_TARGET_MS, self.first_draw),
        ]
        for name, target, change in changes:
            yield name, target, [change(i) for i in range(self.repeats)]


def write_page(workspace: Any, folder: Path) -> Path:
    """The exported page of a bare map; it notes when its first picture was there."""
    import numpy as np

    from mindviz.brain import from_cortex
    from mindviz.session import map_names
    from mindviz.viewer import payloads
    from mindviz.viewer.page import standalone_page

    payload = payloads.values_payload(from_cortex(np.linspace(0, 1, 59412)), "Every vertex has a value")
    text = standalone_page(payload, height_px=440, patches=map_names.patches(workspace, SUBJECT))
    path = folder / "cortex.html"
    path.write_text(text.replace('theme: "auto" });', 'theme: "auto" });\nviewer.drawnAt = performance.now();'))
    return path


def browser_ms() -> float:
    """Processor time of the browser that this process drives, all of its processes together, in ms."""
    import psutil

    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return 1000 * sum(time.user + time.system for time in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the medians there too")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright
    from support.cortex_page import WEBGL, launch

    from mindviz import session

    workspace = session.open(options.data)
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    medians = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch(playwright, WEBGL)
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(120_000)
        bench = Bench(page, workspace, write_page(workspace, Path(folder)).as_uri(), options.repeats)
        spent = browser_ms()
        for name, target, taken in bench.measured():
            medians[name] = statistics.median(taken)
            spent, before = browser_ms(), spent
            verdict = "within" if medians[name] <= target else "ABOVE"
            print(
                f"{name}: median {medians[name]:.0f} ms ({min(taken):.0f} to {max(taken):.0f}), "
                f"{verdict} {target} ms; the browser's processors {(spent - before) / len(taken):.0f} ms; "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        browser.close()
    if options.json:
        options.json.write_text(json.dumps(medians, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
