// The cortex viewer in the page. `mindviz.ui.cortex_view` puts ASSETS, GEOMETRY, VERSION and OPTIONS before this.
const mount = element.querySelector(".mv-mount");
const config = window.gradio_config ?? {};
const file = (path) => `${config.root ?? ""}${config.api_prefix ?? "/gradio_api"}/file=${path}`;
const page = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");
let viewer = null, asked = 0, drawing = 0;
const last = {};
// Requests bear the place that is picked when they are made, and a number: answers arrive in any order, and one to an
// earlier request than what is shown is not shown.
mount.ask = (forMap) => {
  asked += 1;
  if (forMap) follow(asked);
  return { page, ticket: asked, place: viewer?.picked ?? null };
};
const hear = (name, show) => watch(name, () => {
  const content = typeof props[name] === "string" && props[name] ? JSON.parse(props[name]) : props[name];
  const ticket = content?.ticket ?? 0;
  if (ticket && ticket < (last[name] ?? 0)) return;
  last[name] = ticket || (last[name] ?? 0);
  if (name === "value" && (!ticket || ticket >= drawing)) mount.undrawn();
  if (viewer) show(content);
});
// what is being computed for the last request for a map, until that is answered
const follow = async (ticket) => {
  drawing = ticket;
  while (drawing === ticket) {
    await new Promise((go) => setTimeout(go, 300));
    const told = drawing === ticket ? await server.how_far?.(page) : null;
    if (drawing === ticket) viewer?.setBusy(told);
  }
};
mount.undrawn = () => {
  drawing = 0;
  viewer?.setBusy(null);
};
mount.untold = () => viewer?.untold();
hear("value", (map) => viewer.setValues(map));
hear("detail", (told) => viewer.setDetail(told));
watch("patches", () => viewer?.setPatches(props.patches));
const on = {
  onPick: () => trigger("select"),
  onNextMap: (back) => trigger("input", { back }),
  onGiveUp: () => server.give_up?.(page),
  onScan: (scan, run) => document.dispatchEvent(new CustomEvent("mindviz-scan", { detail: { run, scan } })),
};
(async () => {
  try {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = file(ASSETS + "/viewer.css") + "?" + VERSION;
    const styled = new Promise((resolve) => { style.onload = style.onerror = resolve; });
    document.head.append(style);
    const [module, geometry] = await Promise.all([
      import(file(ASSETS + "/viewer.js")), fetch(file(GEOMETRY)).then((r) => r.arrayBuffer()), styled,
    ]);
    viewer = await module.createViewer(mount, geometry, {
      ...OPTIONS, ...on, values: props.value, patches: props.patches,
    });
    element.viewer = viewer;
  } catch (error) {
    mount.textContent = `The cortex viewer could not be loaded (${error.message}). Reload the page to try again.`;
    console.error(error);
  }
})();
