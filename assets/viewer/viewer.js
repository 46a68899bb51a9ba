// createViewer(element, geometry, options): the cortex with one map on it. Needs no framework and no network.
import { buildControls, placeTooltip, showScale, thresholdOf } from "./controls.js";
import { decodeGeometry, decodeValues, extremes, number, scaleOf, strongestAreas } from "./data.js";
import { offerColours, OUTLINES } from "./display.js";
import { CortexScene, PRESETS } from "./scene.js";

const ANIMATION_MS = 260;
const SIDE_NAMES = { left: "left hemisphere", right: "right hemisphere" };
const NO_WEBGL =
  "This browser cannot draw the cortex: WebGL 2 is not available. Turn on hardware acceleration or try another " +
  "browser. The strongest areas are listed below.";

/**
 * @param {HTMLElement} element  emptied and filled
 * @param {ArrayBuffer} buffer  what geometry_payload made
 * @param {{height?: number, values?: string, view?: string, theme?: "inherit"|"auto"|"light"|"dark",
 *   emptyText?: string, onPick?: (hit: object) => void}} options
 * @returns {Promise<Viewer>}
 */
export async function createViewer(element, buffer, options = {}) {
  const started = performance.now();
  const viewer = new Viewer(element, await decodeGeometry(buffer), options);
  viewer.setValues(options.values ?? null);
  viewer.drawNow();
  viewer.stats.firstDrawMs = performance.now() - started;
  return viewer;
}

class Viewer {
  constructor(element, geometry, options) {
    this.geometry = geometry;
    this.options = options;
    this.stats = { draws: 0, updates: 0 };
    this.map = null;
    this.share = 0;
    this.scaleChoice = "auto";
    this.colours = { sequential: "viridis", diverging: "blue-red" };
    this.opacity = 1;
    this.outlines = "";
    this.animations = new Map();
    this.page = buildControls(
      element,
      {
        surfaces: geometry.surfaces, parcellations: geometry.parcellations, credit: geometry.credit,
        height: options.height ?? 480,
        presets: Object.entries(PRESETS).map(([name, { title }]) => ({ name, title })),
        theme: options.theme ?? "inherit",
      },
      {
        surface: (name) => this.setSurface(name), view: (name) => this.setView(name),
        zoom: (factor) => this.scene?.zoomBy(factor), reset: () => this.reset(),
        threshold: (share) => this.setThreshold(share), colours: (name) => this.setColours(name),
        scale: (choice) => this.setScale(choice), opacity: (share) => this.setOpacity(share),
        outlines: (key) => this.setOutlines(key),
      },
    );
    this.#openScene();
    this.view = PRESETS[options.view] ? options.view : "lateral";
    this.page.surface.press(geometry.surfaces[0].name);
    this.page.view.press(this.view);
    this.scene?.startTurn(this.view);
    this.scene?.turn(1);
    this.#listen();
  }

