// The page elements around the canvas: title, buttons, colour bar, threshold, tooltip. Knows nothing of WebGL.
import { COLORMAPS, gradient } from "./colormaps.js";
import { number } from "./data.js";

export function make(tag, className = "", attributes = {}, children = []) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

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

/** Build everything inside `element`; `on` has the callbacks surface, view, zoom, reset, threshold, colours. */
export function buildControls(element, { surfaces, presets, height, theme, credit }, on) {
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
  const labels = Object.fromEntries(
    [["left", "Left"], ["right", "Right"]].map(([side, text]) => [side, make("div", "mv-side", { text, "aria-hidden": "true" })]),
  );
  const tooltip = make("div", "mv-tooltip", { hidden: "", "aria-hidden": "true" });
  const message = make("div", "mv-message", { role: "status", hidden: "" });
  const stage = make("div", "mv-stage", { style: `height:${height}px` }, [
    canvas, labels.left, labels.right, tooltip, message,
  ]);
  const foot = buildFoot(on);
  const summary = make("p", "mv-summary", { "aria-live": "polite" });
  const root = make("section", "mv-viewer", { "data-theme": theme, "aria-label": "Cortex viewer" }, [
    make("div", "mv-head", {}, [
      make("div", "mv-heading", {}, [title, badge]), ...surface.nodes, ...view.nodes, tools,
    ]),
    stage, foot.node, summary,
  ]);
  root.append(make("p", "mv-credit", { text: `Drag or arrow keys turn, + and − zoom, 1 to 5 choose a view. ${credit}` }));
  element.replaceChildren(root);
  return { root, title, badge, surface, view, canvas, labels, tooltip, message, stage, foot, summary };
}

function buildFoot(on) {
  const bar = make("div", "mv-bar");
  const hidden = make("div", "mv-hidden");
  const ticks = make("div", "mv-ticks");
  const units = make("div", "mv-units");
  const threshold = make("input", "", { type: "range", min: "0", max: "1000", value: "0", "aria-label": "Threshold" });
  const level = make("output", "", { text: "off" });
  const colours = make("select", "", { "aria-label": "Colour map" });
  threshold.addEventListener("input", () => on.threshold(Number(threshold.value) / 1000));
  colours.addEventListener("change", () => on.colours(colours.value));
  bar.append(hidden);
  const node = make("div", "mv-foot", { hidden: "" }, [
    make("div", "mv-scale", {}, [bar, ticks]), units,
    make("label", "mv-field", {}, [make("span", "", { text: "Hide below" }), threshold, level]),
    make("label", "mv-field", {}, [make("span", "", { text: "Colours" }), colours]),
  ]);
  return { node, bar, hidden, ticks, units, threshold, level, colours };
}

/** Draw the colour bar, its numbers, its units and the part that the threshold hides. */
export function showScale(foot, map, colours, share) {
  const [low, high] = map.limits;
  foot.bar.style.backgroundImage = gradient(colours);
  const beyond = { low: map.extremes[0] < low, high: map.extremes[1] > high };
  const flat = low === high;
  foot.ticks.replaceChildren(
    ...(flat ? [0.5] : [0, 0.25, 0.5, 0.75, 1]).map((at) => {
      const prefix = flat ? "" : at === 0 && beyond.low ? "≤ " : at === 1 && beyond.high ? "≥ " : "";
      const tick = make("span", "", { text: prefix + number(low + at * (high - low)) });
      tick.style.left = `${at * 100}%`;
      tick.dataset.end = at === 0 ? "first" : at === 1 ? "last" : "";
      return tick;
    }),
  );
  foot.units.textContent = map.units;
  const [from, to] = map.signed ? [0.5 - share / 2, 0.5 + share / 2] : [0, share];
  Object.assign(foot.hidden.style, { left: `${from * 100}%`, width: `${(to - from) * 100}%` });
  foot.level.textContent = share === 0 ? "off" : number(thresholdOf(map, share));
}

/** The value that a position of the slider (0..1) stands for; below everything at 0. */
export function thresholdOf(map, share) {
  if (share === 0) return -1e30;
  const [low, high] = map.limits;
  return map.signed ? share * high : low + share * (high - low);
}

export function offerColours(select, signed, chosen) {
  const entries = Object.entries(COLORMAPS).filter(([, c]) => c.signed === signed);
  select.replaceChildren(...entries.map(([name, c]) => make("option", "", { value: name, text: c.title })));
  select.value = chosen;
}

/** Put the tooltip beside the pointer, inside the stage. */
export function placeTooltip(tooltip, stage, x, y, lines) {
  tooltip.replaceChildren(...lines.map((text, i) => make("div", i === 0 ? "mv-strong" : "", { text })));
  tooltip.hidden = false;
  const left = x + 16 + tooltip.offsetWidth > stage.clientWidth ? x - 12 - tooltip.offsetWidth : x + 16;
  const top = Math.min(Math.max(y - 12, 4), stage.clientHeight - tooltip.offsetHeight - 4);
  Object.assign(tooltip.style, { left: `${Math.max(left, 4)}px`, top: `${top}px` });
}
