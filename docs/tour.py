"""The moving picture of the README, taken from the app: what was shown, what was decoded, the cortex turning.

``python docs/tour.py`` starts the app on the demo, decodes a few scans in a headless browser and writes
``assets/tour.webp``. It needs the developer's requirements and chromium. The file is kept in the history of the
repository: write it anew only when the page looks otherwise.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.app_page import DEMO, FLAGS, PATIENCE, ROOT, choose, decode, running
from ui.conftest import CHROMIUM

TARGET = ROOT / "assets" / "tour.webp"
SCANS = (24, 61, 150)
FRAMES, RATE = 24, 8  # of each scan, and how many are shown in a second
SIZE = (1280, 720)
WIDTH, QUALITY = 860, 62
MOST_BYTES = 2_000_000
TURN_PX = 5  # how far the cortex turns between two frames, as a drag of the mouse

# The players run by themselves: for a picture each is held at the time of its frame.
HOLD = """(seconds) => Promise.all([...document.querySelectorAll("#app-players video")].map((video) => {
  video.pause();
  return new Promise((ready) => {
    video.onseeked = () => requestAnimationFrame(() => requestAnimationFrame(ready));
    video.currentTime = seconds % video.duration;
  });
}))"""
TURN = "(px) => [...document.querySelectorAll('#cortex *')].find((node) => node.viewer).viewer.turnBy(px, 0)"
SEEN = """() => {
  const boxes = ["#app-players", "#cortex"].map((id) => document.querySelector(id).getBoundingClientRect());
  const side = (name, pick) => pick(...boxes.map((box) => box[name]));
  const [x, y] = [side("left", Math.min), side("top", Math.min)];
  return { x: x - 8, y: y - 8, width: side("right", Math.max) - x + 16, height: side("bottom", Math.max) - y + 16 };
}"""


def frames(page, scan: int) -> list[Image.Image]:
    """The decoded scan, frame by frame; the cortex goes on turning."""
    choose(page, scan)
    decode(page)
    page.wait_for_timeout(1500)
    taken = []
    for i in range(FRAMES):
        page.evaluate(HOLD, i / RATE)
        page.evaluate(TURN, TURN_PX)
        page.wait_for_timeout(120)
        picture = Image.open(io.BytesIO(page.screenshot(clip=page.evaluate(SEEN)))).convert("RGB")
        taken.append(picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS))
    return taken


def main() -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, running(DEMO, 240, Path(home)) as app, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="dark")
        page.set_default_timeout(PATIENCE)
        page.goto(app.address)
        page.wait_for_selector("#cortex canvas")
        every = [frame for scan in SCANS for frame in frames(page, scan)]
        browser.close()
    size = every[0].size
    aside = TARGET.with_suffix(".part")
    every[0].save(
        aside,
        format="WEBP",
        save_all=True,
        append_images=[one.resize(size) for one in every[1:]],
        duration=round(1000 / RATE),
        loop=0,
        quality=QUALITY,
        method=6,
    )
    written = aside.stat().st_size
    if written > MOST_BYTES:
        aside.unlink()
        raise SystemExit(f"{TARGET}: expected at most {MOST_BYTES} bytes, found {written}: take fewer frames")
    aside.replace(TARGET)
    print(f"{TARGET}: {len(every)} frames of {size[0]} x {size[1]}, {written / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
