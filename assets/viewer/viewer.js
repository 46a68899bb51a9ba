// createViewer(element, geometry, options): the cortex with one map on it, or two. Needs no framework and no network.
import { buildControls, showScale, thresholdOf } from "./controls.js";
import { addPatches, commonScale, decodeGeometry, decodeValues, number, scaleOf } from "./data.js";
import { buildDetail } from "./detail.js";
import { offerColours, OUTLINES } from "./display.js";
import { PRESETS } from "./layout.js";
import { Animations } from "./motion.js";
import { Names } from "./names.js";
import { listen } from "./pointer.js";
import { CortexScene } from "./scene.js";
import { describe } from "./summary.js";

const NO_WEBGL =
  "This browser cannot draw the cortex: WebGL 2 is not available. Turn on hardware acceleration or try another " +
  "browser. The strongest areas are listed below.";

/**
 * @param {HTMLElement} element  emptied and filled
 * @param {ArrayBuffer} buffer  what geometry_payload made
 * @param {{height?: number, values?: string, patches?: string, view?: string, theme?: "inherit"|"auto"|"light"|"dark",
 *   emptyText?: string, onPick?: (place: object) => void, onClose?: () => void, onScan?: (scan: number, run: string) => void,
 *   onNextMap?: (back: boolean) => void, onGiveUp?: () => void}} options
 *   `onPick` is given what was clicked; its answer is shown with `setDetail`. `onGiveUp` ends what `setBusy` shows
 * @returns {Promise<Viewer>}
 */
export async function createViewer(element, buffer, options = {}) {
  const started = performance.now();
  const viewer = new Viewer(element, await decodeGeometry(buffer), options);
  viewer.setPatches(options.patches ?? null);
  viewer.setValues(options.values ?? null);
  viewer.drawNow();
  viewer.stats.firstDrawMs = performance.now() - started;
  viewer.scene?.prepareSurfaces();
  return viewer;
}

