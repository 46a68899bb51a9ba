// An area taken out: three clips that play in step, a list of what can be taken out, and what is to be said of it.
// Value, set here: {open, by, which, ticket} as JSON, with 'select' triggered for each change and 'stop' to end what is computed.
// `shown`, set by the server: {answers, ticket, by, list, chosen, name, order, truth, intact, film, said, state, message, progress,
// again, simulated}; state is 'empty', 'working', 'done' or 'error'.
// Requests and answers can arrive out of order. So each request has a number, the value's ticket, and what `answers` an earlier one
// than the last is not shown; of the answers to one request, that with the highest ticket was made last.
// `groupings` and `list` hold (value, name).
const find = (name) => element.querySelector(`.app-lesion${name}`);
const section = find('');
const videos = ['truth', 'intact', 'film'].map((name) => element.querySelector(`[data-film=${name}] video`));
const by = find('-by');
const which = find('-which');
const button = find('-button');
let latest = -1;
let asked = props.shown?.answers ?? 0;  // the number of the last request
let state = 'empty';  // of what is shown, which `shown` need not be once an older answer has come late
let waiting = false;
const play = (video) => video.play().catch(() => {});
const playing = () => videos.filter((video) => video.dataset.shown);

function load(video, source) {
  if (video.dataset.shown === (source || '')) return false;
  video.dataset.shown = source || '';
  if (source) video.src = source; else { video.removeAttribute('src'); video.load(); }
  return true;
}

// A new clip waits until all can play; whoever reaches its end waits for the others. So they always begin together.
function begin() {
  if (playing().some((video) => video.readyState < 3 && !video.error)) return;
  waiting = false;
  playing().forEach((video) => { video.muted = true; video.currentTime = 0; play(video); });
}

function ask(change) {
  props.value = JSON.stringify({ ...JSON.parse(props.value), ...change });
  trigger('select');
}

// The server's events call this as they send their request, some of them after others of the page.
section.numbered = () => JSON.stringify({ ...JSON.parse(props.value), ticket: ++asked });

function fill(select, options, value) {
  const wanted = JSON.stringify(options);
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    select.replaceChildren(...options.map(([name, label]) => new Option(label, name)));
  }
  select.value = value;
  select.disabled = options.length === 0;
}

function show() {
  const now = props.shown;
  if (!now || now.answers < asked || now.ticket < latest) return;
  latest = now.ticket;
  state = now.state;
  fill(by, props.groupings, now.by);
  fill(which, now.list, now.chosen);
  find('-simulated').hidden = !now.simulated;
  find('-order').textContent = now.order;
  find('-name').textContent = now.name ? `Decoded without ${now.name}` : 'Decoded without it';
  element.querySelector('[data-film=film] .app-lesion-screen').dataset.state = state;
  find('-message').textContent = now.message;
  find('-bar').value = now.progress;
  button.textContent = state === 'working' ? 'Stop' : 'Again';
  button.hidden = !(state === 'working' || now.again);
  find('-said').replaceChildren(...now.said.map((text) => Object.assign(document.createElement('p'), { textContent: text })));
  const changed = videos.map((video, i) => load(video, [now.truth, now.intact, now.film][i])).some(Boolean);
  if (changed) {
    waiting = true;
    playing().forEach((video) => video.pause());
    begin();
  }
}

// A page that is still being laid out moves what was just scrolled to.
const settling = new ResizeObserver(() => section.scrollIntoView({ block: 'end' }));

function open() {
  const before = section.hidden;
  section.hidden = false;
  if (before) ask({ open: true });
  section.scrollIntoView({ behavior: 'smooth', block: 'end' });
  [section, document.body].forEach((node) => settling.observe(node));
  setTimeout(() => settling.disconnect(), 3000);
  by.focus({ preventScroll: true });
}

videos.forEach((video) => {
  video.addEventListener('canplay', () => { if (waiting) begin(); });
  video.addEventListener('ended', () => { if (playing().every((one) => one.ended || one.error)) begin(); });
});
section.addEventListener('app-open', open);
by.addEventListener('change', () => ask({ by: by.value, which: '' }));
which.addEventListener('change', () => ask({ which: which.value }));
button.addEventListener('click', () => { if (state === 'working') trigger('stop'); else ask({}); });
find('-close').addEventListener('click', () => { section.hidden = true; ask({ open: false }); });
watch('shown', show);
watch('groupings', () => fill(by, props.groupings, by.value));
show();
