// Two clips that play in step. Value: {truth, film, caption, note, state, message, progress, ticket}; the clips are data
// addresses, state is 'empty', 'working', 'done' or 'error', progress 0..1. The button triggers 'stop'. Values can arrive out
// of order (a step of a decoding after the reply to what ended it): the one with the highest ticket was made last.
const truth = element.querySelector('[data-side=truth] video');
const decoded = element.querySelector('[data-side=decoded] video');
const screen = element.querySelector('[data-side=decoded] .app-screen');
let waiting = false;
let latest = -1;
const play = (video) => video.play().catch(() => {});

function load(video, source) {
  if (video.dataset.shown === (source || '')) return false;
  video.dataset.shown = source || '';
  if (source) video.src = source; else { video.removeAttribute('src'); video.load(); }
  return true;
}

const shown = () => [truth, decoded].filter((video) => video.dataset.shown);

// A new clip waits until both can play; whoever reaches its end waits for the other one. So they always begin together.
function begin() {
  if (shown().some((video) => video.readyState < 3 && !video.error)) return;
  waiting = false;
  shown().forEach((video) => { video.muted = true; video.currentTime = 0; play(video); });
}

function show() {
  const value = props.value;
  if (!value || value.ticket < latest) return;
  latest = value.ticket;
  document.getElementById('app-decode')?.toggleAttribute('disabled', value.state === 'working');
  const changed = [load(truth, value.truth), load(decoded, value.film)].some(Boolean);
  element.querySelector('.app-caption').textContent = value.caption || '';
  element.querySelector('.app-note').textContent = value.note || '';
  screen.dataset.state = value.state;
  screen.querySelector('.app-message').textContent = value.message || '';
  screen.querySelector('.app-arc').style.strokeDashoffset = `${176 * (1 - (value.progress || 0))}px`;  // 2 pi times its radius of 28
  if (changed) {
    waiting = true;
    shown().forEach((video) => video.pause());
    begin();
  }
}

[truth, decoded].forEach((video) => {
  video.addEventListener('canplay', () => { if (waiting) begin(); });
  video.addEventListener('ended', () => { if (shown().every((one) => one.ended || one.error)) begin(); });
});
element.querySelector('.app-stop').addEventListener('click', () => trigger('stop'));
watch('value', show);
show();