class Viewer {
  constructor(element, geometry, options) {
    this.geometry = geometry;
    this.options = options;
    this.stats = { draws: 0, updates: 0 };
    this.maps = [null];
    this.scales = [null];
    this.share = 0;
    this.scaleChoice = "auto";
    this.common = true;
    this.colours = { sequential: "viridis", diverging: "blue-red" };
    this.opacity = 1;
    this.outlines = "";
    this.picked = null;
    this.problem = "";
    this.names = new Names(this);
    this.animations = new Animations(() => this.page.stage.clientWidth === 0, () => this.request());
    this.detail = buildDetail(() => this.close(), (scan, run) => options.onScan?.(scan, run));
    this.page = buildControls(
      element,
      {
        surfaces: geometry.surfaces, parcellations: geometry.parcellations, credit: geometry.credit,
        height: options.height ?? 480, detail: this.detail.nodes, picks: Boolean(options.onPick), lists: Boolean(options.onNextMap),
        presets: Object.entries(PRESETS).map(([name, { title }]) => ({ name, title })),
        theme: options.theme ?? "inherit",
      },
      {
        surface: (name) => this.setSurface(name), view: (name) => this.setView(name),
        zoom: (factor) => this.scene?.zoomBy(factor), reset: () => this.reset(),
        threshold: (share) => this.setThreshold(share), colours: (name) => this.setColours(name),
        scale: (choice) => this.setScale(choice), opacity: (share) => this.setOpacity(share),
        outlines: (key) => this.setOutlines(key), names: (on) => this.setNames(on), common: (on) => this.setCommonScale(on),
        giveUp: options.onGiveUp,
      },
    );
    this.#openScene();
    this.animations.still = Boolean(this.scene?.software);
    this.view = PRESETS[options.view] ? options.view : "lateral";
    this.page.surface.press(geometry.surfaces[0].name);
    this.page.view.press(this.view);
    this.scene?.startTurn(this.view);
    this.scene?.turn(1);
    listen(this);
    this.observer = new ResizeObserver(() => this.request());
    this.observer.observe(this.page.stage);
    this.page.display.node.addEventListener("toggle", () => this.scene?.prepareOutlines(), { once: true });
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

  get map() { return this.maps[0]; }
  get scale() { return this.scales[0]; }

  // ------------------------------------------------------------------ what a caller may change

  /** Show a map (`values_payload`), two beside each other (`pair_payload`), or bare cortex (null). Camera, surface,
   * threshold and display settings stay. */
  setValues(payload) {
    this.problem = "";
    try {
      this.maps = decodeValues(payload, this.geometry);
    } catch (error) {
      this.maps = [null];
      this.problem = error.message;
    }
    this.stats.updates += 1;
    const { title, badge, foot, panes, compare } = this.page, compared = this.maps.length > 1;
    if (compared !== this.page.root.classList.contains("mv-compared")) compare(compared);
    this.scene?.setCompared(compared);
    this.#say();
    title.textContent = this.maps.map((map) => map?.title || "Cortex").join(" beside ");
    this.maps.forEach((map, i) => Object.assign(panes[i].title, { textContent: map?.title ?? "", title: map?.title ?? "" }));
    badge.hidden = !this.maps.some((map) => map?.simulated);
    foot.show(this.maps.some((map) => map?.extremes));
    this.maps.forEach((map, i) => this.scene?.setMap(i, map));
    this.#showColours();
    this.#describe();
    this.names.soon();
  }

  /** Surface by name; the shape changes smoothly. A flat surface is seen from the side it faces. */
  setSurface(name) {
    if (!this.scene || !this.geometry.surfaces.some((s) => s.name === name) || name === this.scene.surface) return;
    this.animations.finish("morph");
    if (name === "flat" || this.scene.surface === "flat") this.setView("lateral");
    this.scene.startMorph(name);
    this.scene.holdFit = false;
    this.page.surface.press(name);
    this.page.view.enable(name !== "flat");
    this.animations.start("morph", (share) => this.scene.step(share));
    this.#describe();
  }

  /** One of lateral, medial, dorsal, ventral, posterior. */
  setView(name) {
    if (!this.scene || !PRESETS[name]) return;
    this.animations.finish("turn");
    this.view = name;
    this.page.view.press(name);
    this.scene.startTurn(name);
    this.animations.start("turn", (share) => this.scene.turn(share));
    this.#describe();
  }

  /** Turn by angles (radians) about the screen's vertical and horizontal. */
  turnBy(right, down) {
    if (!this.scene || this.scene.surface === "flat") return;
    this.animations.finish("turn");
    this.scene.rotate(right, down);
    this.page.view.press(null);
  }

  /** Hide what is below a share (0..1) of the colour bar; by size for a signed map. */
  setThreshold(share) {
    this.share = Math.min(Math.max(share, 0), 1);
    this.page.foot.threshold.value = String(Math.round(this.share * 1000));
    this.#showRange();
  }

  setColours(name) {
    this.colours[this.#kind(this.scale)] = name;
    this.#showColours();
  }

  /** "auto" (as the map was sent), "sequential" or "symmetric" (around 0). */
  setScale(choice) {
    this.scaleChoice = choice;
    this.page.display.scale.value = choice;
    this.#showColours();
  }

  /** Whether two maps that are compared have the same limits; without effect where their units differ. */
  setCommonScale(on) {
    this.common = on;
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

  /** Borders of a parcellation: "network" (Yeo-7), "network17", "area" (HCP-MMP), "patch" (of the encoder) or "" (none). */
  setOutlines(key) {
    if (key && !this.geometry.parcellations[key]) return;
    this.outlines = key;
    this.page.display.outlines.value = key;
    this.page.display.boxes.names.disabled = !key;
    this.scene?.setOutlines(key);
    this.#say();
    this.#describe();
    this.names.soon();
  }

  /** Whether the names of the outlined parcels are written. */
  setNames(on) {
    this.names.wanted = on;
    this.page.display.boxes.names.checked = on;
    this.names.soon();
  }

  /** The encoder's patches (`patches_payload`), to be outlined; null for none. */
  setPatches(payload) {
    if (!addPatches(payload, this.geometry)) return;
    this.page.display.offer();
    this.scene?.forgetOutlines("patch");
    this.#say();
    this.names.soon();
  }

  /** Ask for what happened at a mesh vertex, or in its parcel where outlines are drawn (`options.onPick`). */
  pick(side, vertex) {
    if (!this.options.onPick) return;
    this.picked = { side, vertex, outlines: this.outlines };
    this.detail.wait();
    this.page.root.classList.add("mv-told");
    this.#placeMark();
    this.request();
    this.options.onPick({ side, vertex, outlines: this.outlines });
  }

  /** Pick the peak of the strongest area, then of the next. */
  pickStrongest() {
    const areas = this.strongest ?? [];
    if (areas.length === 0) return;
    const now = areas.findIndex((a) => a.side === this.picked?.side && a.vertex === this.picked.vertex);
    const next = areas[(now + 1) % areas.length];
    this.pick(next.side, next.vertex);
  }

  /** Show the answer to `onPick` (JSON of mindviz.session.time_courses.told); null closes it. Too late an answer is dropped. */
  setDetail(payload) {
    if (!payload || !this.picked) {
      if (this.picked) this.close();
      return;
    }
    const told = typeof payload === "string" ? JSON.parse(payload) : payload;
    const { side, vertex, outlines } = this.picked;
    if (told.side !== side || told.vertex !== vertex || (told.outlines ?? outlines) !== outlines) return;
    this.detail.show(told);
  }

  /** No answer to `onPick` will come. */
  untold() {
    if (this.picked && this.detail.waits) this.setDetail({ ...this.picked, message: "No answer came. Click again to ask once more." });
  }

  /** Show what is being computed, `{text, share}` (`share` is null where it is not known how much is done); null for nothing. */
  setBusy(told) { this.page.busy.say(told); }

  /** Close what is told of a place. */
  close() {
    if (!this.picked) return;
    this.picked = null;
    if (this.detail.node.contains(document.activeElement)) this.page.canvas.focus({ preventScroll: true });
    this.detail.hide();
    this.page.root.classList.remove("mv-told");
    this.#placeMark();
    this.options.onClose?.();
  }

  reset() {
    if (!this.scene) return;
    this.scene.zoom = 1;
    this.setView(this.scene.surface === "flat" ? "lateral" : this.view);
  }

  /** What is under a place of the canvas, in CSS pixels: `{side, vertex, pane, value, area, network}` or null. */
  at(x, y) {
    const hit = this.scene?.pick(x, y);
    if (!hit) return null;
    const name = (key) => {
      const labels = this.geometry.arrays[`${hit.side}/${key}`];
      return labels ? this.geometry.parcellations[key].names[labels[hit.vertex]] : "";
    };
    const value = this.maps[hit.pane] ? this.maps[hit.pane][hit.side][hit.vertex] : NaN;
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
    this.names.stop();
    this.detail.dispose();
    this.scene?.dispose();
    this.page.root.remove();
  }

  // ------------------------------------------------------------------------------------ inside

  #kind(scale) {
    return scale?.signed ? "diverging" : "sequential";
  }

  #showColours() {
    const own = this.maps.map((map) => map && scaleOf(map, this.scaleChoice));
    const { both, boxes, colours } = this.page.display;
    both.hidden = own.length < 2;
    const shareable = own.length > 1 && own.every((scale) => scale?.extremes) && own[0].units === own[1].units;
    boxes.common.disabled = !shareable;
    boxes.common.checked = shareable && this.common;
    const common = shareable && this.common ? commonScale(own) : null;
    this.scales = own.map((scale) => scale && { ...scale, ...common });
    const kind = this.#kind(this.scale);
    offerColours(colours, kind === "diverging", this.colours[kind]);
    this.scales.forEach((scale, i) => this.scene?.setColours(i, this.colours[this.#kind(scale)], Boolean(scale?.signed)));
    this.#showRange();
  }

  #showRange() {
    const levels = [];
    this.scales.forEach((scale, i) => {
      const part = this.page.panes[i].scale;
      part.node.classList.toggle("mv-empty", !scale?.extremes);
      if (!scale?.extremes) return;
      showScale(part, scale, this.colours[this.#kind(scale)], this.share, this.opacity);
      this.scene?.setRange(i, scale.limits, thresholdOf(scale, this.share));
      levels.push(number(thresholdOf(scale, this.share)));
    });
    this.page.foot.level.textContent = this.share === 0 ? "off" : [...new Set(levels)].join(" | ");
  }

  #say() {
    const empty = this.options.emptyText ?? "No map yet.";
    const labels = ["left", "right"].map((side) => this.geometry.arrays[`${side}/${this.outlines}`]);
    const bare = this.outlines && !labels.some((side) => side.some((label) => label > 0));
    const lines = bare ? `${OUTLINES[this.outlines]}: no vertex lies in a parcel, so there is no border to draw.` : "";
    this.maps.forEach((map, i) => {
      const text = (this.scene ? "" : NO_WEBGL) || this.problem || map?.message || (map ? lines : empty);
      Object.assign(this.page.panes[i].message, { textContent: text, hidden: text === "" });
    });
  }

  #describe() {
    this.strongest = describe(this);
  }

  request() {
    if (this.frame || !this.scene) return;
    this.frame = requestAnimationFrame(() => this.#frame());
  }

  #frame() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { stage, panes } = this.page;
    if (!this.scene || stage.clientWidth === 0) return;
    this.animations.run();
    this.scene.draw(stage.clientWidth, stage.clientHeight, Math.min(window.devicePixelRatio || 1, 2));
    this.stats.draws += 1;
    for (const { labels } of panes) {
      for (const [side, label] of Object.entries(labels)) {
        const { x, bottom } = this.scene.boxes[side];
        label.style.left = `${x}px`;
        label.style.top = `${Math.min(bottom + 2, stage.clientHeight - 20)}px`;
      }
    }
    this.#placeMark();
    this.names.soon();
    if (this.animations.size) this.request();
  }

  /** The ring around what was clicked; gone while it is turned away. */
  #placeMark() {
    const at = this.picked && this.scene?.size ? this.scene.project(this.picked.side, this.picked.vertex) : null;
    for (const { mark } of this.page.panes) {
      mark.hidden = !at?.facing;
      if (at) Object.assign(mark.style, { left: `${at.x}px`, top: `${at.y}px` });
    }
  }
}
