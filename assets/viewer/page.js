// The script of a page that needs no server (`mindviz.viewer.page`), which holds what this reads.
import { createViewer } from "mindviz/viewer.js";

const read = (id) => document.getElementById(id).textContent;
const { geometry, height } = JSON.parse(read("options"));
window.viewer = await createViewer(
  document.getElementById("cortex"), await (await fetch(geometry)).arrayBuffer(),
  { height, values: read("values"), patches: read("patches"), theme: "auto" },
);
