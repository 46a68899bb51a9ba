"""What the tests of the cortex viewer share: a page that is watched, maps to show, and what is drawn, as arrays."""

import base64
import shutil

import numpy as np

from mindviz.brain import Projection, meshes, parcellations
from mindviz.viewer import payloads

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
WEBGL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
LIMIT_MS = 60_000


def launch(playwright, flags):
    return playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


def area_map(names, value=3.0):
    areas = parcellations.load("hcp-mmp")
    vertices = np.flatnonzero(areas.mask(["V1", "V2", "V3", "V4"]))
    values = np.where(areas.mask(names)[vertices], value, 1.0)
    return Projection(vertices).to_surface(values)


def watched(browser, scheme="light"):
    """A page that remembers its errors and every request that leaves the machine."""
    page = browser.new_page(viewport={"width": 960, "height": 600}, color_scheme=scheme)
    page.set_default_timeout(LIMIT_MS)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: note_request(page.problems, request.url))
    return page


def note_request(problems, url):
    if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "http://localhost:")):
        problems.append(url)


def show(page, surface_map, title="Attention, layer 1", units="× uniform", simulated=False):
    page.evaluate("p => viewer.setValues(p)", payloads.values_payload(surface_map, title, units, simulated=simulated))


def drawn_pixels(page):
    """The drawn canvas as (height, width, rgba)."""
    data, width, height = page.evaluate(
        """() => { viewer.drawNow(); const gl = viewer.scene.renderer.getContext();
        const w = gl.drawingBufferWidth, h = gl.drawingBufferHeight, data = new Uint8Array(4 * w * h);
        gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
        let text = ""; for (const byte of data) text += String.fromCharCode(byte);
        return [btoa(text), w, h]; }"""
    )
    return image(data, height, width)


def coloured(pixels):
    return (pixels[..., :3].max(axis=-1) - pixels[..., :3].min(axis=-1) > 30) & (pixels[..., 3] == 255)


def seen_vertices(page):
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
    red, green, blue, side = np.moveaxis(image(data, height, width), -1, 0)
    left, right = meshes.cortex_index("fsLR-32k")
    number = np.full(2 * 32492, -1)
    number[left], number[32492 + right] = np.arange(left.size), left.size + np.arange(right.size)
    vertex = number[np.where(side >= 254, red + 256 * green + 65536 * blue + 32492 * (side == 255), 0)]
    return np.where(side >= 254, vertex, -1)


def image(data, height, width):
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[::-1].astype(int)


def areas_seen(seen):
    areas = parcellations.load("hcp-mmp")
    return {areas.names[label] for label in np.unique(areas.labels[seen[seen >= 0]])}


def near(mask, pixels=3):
    """Pixels that have one of `mask` within so many rows and columns."""
    padded = np.pad(mask, pixels)
    return np.lib.stride_tricks.sliding_window_view(padded, (2 * pixels + 1,) * 2).any(axis=(2, 3))


def borders(seen, labels):
    """Where pixels beside each other differ in label: on the whole picture, and on one sheet of cortex alone.

    The first takes in the medial wall and the outer edge; the second leaves out where one fold hides another.
    """
    label = np.where(seen >= 0, labels[seen], 0)
    places = np.concatenate(
        [
            getattr(meshes.surface("fsLR-32k", "sphere"), side).coordinates[index]
            for side, index in zip(("left", "right"), meshes.cortex_index("fsLR-32k"), strict=True)
        ]
    )
    anywhere, on_sheet = np.zeros(seen.shape, dtype=bool), np.zeros(seen.shape, dtype=bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = label[one] != label[other]
        close = np.linalg.norm(places[seen[one]] - places[seen[other]], axis=-1) < 6
        anywhere[one] |= differ
        on_sheet[one] |= differ & close & (seen[one] >= 0) & (seen[other] >= 0)
    return anywhere, on_sheet
