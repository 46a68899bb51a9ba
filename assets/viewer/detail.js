// What is told of a place that was clicked: the map and the BOLD there over the run, and the clips that drive it most.
// Plain SVG and page elements; knows neither WebGL nor where the numbers come from (mindviz/ui/courses.py).
import { number } from "./data.js";
import { make } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const NAME = 12, LEFT = 36, RIGHT = 6, TOP = 4; // of one plot, in pixels: its name stands above it
const HEIGHT = 40, OF_THREE = 26; // of one of two plots, and of three, which have not much more room
const DRIVERS = 10; // between the name of the last plot and the plot: which clips drive it
const AXIS = 26; // below the last one: times and their name
const LETTER = 5.3; // the mean width of a letter of an axis' name, in pixels
const FEW = 60; // so many known values are drawn as dots too: a line needs neighbours

function draw(tag, attributes, children = []) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, "0")}`;

/** The part itself, closed at first: `.wait()`, `.show(told)`, `.hide()`. `choose(scan, run)` is called on a clip. `.nodes`:
 * the part, and what a screen reader is told of it, which is never hidden, so that a change of it is heard. */
export function buildDetail(close, choose) {
  const title = make("b", "mv-detail-title");
  const button = make("button", "mv-close", { type: "button", "aria-label": "Close", title: "Close (Escape)", text: "×" });
  const keys = make("span", "mv-legend");
  const body = make("div", "mv-detail-body");
  const node = make("section", "mv-detail", { "aria-label": "What happened at this place", hidden: "" }, [
    make("div", "mv-detail-head", {}, [title, keys, button]), body,
  ]);
  const heard = make("p", "mv-heard", { role: "status" });
  const tell = (text) => {
    if (heard.textContent !== text) heard.textContent = text;
  };
  button.addEventListener("click", close);
  let told = null;
  const render = () => {
    if (!told || node.clientWidth === 0) return;
    const clips = clipRow(told, choose), plots = make("div", "mv-plots");
    const held = body.contains(document.activeElement); // the focus stays here, so that Escape still closes
    const scan = held ? document.activeElement.dataset.scan : "";
    body.replaceChildren(plots, clips);
    if (held) (clips.querySelector(`[data-scan="${scan}"]`) ?? button).focus();
    plots.append(plotAll(told, plots.clientWidth || node.clientWidth - 130), ...noted(told));
  };
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (node.clientWidth === width) return;
    width = node.clientWidth;
    render();
  });
  observer.observe(node);
  const say = (text) => {
    if (body.contains(document.activeElement)) button.focus();
    body.replaceChildren(make("p", "mv-detail-message", { text }));
  };
  return {
    node,
    nodes: [node, heard],
    get waits() { return node.hasAttribute("aria-busy"); },
    wait() {
      node.hidden = false;
      node.setAttribute("aria-busy", "true");
      told = null;
      if (!body.firstChild) say("Reading the run…");
    },
    show(content) {
      node.hidden = false;
      node.removeAttribute("aria-busy");
      told = content.message ? null : content;
      title.textContent = title.title = content.title ?? "";
      keys.replaceChildren(...(told ? legend(told) : []));
      if (content.message) say(content.message);
      else render();
      tell(content.message || [sentence(content), ...notes(content)].join(" "));
    },
    hide() {
      node.hidden = true;
      node.removeAttribute("aria-busy");
      told = null;
      title.textContent = "";
      keys.replaceChildren();
      body.replaceChildren();
      tell("");
    },
    dispose: () => observer.disconnect(),
  };
}

// ------------------------------------------------------------------------------------------ the courses

/** The courses that there are: of the map, of that beside it if it has one, of the BOLD. */
const courses = ({ map, beside, bold }) => [map, ...(beside?.values.length ? [beside] : []), bold];
const notes = ({ map, beside }) => [...new Set([map.note, beside?.note].filter(Boolean))];

/** All courses above one time axis. A clip's value stands at the middle of the clip, a volume's where it was acquired. */
function plotAll(told, width) {
  const { tr, scan, lag, size } = told, all = courses(told), high = all.length > 2 ? OF_THREE : HEIGHT;
  const end = Math.max(...all.map(({ values }) => values.length)) * tr, last = all.length - 1;
  const x = (seconds) => LEFT + (seconds / end) * (width - LEFT - RIGHT);
  const rows = all.map((_, i) => NAME + i * (NAME + high) + (i === last ? DRIVERS : 0)); // where plots begin
  const height = rows[last] + high + AXIS;
  const band = (from, to, className) =>
    draw("rect", { class: className, x: x(from * tr), width: Math.max(x(to * tr) - x(from * tr), 2), y: 0, height: high });
  const ofBold = () => [band(scan + lag, scan + lag + size, "mv-window"), ...told.clips.map((clip, i) => driver(clip, i, x, tr, lag, size))];
  const row = (course, i) => {
    const marks = [band(scan, scan + 1, "mv-now"), ...(i === last ? ofBold() : [])];
    const className = ["mv-line", ...(i === last ? ["mv-bold"] : i > 0 ? ["mv-beside"] : [])].join(" ");
    const name = draw("text", { x: 0, y: rows[i] - (i === last ? DRIVERS - 2 : 0) - 3, class: "mv-axis-name", text: fitted(course, width) });
    return [name, draw("g", { transform: `translate(0 ${rows[i]})` }, [...marks, ...courseParts(course, tr, x, className, high)])];
  };
  const children = [draw("title", { text: sentence(told) }), ...all.flatMap(row), ...timeAxis(end, x, rows[last] + high, width)];
  return draw("svg", { class: "mv-plot", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": sentence(told) }, children);
}

/** Name and units of a course as far as they fit above its plot. */
function fitted({ name, units }, width) {
  const most = Math.floor(width / LETTER), whole = `${name} (${units})`;
  if (whole.length <= most) return whole;
  return name.length <= most ? name : `${name.slice(0, most - 1)}…`;
}

function courseParts({ values }, tr, x, className, height) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return [draw("text", { x: LEFT + 6, y: height / 2, class: "mv-none", text: "not known for any scan yet" })];
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (low === high) [low, high] = [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const y = (value) => TOP + ((high - value) / (high - low)) * (height - 2 * TOP);
  const place = (i) => `${x((i + 0.5) * tr).toFixed(1)} ${y(values[i]).toFixed(1)}`;
  let line = "", open = false;
  values.forEach((value, i) => {
    if (value !== null) line += `${open ? "L" : "M"}${place(i)}`;
    open = value !== null;
  });
  const dots = known.length > FEW ? [] : values.flatMap((value, i) =>
    value === null ? [] : [draw("circle", { cx: x((i + 0.5) * tr), cy: y(value), r: 2.2, class: `${className} mv-dot` })]);
  const ticks = [high, low].flatMap((value) => [
    draw("text", { x: LEFT - 4, y: y(value) + 3.5, class: "mv-tick", "text-anchor": "end", text: number(value) }),
    draw("line", { x1: LEFT - 3, x2: LEFT, y1: y(value), y2: y(value), class: "mv-axis" }),
  ]);
  return [draw("line", { x1: LEFT, x2: LEFT, y1: TOP, y2: height - TOP, class: "mv-axis" }), ...ticks, draw("path", { d: line, class: className }), ...dots];
}

/** The number of a clip above the volumes that answer it. */
function driver({ scan }, i, x, tr, lag, size) {
  const [from, to] = [x((scan + lag) * tr), x((scan + lag + size) * tr)];
  return draw("text", { x: (from + to) / 2, y: -2, class: "mv-driver", "text-anchor": "middle", text: String(i + 1) });
}

function timeAxis(end, x, top, width) {
  const wish = Math.max(2, Math.floor((width - LEFT) / 55));
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600].find((s) => end / s <= wish) ?? 7200;
  const marks = [];
  for (let t = 0; t <= end; t += step) {
    const anchor = t === 0 ? "start" : x(t) > width - 14 ? "end" : "middle";
    marks.push(draw("line", { x1: x(t), x2: x(t), y1: top, y2: top + 3, class: "mv-axis" }));
    marks.push(draw("text", { x: x(t), y: top + 12, class: "mv-tick", "text-anchor": anchor, text: String(t) }));
  }
  return [
    draw("line", { x1: x(0), x2: x(end), y1: top, y2: top, class: "mv-axis" }), ...marks,
    draw("text", { x: (x(0) + x(end)) / 2, y: top + 24, class: "mv-tick", "text-anchor": "middle", text: "Time in the film (s)" }),
  ];
}

/** What the plots show, in words. */
export function sentence(told) {
  const part = ({ name, units, values }, at, of) => {
    const known = values.map((value, i) => [value, i]).filter(([value]) => value !== null);
    if (known.length === 0) return `${name}: not known for any scan yet.`;
    const sorted = [...known].sort((a, b) => a[0] - b[0]), told_ = ([value, i]) => `${number(value)} at ${number(i * told.tr)} s`;
    const here = values[at] === null || values[at] === undefined ? "not known" : number(values[at]);
    return `${name} (${units}): lowest ${told_(sorted[0])}, highest ${told_(sorted.at(-1))}, ${here} ${of}.`;
  };
  const all = courses(told), after = told.scan + told.lag;
  const parts = all.slice(0, -1).map((course) => part(course, told.scan, `at scan ${told.scan}, which is shown`));
  const bold = part(told.bold, after, `${number(told.lag * told.tr)} s after it`);
  return [`${told.title}, over ${told.map.values.length} scans of ${told.run}.`, ...parts, bold].join(" ");
}

function legend({ scan }) {
  const of = (className, text) => make("span", "mv-key", {}, [make("i", className), make("span", "", { text })]);
  return [of("mv-now", `scan ${scan}`), of("mv-window", "its volumes")];
}

/** In one paragraph, which has one line where there is no room for more. */
function noted(told) {
  const text = notes(told).join(" ");
  return text ? [make("p", "mv-note", { text, title: text })] : [];
}

// ------------------------------------------------------------------------------------------ the clips

function clipRow({ clips, sheet, tr, run }, choose) {
  const wide = `background-image:url(${sheet});background-size:${100 * clips.length}% 100%`;
  const at = (i) => `${(100 * i) / Math.max(clips.length - 1, 1)}%`;
  const row = make("div", "mv-clips", { role: "group", "aria-label": "Clips with the highest BOLD here" });
  if (clips.length === 0) return row;
  row.append(make("span", "mv-clips-title", { text: "Highest BOLD", title: "The clips whose volumes have the highest BOLD here; no two share a volume" }));
  clips.forEach(({ scan, bold }, i) => {
    const when = clock(scan * tr), told = `Clip ${i + 1}: scan ${scan}, at ${when}, BOLD ${number(bold)} z. Choose this scan.`;
    const picture = make("i", "mv-clip-picture", { style: `${wide};background-position:${at(i)} 0` });
    const button = make("button", "mv-clip", { type: "button", "data-scan": String(scan), "aria-label": told, title: told }, [
      picture, make("span", "", { text: `${i + 1}: ${when}` }), make("span", "", { text: `${number(bold)} z` }),
    ]);
    button.addEventListener("click", () => choose(scan, run));
    row.append(button);
  });
  return row;
}