  #openScene() {
    try {
      this.scene = new CortexScene(this.page.canvas, this.geometry, () => this.request());
    } catch (error) {
      console.warn(error);
      this.scene = null;
      this.page.root.classList.add("mv-broken");
      this.#say();
    }
  }

  // ------------------------------------------------------------------ what a caller may change

  /** Show a map (`values_payload`), or bare cortex (null). Camera, surface, threshold and display settings stay. */
  setValues(payload) {
    let problem = "";
    try {
      this.map = decodeValues(payload, this.geometry);
    } catch (error) {
      this.map = null;
      problem = error.message;
    }
    if (this.map) this.map.extremes = extremes(this.map);
    this.stats.updates += 1;
    this.#say(problem);
    const { title, badge, foot } = this.page;
    title.textContent = this.map?.title || "Cortex";
    badge.hidden = !this.map?.simulated;
    foot.show(Boolean(this.map?.extremes));
    this.#describe();
    this.scene?.setMap(this.map);
    this.#showColours();
  }

  /** Surface by name; the shape changes smoothly. A flat surface is seen from the side it faces. */
  setSurface(name) {
    if (!this.scene || !this.geometry.surfaces.some((s) => s.name === name) || name === this.scene.surface) return;
    this.#finish("morph");
    if (name === "flat" || this.scene.surface === "flat") this.setView("lateral");
    this.scene.startMorph(name);
    this.scene.holdFit = false;
    this.page.surface.press(name);
    this.page.view.enable(name !== "flat");
    this.#animate("morph", (share) => this.scene.step(share));
    this.#describe();
  }

  /** One of lateral, medial, dorsal, ventral, posterior. */
  setView(name) {
    if (!this.scene || !PRESETS[name]) return;
    this.#finish("turn");
    this.view = name;
    this.page.view.press(name);
    this.scene.startTurn(name);
    this.#animate("turn", (share) => this.scene.turn(share));
    this.#describe();
  }

  /** Hide what is below a share (0..1) of the colour bar; by size for a signed map. */
  setThreshold(share) {
    this.share = Math.min(Math.max(share, 0), 1);
    this.page.foot.threshold.value = String(Math.round(this.share * 1000));
    this.#showRange();
  }

  setColours(name) {
    this.colours[this.#kind()] = name;
    this.#showColours();
  }

  /** "auto" (as the map was sent), "sequential" or "symmetric" (around 0). */
  setScale(choice) {
    this.scaleChoice = choice;
    this.page.display.scale.value = choice;
    this.#showColours();
  }

  /** How much of the folds the map covers: 0 (nothing) to 1 (all). */
  setOpacity(share) {
    this.opacity = Math.min(Math.max(share, 0), 1);
    this.page.display.opacity.value = String(Math.round(this.opacity * 100));
    this.page.display.covers.textContent = `${Math.round(this.opacity * 100)}%`;
    this.scene?.setOpacity(this.opacity);
    this.#showRange();
  }

  /** Borders of a parcellation: "network" (Yeo-7), "network17", "area" (HCP-MMP) or "" (none). */
  setOutlines(key) {
    if (key && !this.geometry.parcellations[key]) return;
    this.outlines = key;
    this.page.display.outlines.value = key;
    this.scene?.setOutlines(key);
    this.#describe();
  }

  reset() {
    if (!this.scene) return;
    this.scene.zoom = 1;
    this.setView(this.scene.surface === "flat" ? "lateral" : this.view);
  }

  /** What is under a place of the canvas, in CSS pixels: `{side, vertex, value, area, network}` or null. */
  at(x, y) {
    const hit = this.scene?.pick(x, y);
    if (!hit) return null;
    const name = (key) => {
      const labels = this.geometry.arrays[`${hit.side}/${key}`];
      return labels ? this.geometry.parcellations[key].names[labels[hit.vertex]] : "";
    };
    const value = this.map ? this.map[hit.side][hit.vertex] : NaN;
    return { ...hit, value, area: name("area"), network: name("network"), network17: name("network17") };
  }

  /** Draw at once and wait until it is drawn: for measuring, and for a picture (`canvas.toDataURL()` right after). */
  drawNow() {
    this.#frame();
    if (this.scene) {
      const gl = this.scene.renderer.getContext();
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    }
  }

  dispose() {
    this.observer.disconnect();
    this.scene?.dispose();
    this.page.root.remove();
  }

  // ------------------------------------------------------------------------------------ inside

  #kind() {
    return this.scale?.signed ? "diverging" : "sequential";
  }

  #showColours() {
    this.scale = this.map && scaleOf(this.map, this.scaleChoice);
    const signed = Boolean(this.scale?.signed), name = this.colours[this.#kind()];
    offerColours(this.page.display.colours, signed, name);
    this.scene?.setColours(name, signed);
    this.#showRange();
  }

  #showRange() {
    if (!this.scale?.extremes) return;
    showScale(this.page.foot, this.scale, this.colours[this.#kind()], this.share, this.opacity);
    this.scene?.setRange(this.scale.limits, thresholdOf(this.scale, this.share));
  }

  #say(problem = "") {
    const empty = this.map ? "" : this.options.emptyText ?? "No map yet.";
    const text = (this.scene ? "" : NO_WEBGL) || problem || this.map?.message || empty;
    this.page.message.textContent = text;
    this.page.message.hidden = text === "";
  }

  #describe() {
    const strongest = this.map?.extremes && !this.map.message ? strongestAreas(this.map, this.geometry) : [];
    const list = strongest.map((a) => `${a.name} ${a.side} ${number(a.mean)}`).join(", ");
    const units = this.map?.units ? ` (${this.map.units})` : "";
    const summary = list ? `Strongest areas${units}: ${list}.` : "";
    if (this.page.summary.textContent !== summary) this.page.summary.textContent = summary;
    const simulated = this.map?.simulated ? " Simulated data." : "";
    const title = this.map?.title ? `${this.map.title}.` : "No map.";
    const surface = this.geometry.surfaces.find((s) => s.name === this.scene?.surface)?.title ?? "";
    const outlines = this.outlines ? ` Outlines of ${OUTLINES[this.outlines]}.` : "";
    this.page.canvas.setAttribute(
      "aria-label",
      `Both hemispheres, ${surface.toLowerCase()} surface, ${this.view} view.${outlines} ${title}${simulated} ${summary}`,
    );
  }

  request() {
    if (this.frame || !this.scene) return;
    this.frame = requestAnimationFrame(() => this.#frame());
  }

  #frame() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { stage, labels } = this.page;
    if (!this.scene || stage.clientWidth === 0) return;
    for (const [key, run] of [...this.animations]) if (run(performance.now())) this.animations.delete(key);
    this.scene.draw(stage.clientWidth, stage.clientHeight, Math.min(window.devicePixelRatio || 1, 2));
    this.stats.draws += 1;
    for (const [side, label] of Object.entries(labels)) {
      const { x, bottom } = this.scene.boxes[side];
      label.style.left = `${x}px`;
      label.style.top = `${Math.min(bottom + 2, stage.clientHeight - 20)}px`;
    }
    if (this.animations.size) this.request();
  }

  #animate(key, update) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches || this.page.stage.clientWidth === 0;
    const start = performance.now();
    let last = start;
    const run = (now) => {
      // where it should be when this frame is seen: as long after now as the last one was before
      const share = still ? 1 : Math.min((2 * now - last - start) / ANIMATION_MS, 1);
      last = now;
      update(share < 1 ? share * share * (3 - 2 * share) : 1);
      return share >= 1;
    };
    run.end = () => update(1);
    this.animations.set(key, run);
    if (still && run(start)) this.animations.delete(key);
    this.request();
  }

  #finish(key) {
    this.animations.get(key)?.end();
    this.animations.delete(key);
  }

  #listen() {
    const { canvas, stage, tooltip } = this.page;
    this.observer = new ResizeObserver(() => this.request());
    this.observer.observe(stage);
    this.page.display.node.addEventListener("toggle", () => this.scene?.prepareOutlines(), { once: true });
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = { x: event.clientX, y: event.clientY, moved: 0 };
      canvas.setPointerCapture(event.pointerId);
      tooltip.hidden = true;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (last) {
        const dx = event.clientX - last.x, dy = event.clientY - last.y;
        last = { x: event.clientX, y: event.clientY, moved: last.moved + Math.abs(dx) + Math.abs(dy) };
        this.#turnBy(dx * 0.008, dy * 0.008);
      } else this.#hover(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointerup", (event) => {
      const hit = last && last.moved < 4 ? this.at(event.offsetX, event.offsetY) : null;
      if (hit) this.options.onPick?.(hit);
      last = null;
    });
    canvas.addEventListener("pointercancel", () => (last = null));
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      tooltip.hidden = true;
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
      event.preventDefault();
      this.scene?.zoomBy(Math.exp(-event.deltaY * 0.002));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this.request());
  }

  #turnBy(right, down) {
    if (!this.scene || this.scene.surface === "flat") return;
    this.#finish("turn");
    this.scene.rotate(right, down);
    this.page.view.press(null);
  }

  #key(event) {
    const step = 0.17;
    const presets = Object.keys(PRESETS);
    const actions = {
      ArrowLeft: () => this.#turnBy(-step, 0), ArrowRight: () => this.#turnBy(step, 0),
      ArrowUp: () => this.#turnBy(0, -step), ArrowDown: () => this.#turnBy(0, step),
      "+": () => this.scene?.zoomBy(1.25), "=": () => this.scene?.zoomBy(1.25), "-": () => this.scene?.zoomBy(0.8),
      0: () => this.reset(), Home: () => this.reset(),
      "[": () => this.setThreshold(this.share - 0.05), "]": () => this.setThreshold(this.share + 0.05),
    };
    presets.forEach((name, i) => (actions[i + 1] = () => this.scene?.surface !== "flat" && this.setView(name)));
    if (!actions[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  /** One look at what is under the pointer in each frame, however often the pointer moves. */
  #hover(x, y) {
    const waiting = this.pointer;
    this.pointer = { x, y };
    if (waiting) return;
    requestAnimationFrame(() => {
      const place = this.pointer;
      this.pointer = null;
      if (place && this.scene) this.#showHover(place.x, place.y);
    });
  }

  #showHover(x, y) {
    const { tooltip, stage } = this.page;
    const hit = this.at(x, y);
    if (!hit) {
      tooltip.hidden = true;
      return;
    }
    const networks = hit.network ? `${hit.network} network${hit.network17 ? ` (${hit.network17})` : ""}` : "";
    const value = Number.isNaN(hit.value) ? "no value here" : `${number(hit.value)} ${this.map.units}`.trim();
    const where = hit.area ? `${hit.area}, ${SIDE_NAMES[hit.side]}` : SIDE_NAMES[hit.side];
    placeTooltip(tooltip, stage, x, y, [where, ...(networks ? [networks] : []), value]);
  }
}
