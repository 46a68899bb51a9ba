// Hands on the cortex: drag, wheel, click, hover, keys. Calls what viewer.js offers to any caller.
import { placeTooltip } from "./controls.js";
import { number } from "./data.js";
import { PRESETS } from "./layout.js";

const SIDE_NAMES = { left: "left hemisphere", right: "right hemisphere" };
const TURN = 0.008; // radians by pixel
const KEY_TURN = 0.17;

export function listen(viewer) {
  const { canvas, tooltip, root } = viewer.page;
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
      viewer.turnBy(dx * TURN, dy * TURN);
    } else hover(viewer, event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointerup", (event) => {
    const hit = last && last.moved < 4 && event.button === 0 ? viewer.at(event.offsetX, event.offsetY) : null;
    last = null;
    if (hit) viewer.pick(hit.side, hit.vertex);
  });
  canvas.addEventListener("pointercancel", () => (last = null));
  canvas.addEventListener("pointerleave", () => {
    viewer.pointer = null;
    tooltip.hidden = true;
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
    event.preventDefault();
    viewer.scene?.zoomBy(Math.exp(-event.deltaY * 0.002));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => key(viewer, event));
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => viewer.request());
  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !viewer.picked) return;
    event.stopPropagation();
    viewer.close();
    canvas.focus();
  });
}

function key(viewer, event) {
  const turn = (right, down) => () => viewer.turnBy(right * KEY_TURN, down * KEY_TURN);
  const actions = {
    ArrowLeft: turn(-1, 0), ArrowRight: turn(1, 0), ArrowUp: turn(0, -1), ArrowDown: turn(0, 1),
    "+": () => viewer.scene?.zoomBy(1.25), "=": () => viewer.scene?.zoomBy(1.25), "-": () => viewer.scene?.zoomBy(0.8),
    0: () => viewer.reset(), Home: () => viewer.reset(), Enter: () => viewer.pickStrongest(),
    "[": () => viewer.setThreshold(viewer.share - 0.05), "]": () => viewer.setThreshold(viewer.share + 0.05),
    m: () => viewer.options.onNextMap?.(false), M: () => viewer.options.onNextMap?.(true),
  };
  Object.keys(PRESETS).forEach((name, i) => (actions[i + 1] = () => viewer.scene?.surface !== "flat" && viewer.setView(name)));
  if (!actions[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  actions[event.key]();
}

/** One look at what is under the pointer in each frame, however often the pointer moves. */
function hover(viewer, x, y) {
  const waiting = viewer.pointer;
  viewer.pointer = { x, y };
  if (waiting) return;
  requestAnimationFrame(() => {
    const place = viewer.pointer;
    viewer.pointer = null;
    if (place && viewer.scene) showHover(viewer, place.x, place.y);
  });
}

function showHover(viewer, x, y) {
  const { tooltip, stage } = viewer.page;
  const hit = viewer.at(x, y);
  if (!hit) {
    tooltip.hidden = true;
    return;
  }
  const networks = hit.network ? `${hit.network} network${hit.network17 ? ` (${hit.network17})` : ""}` : "";
  const value = Number.isNaN(hit.value) ? "no value here" : `${number(hit.value)} ${viewer.maps[hit.pane].units}`.trim();
  const where = hit.area ? `${hit.area}, ${SIDE_NAMES[hit.side]}` : SIDE_NAMES[hit.side];
  placeTooltip(tooltip, stage, x, y, [where, ...(networks ? [networks] : []), value]);
}
