// The names of the outlined parcels on the cortex: those that are in sight, placed once it stands still.
import { strongestAreas } from "./data.js";
import { make } from "./elements.js";
import { parcelPlaces, withoutOverlap } from "./labels.js";

const AFTER_MS = 160; // how long the cortex has to stand still
const STEP = 2; // pixels of the screen for one that is looked at
const MANY = 40; // of more parcels than so many, only the strongest of the map are named
const NAMED = 12;

export class Names {
  constructor(viewer) {
    this.viewer = viewer;
    this.wanted = false;
    this.placedAt = "";
  }

  /** Place them when nothing has changed for a moment; what has moved meanwhile is not named. */
  soon() {
    clearTimeout(this.waiting);
    const { scene, outlines, page } = this.viewer;
    const on = this.wanted && outlines && scene?.size;
    const { quaternion } = scene?.hemispheres.left.group ?? {};
    const where = on ? JSON.stringify([quaternion, scene.zoom, scene.surface, scene.size, scene.stacked, outlines]) : "";
    if (where !== this.placedAt) page.panes.forEach(({ names }) => (names.hidden = true));
    if (on) this.waiting = setTimeout(() => this.place(where), AFTER_MS);
  }

  /** Write nothing any more. */
  stop() {
    clearTimeout(this.waiting);
    this.wanted = false;
  }

  /** Write the names at once. `where` tells what they were placed for. */
  place(where = "") {
    const { scene, outlines, geometry, maps, page, animations } = this.viewer;
    if (!scene?.size || !outlines || animations.size) return;
    this.placedAt = where;
    const half = geometry.vertices, { names } = geometry.parcellations[outlines];
    const [left, right] = ["left", "right"].map((side) => geometry.arrays[`${side}/${outlines}`]);
    const places = parcelPlaces(scene.seen(STEP), (vertex) => {
      const label = vertex < half ? left[vertex] : right[vertex - half];
      return label && label + (vertex < half ? 0 : names.length);
    });
    maps.forEach((map, i) => {
      const best = names.length > MANY ? this.#strongest(map, places, names.length) : places;
      this.#write(page.panes[i].names, best, names);
    });
  }

  /** Of the places in sight, those of the parcels in which the map is strongest; without a map the largest. */
  #strongest(map, places, count) {
    if (!map?.extremes) return places.slice(0, NAMED);
    const { geometry, outlines } = this.viewer;
    const ranked = strongestAreas(map, geometry, Infinity, outlines, 1);
    const rank = new Map(ranked.map((a, i) => [a.label + (a.side === "left" ? 0 : count), i]));
    const known = places.filter(({ parcel }) => rank.has(parcel));
    return known.sort((a, b) => rank.get(a.parcel) - rank.get(b.parcel)).slice(0, NAMED);
  }

  #write(layer, places, names) {
    const { width, height } = this.viewer.scene.size, { head } = this.viewer.scene;
    layer.hidden = false;
    const spans = places.map(({ parcel }) => make("span", "", { text: names[parcel % names.length] }));
    layer.replaceChildren(...spans);
    const boxes = places.map(({ x, y }, i) => ({
      span: spans[i], x: (x + 0.5) * STEP, y: (y + 0.5) * STEP, width: spans[i].offsetWidth, height: spans[i].offsetHeight,
    }));
    const kept = withoutOverlap(boxes, width, height);
    layer.replaceChildren(...kept.map(({ span }) => span));
    for (const { span, x, y } of kept) Object.assign(span.style, { left: `${x}px`, top: `${head + y}px` });
  }
}
