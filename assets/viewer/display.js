// The "Display" popover: outlines and names, colour scale, colour map, opacity. Closed at first; knows nothing of WebGL.
import { COLORMAPS } from "./colormaps.js";
import { make } from "./elements.js";

export const OUTLINES = {
  "": "None", network: "Yeo-7 networks", network17: "Yeo-17 networks", area: "HCP-MMP areas", patch: "Patches of the encoder",
};
const SCALES = { auto: "Automatic", sequential: "Sequential", symmetric: "Symmetric around 0" };
const TIPS = {
  display: "Outlines, names, colours and opacity",
  outlines: "Draw the borders between parcels of cortex; attention can be no finer than a patch of the encoder",
  names: "Write the names of the outlined parcels that are in sight; of many, the strongest of the map",
  scale: "Automatic is symmetric around 0 for a map that has values below 0, sequential for others",
  colours: "All of them can be told apart with every common form of colour blindness",
  opacity: "How much of the folds below the map covers",
  common: "Draw both maps with the same limits, so that the same colour is the same value; only where their units agree",
};

const options = (titles) => Object.entries(titles).map(([value, text]) => make("option", "", { value, text }));

/** `on` has the callbacks outlines, names, scale, colours, opacity, common; `parcellations` are those of the geometry. */
export function buildDisplay(parcellations, on) {
  const outlines = make("select", "", { "aria-label": "Outlines" });
  const names = make("input", "", { type: "checkbox", "aria-label": "Names of parcels" });
  const scale = make("select", "", { "aria-label": "Colour scale" }, options(SCALES));
  const colours = make("select", "", { "aria-label": "Colour map" });
  const opacity = make("input", "", { type: "range", min: "0", max: "100", step: "5", value: "100", "aria-label": "Opacity of the map" });
  const covers = make("output", "", { text: "100%" });
  const common = make("input", "", { type: "checkbox", "aria-label": "One scale for both maps" });
  outlines.addEventListener("change", () => on.outlines(outlines.value));
  names.addEventListener("change", () => on.names(names.checked));
  scale.addEventListener("change", () => on.scale(scale.value));
  colours.addEventListener("change", () => on.colours(colours.value));
  opacity.addEventListener("input", () => on.opacity(Number(opacity.value) / 100));
  common.addEventListener("change", () => on.common(common.checked));
  const field = (text, tip, ...controls) => make("label", "mv-field", { title: tip }, [make("span", "", { text }), ...controls]);
  const button = make("summary", "", { title: TIPS.display, text: "Display" });
  const tick = (text, tip, box) => make("label", "mv-field mv-tick-field", { title: tip }, [box, make("span", "", { text })]);
  const bordering = field("Outlines", TIPS.outlines, outlines), named = tick("Names", TIPS.names, names);
  const both = tick("One scale", TIPS.common, common);
  const popover = make("div", "mv-popover", { role: "group", "aria-label": "Display" }, [
    bordering, make("div", "mv-ticks-row", {}, [named, both]), field("Scale", TIPS.scale, scale),
    field("Colours", TIPS.colours, colours), field("Opacity", TIPS.opacity, opacity, covers),
  ]);
  const node = make("details", "mv-display", {}, [button, popover]);
  // where it stands below the colour bar, it is given the room that it needs there
  new ResizeObserver(() => node.closest(".mv-foot")?.style.setProperty("--mv-popover", `${popover.offsetHeight + 4}px`)).observe(popover);
  node.addEventListener("toggle", () => node.open && popover.scrollIntoView({ block: "nearest" }));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !node.open) return;
    event.stopPropagation();
    node.open = false;
    button.focus();
  });
  node.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !node.contains(relatedTarget)) node.open = false;
  });
  /** Offer the outlines that there are: patches may come later. */
  const offer = () => {
    const known = Object.fromEntries(Object.entries(OUTLINES).filter(([key]) => key === "" || parcellations[key]));
    const chosen = outlines.value;
    outlines.replaceChildren(...options(known));
    outlines.value = known[chosen] ? chosen : "";
    bordering.hidden = named.hidden = Object.keys(known).length === 1;
  };
  offer();
  both.hidden = true;
  return { node, outlines, scale, colours, opacity, covers, offer, both, boxes: { names, common } };
}

export function offerColours(select, signed, chosen) {
  const entries = Object.entries(COLORMAPS).filter(([, c]) => c.signed === signed);
  select.replaceChildren(...entries.map(([name, c]) => make("option", "", { value: name, text: c.title })));
  select.value = chosen;
}
