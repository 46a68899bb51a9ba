// The "Display" popover: outlines, colour scale, colour map, opacity. Closed at first; knows nothing of WebGL.
import { COLORMAPS } from "./colormaps.js";
import { make } from "./elements.js";

export const OUTLINES = { "": "None", network: "Yeo-7 networks", network17: "Yeo-17 networks", area: "HCP-MMP areas" };
const SCALES = { auto: "Automatic", sequential: "Sequential", symmetric: "Symmetric around 0" };
const TIPS = {
  display: "Outlines, colours and opacity",
  outlines: "Draw the borders between parcels of cortex",
  scale: "Automatic is symmetric around 0 for a map that has values below 0, sequential for others",
  colours: "All of them can be told apart with every common form of colour blindness",
  opacity: "How much of the folds below the map covers",
};

const options = (titles) => Object.entries(titles).map(([value, text]) => make("option", "", { value, text }));

/** `on` has the callbacks outlines, scale, colours, opacity; `parcellations` are those of the geometry. */
export function buildDisplay(parcellations, on) {
  const known = Object.fromEntries(Object.entries(OUTLINES).filter(([key]) => key === "" || parcellations[key]));
  const outlines = make("select", "", { "aria-label": "Outlines" }, options(known));
  const scale = make("select", "", { "aria-label": "Colour scale" }, options(SCALES));
  const colours = make("select", "", { "aria-label": "Colour map" });
  const opacity = make("input", "", { type: "range", min: "0", max: "100", step: "5", value: "100", "aria-label": "Opacity of the map" });
  const covers = make("output", "", { text: "100%" });
  outlines.addEventListener("change", () => on.outlines(outlines.value));
  scale.addEventListener("change", () => on.scale(scale.value));
  colours.addEventListener("change", () => on.colours(colours.value));
  opacity.addEventListener("input", () => on.opacity(Number(opacity.value) / 100));
  const field = (text, tip, ...controls) => make("label", "mv-field", { title: tip }, [make("span", "", { text }), ...controls]);
  const button = make("summary", "", { title: TIPS.display, text: "Display" });
  const node = make("details", "mv-display", {}, [
    button,
    make("div", "mv-popover", { role: "group", "aria-label": "Display" }, [
      ...(Object.keys(known).length > 1 ? [field("Outlines", TIPS.outlines, outlines)] : []),
      field("Scale", TIPS.scale, scale),
      field("Colours", TIPS.colours, colours),
      field("Opacity", TIPS.opacity, opacity, covers),
    ]),
  ]);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !node.open) return;
    event.stopPropagation();
    node.open = false;
    button.focus();
  });
  node.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !node.contains(relatedTarget)) node.open = false;
  });
  return { node, outlines, scale, colours, opacity, covers };
}

export function offerColours(select, signed, chosen) {
  const entries = Object.entries(COLORMAPS).filter(([, c]) => c.signed === signed);
  select.replaceChildren(...entries.map(([name, c]) => make("option", "", { value: name, text: c.title })));
  select.value = chosen;
}
