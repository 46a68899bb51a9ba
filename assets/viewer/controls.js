// The page elements around the canvas: title, buttons, panes, colour bars, threshold, tooltip. Knows nothing of WebGL.
import { gradient } from "./colormaps.js";
import { number } from "./data.js";
import { buildDisplay } from "./display.js";
import { make } from "./elements.js";

const HELP = "Drag or arrow keys turn, + and − zoom, 1 to 5 choose a view.";
const HELP_PICK = "A click, or Enter for the strongest area, tells of a place.";
const HELP_LIST = "M chooses the next map, Shift and M the one before.";

/** A row of buttons of which one is pressed, or a list where there is no room (the style sheet shows one of them).
 * `choose(name)` is called on a choice; `.press(name)` shows it. */
function choice(label, entries, choose) {
  const group = make("div", "mv-choice mv-roomy", { role: "group", "aria-label": label });
  const list = make("select", "mv-tight", { "aria-label": label }, entries.map(({ name, title }) => make("option", "", { value: name, text: title })));
  list.addEventListener("change", () => choose(list.value));
  const buttons = {};
  for (const { name, title } of entries) {
    buttons[name] = make("button", "", { type: "button", "aria-pressed": "false", text: title });
    buttons[name].addEventListener("click", () => choose(name));
    group.append(buttons[name]);
  }
  const press = (chosen) => {
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", String(name === chosen));
    list.value = chosen ?? "";
  };
  const enable = (on) => [...Object.values(buttons), list].forEach((control) => (control.disabled = !on));
  return { nodes: [group, list], press, enable };
}

/** Build everything inside `element`; `on` has the callbacks surface, view, zoom, reset, threshold and those of the display. */
export function buildControls(element, { surfaces, presets, parcellations, height, theme, credit, picks, lists, detail }, on) {
  const title = make("div", "mv-title", { text: "Cortex" });
  const badge = make("span", "mv-badge", { text: "Simulated", hidden: "" });
  const surface = choice("Surface", surfaces, on.surface);
  const view = choice("View", presets, on.view);
  const tool = (label, text, run) => {
    const button = make("button", "", { type: "button", "aria-label": label, title: label, text });
    button.addEventListener("click", run);
    return button;
  };
  const tools = make("div", "mv-choice", { role: "group", "aria-label": "Zoom" }, [
    tool("Zoom out", "−", () => on.zoom(1 / 1.25)), tool("Zoom in", "+", () => on.zoom(1.25)),
    tool("Reset the view", "⟲", on.reset),
  ]);
  const canvas = make("canvas", "mv-canvas", { tabindex: "0", role: "img", "aria-label": "Cortex" });
  const panes = [buildPane(), buildPane()];
  const tooltip = make("div", "mv-tooltip", { hidden: "", "aria-hidden": "true" });
  const busy = buildBusy(on.giveUp);
  const stage = make("div", "mv-stage", { style: `--mv-height:${height}px` }, [canvas, panes[0].node, tooltip, busy.node]);
  const help = [HELP, ...(picks ? [HELP_PICK] : []), ...(lists ? [HELP_LIST] : []), credit].join(" ");
  const display = buildDisplay(parcellations, on);
  const foot = buildFoot(panes[0].scale, [about(help), display.node], on);
  const summary = make("p", "mv-summary", { "aria-live": "polite" });
  const root = make("section", "mv-viewer", { "data-theme": theme, "aria-label": "Cortex viewer" }, [
    make("div", "mv-head", {}, [
      make("div", "mv-heading", {}, [title, badge]), ...surface.nodes, ...view.nodes, tools,
    ]),
    stage, foot.node, ...detail, summary, make("p", "mv-credit", { text: help }),
  ]);
  element.replaceChildren(root);
  const compare = (on) => {
    root.classList.toggle("mv-compared", on);
    if (on) {
      stage.insertBefore(panes[1].node, tooltip);
      foot.scales.append(panes[1].scale.node);
    } else {
      panes[1].node.remove();
      panes[1].scale.node.remove();
    }
  };
  return { root, title, badge, surface, view, canvas, panes, message: panes[0].message, tooltip, stage, foot, display, summary, compare, busy };
}

/** What is being computed: how much of it is done, the seconds it has taken, and a button that gives it up. */
function buildBusy(giveUp) {
  const what = make("span", "mv-busy-what", { role: "status" }), clock = make("output", "", { "aria-hidden": "true" });
  const spinner = make("i", "mv-spinner", { role: "progressbar", "aria-label": "Computing" });
  const button = make("button", "", { type: "button", text: "Cancel" });
  const node = make("div", "mv-busy", { hidden: "" }, [spinner, what, clock, ...(giveUp ? [button] : [])]);
  let ticking = 0, began = 0, share = null;
  const tick = () => {
    const done = share === null ? "" : `${Math.floor(100 * share)}% · `;
    clock.textContent = `${done}${Math.floor((performance.now() - began) / 1000)} s`;
  };
  button.addEventListener("click", () => {
    button.disabled = true; // until what runs has come to its next step
    giveUp();
  });
  const say = (told) => {
    if (told && !ticking) {
      began = performance.now();
      ticking = setInterval(tick, 250);
    } else if (!told) {
      clearInterval(ticking);
      ticking = 0;
      button.disabled = false;
    }
    node.hidden = !told;
    share = told?.share ?? null;
    if (what.textContent !== (told?.text ?? "")) what.textContent = what.title = told?.text ?? "";
    if (share === null) spinner.removeAttribute("aria-valuenow");
    else spinner.setAttribute("aria-valuenow", String(Math.floor(100 * share)));
    tick();
  };
  return { node, say };
}

