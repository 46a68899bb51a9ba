{
  // What the page does before or after an event of gradio; `mindviz.ui.components.handler` calls these by name.
  cortex: () => document.querySelector("#cortex .mv-mount"),
  lesion: () => document.querySelector("#app-lesion .app-lesion"),

  // Of the cortex: who asks, and of which place.
  ask(_, ...rest) {
    return [this.cortex()?.ask?.() ?? null, ...rest];
  },
  askToDraw(_, ...rest) {
    return [this.cortex()?.ask?.(true) ?? null, ...rest];
  },
  untold() {
    this.cortex()?.untold?.();
  },
  undrawn() {
    this.cortex()?.undrawn?.();
  },

  // A download button that makes its file when it is pressed hands out the file of the press before. So a plain button
  // makes it, a hidden one holds it, and then this takes it from there.
  download(file) {
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.orig_name;
    link.click();
  },
  // gradio's buttons have none
  tooltips(texts) {
    for (const [id, text] of Object.entries(texts))
      document.querySelectorAll(`#${id}, #${id} button`).forEach((button) => (button.title = text));
  },

  // Of the panel of lesions: `mindviz.session.latest.LatestOnly` says why it numbers what it asks.
  openLesion() {
    this.lesion()?.dispatchEvent(new Event("app-open"));
  },
  numbered(value, ...rest) {
    return [this.lesion()?.numbered?.() ?? value, ...rest];
  },
}
