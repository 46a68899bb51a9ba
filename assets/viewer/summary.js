// What the cortex shows, in words: the strongest areas below it, and the name of the canvas.
import { number, strongestAreas } from "./data.js";
import { OUTLINES } from "./display.js";
import { make } from "./elements.js";

const ONE = 5, EACH = 3; // areas of a map alone, and of each of two

/** Write the text alternative of what `viewer` shows. Returns the strongest areas of the (first) map. */
export function describe(viewer) {
  const { maps, page, options } = viewer, parts = [];
  const areas = maps.map((map) => areasOf(viewer, map));
  areas.forEach((found, i) => {
    if (found.length === 0) return;
    parts.push(`${parts.length ? " " : ""}${heading(maps, i)}`);
    found.forEach((area, k) => parts.push(...(k ? [", "] : []), { area, text: `${area.name} ${area.side} ${number(area.mean)}` }));
    parts.push(".");
  });
  const summary = parts.map((part) => part.text ?? part).join("");
  if (page.summary.textContent !== summary) {
    const node = (part) => (!part.text ? part : options.onPick ? areaButton(viewer, part.area, part.text) : part.text);
    page.summary.replaceChildren(...parts.map(node));
  }
  page.canvas.setAttribute("aria-label", `${picture(viewer)} ${summary}`);
  return areas[0];
}

const areasOf = ({ maps, geometry }, map) =>
  map?.extremes && !map.message ? strongestAreas(map, geometry, maps.length > 1 ? EACH : ONE) : [];

/** "left" is only ever said of a hemisphere, so two maps are called first and second. */
function heading(maps, i) {
  if (maps.length === 1) return `Strongest areas${maps[0].units ? ` (${maps[0].units})` : ""}: `;
  return i === 0 ? "Strongest areas of the first map: " : "Of the second: ";
}

function picture({ maps, geometry, scene, outlines, view }) {
  const simulated = maps.some((map) => map?.simulated) ? " Simulated data." : "";
  const titles = maps.map((map) => map?.title).filter(Boolean).join(", beside it ");
  const surface = geometry.surfaces.find((s) => s.name === scene?.surface)?.title ?? "";
  const drawn = outlines ? ` Outlines of ${OUTLINES[outlines]}.` : "";
  return `Both hemispheres, ${surface.toLowerCase()} surface, ${view} view.${drawn} ${titles ? `${titles}.` : "No map."}${simulated}`;
}

/** The name of an area, which a click or the keyboard asks for. */
function areaButton(viewer, area, text) {
  const button = make("button", "mv-area", { type: "button", text, title: "Tell of the strongest place of this area" });
  const focus = () => viewer.page.canvas.focus({ preventScroll: true }); // this list may be hidden now; Escape still closes
  button.addEventListener("click", () => (focus(), viewer.pick(area.side, area.vertex)));
  return button;
}