/** What stands over one map, in coordinates of its part of the canvas, and its colour bar. */
function buildPane() {
  const title = make("div", "mv-pane-title");
  const names = make("div", "mv-names", { "aria-hidden": "true" });
  const mark = make("div", "mv-mark", { hidden: "", "aria-hidden": "true" });
  const message = make("div", "mv-message", { role: "status", hidden: "" });
  const labels = Object.fromEntries(
    [["left", "Left"], ["right", "Right"]].map(([side, text]) => [side, make("div", "mv-side", { text, "aria-hidden": "true" })]),
  );
  const node = make("div", "mv-pane", {}, [title, labels.left, labels.right, names, mark, message]);
  return { node, title, names, mark, message, labels, scale: buildScale() };
}

function buildScale() {
  const hidden = make("div", "mv-hidden"), bar = make("div", "mv-bar", {}, [hidden]);
  const ticks = make("div", "mv-ticks"), units = make("div", "mv-units");
  return { node: make("div", "mv-scale", {}, [make("div", "mv-ruler", {}, [bar, ticks]), units]), bar, hidden, ticks, units };
}

/** Keys and credit, folded away where there is no room for them below the cortex. */
function about(help) {
  const button = make("summary", "", { "aria-label": "Keys and sources", title: "Keys and sources", text: "?" });
  const node = make("details", "mv-about", {}, [button, make("p", "", { text: help })]);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !node.open) return;
    event.stopPropagation();
    node.open = false;
  });
  return node;
}

function buildFoot(first, menus, on) {
  const threshold = make("input", "", { type: "range", min: "0", max: "1000", value: "0", "aria-label": "Threshold" });
  const level = make("output", "", { text: "off" });
  threshold.addEventListener("input", () => on.threshold(Number(threshold.value) / 1000));
  const scales = make("div", "mv-scales", {}, [first.node]);
  const ofMap = [scales, make("label", "mv-field", {}, [make("span", "", { text: "Hide below" }), threshold, level])];
  const show = (on) => ofMap.forEach((part) => (part.hidden = !on));
  show(false);
  return { ...first, node: make("div", "mv-foot", {}, [...ofMap, make("div", "mv-menus", {}, menus)]), show, scales, threshold, level };
}

/** Draw the colour bar of a scale (`scaleOf`), its numbers, its units and the part that the threshold hides. */
export function showScale(part, scale, colours, share, opacity) {
  const [low, high] = scale.limits;
  const veil = `rgb(162 162 162 / ${1 - opacity})`; // the grey of the cortex, as it shows through the map
  part.bar.style.backgroundImage = `linear-gradient(${veil}, ${veil}), ${gradient(colours)}`;
  const beyond = { low: scale.extremes[0] < low, high: scale.extremes[1] > high };
  const flat = low === high;
  part.ticks.replaceChildren(
    ...(flat ? [0.5] : [0, 0.25, 0.5, 0.75, 1]).map((at) => {
      const prefix = flat ? "" : at === 0 && beyond.low ? "≤ " : at === 1 && beyond.high ? "≥ " : "";
      const tick = make("span", "", { text: prefix + number(low + at * (high - low)) });
      tick.style.left = `${at * 100}%`;
      tick.dataset.end = at === 0 ? "first" : at === 1 ? "last" : at === 0.5 ? "middle" : "quarter";
      return tick;
    }),
  );
  part.units.textContent = scale.units;
  part.units.title = scale.units;
  const [from, to] = scale.signed ? [0.5 - share / 2, 0.5 + share / 2] : [0, share];
  Object.assign(part.hidden.style, { left: `${from * 100}%`, width: `${(to - from) * 100}%` });
}

/** The value that a position of the slider (0..1) stands for; below everything at 0. */
export function thresholdOf(scale, share) {
  if (share === 0) return -1e30;
  const [low, high] = scale.limits;
  return scale.signed ? share * high : low + share * (high - low);
}

/** Put the tooltip beside the pointer, inside the stage. */
export function placeTooltip(tooltip, stage, x, y, lines) {
  tooltip.replaceChildren(...lines.map((text, i) => make("div", i === 0 ? "mv-strong" : "", { text })));
  tooltip.hidden = false;
  const left = x + 16 + tooltip.offsetWidth > stage.clientWidth ? x - 12 - tooltip.offsetWidth : x + 16;
  const top = Math.min(Math.max(y - 12, 4), stage.clientHeight - tooltip.offsetHeight - 4);
  Object.assign(tooltip.style, { left: `${Math.max(left, 4)}px`, top: `${top}px` });
}
