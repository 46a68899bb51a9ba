// Two clips that play in step. Value: {truth, film, caption, note, state, message, progress}; the clips are data addresses,
// state is 'empty', 'working', 'done' or 'error', progress 0..1.
const truth = element.querySelector('[data-side=truth] video');
const decoded = element.querySelector('[data-side=decoded] video');
const screen = element.querySelector('[data-side=decoded] .app-screen');
const play = (video) => video.play().catch(() => {});

function load(video, source) {
  if (video.dataset.shown === (source || '')) return false;
  video.dataset.shown = source || '';
  if (source) video.src = source; else { video.removeAttribute('src'); video.load(); }
  return true;
}

function together() {
  // Whoever reaches its end waits for the other one; then both begin anew.
  const both = [truth, decoded].filter((video) => video.dataset.shown);
  if (!both.every((video) => video.ended || video.error)) return;
  both.forEach((video) => { video.currentTime = 0; play(video); });
}

function show() {
  const value = props.value;
  if (!value) return;
  const changed = [load(truth, value.truth), load(decoded, value.film)].some(Boolean);
  element.querySelector('.app-caption').textContent = value.caption || '';
  element.querySelector('.app-note').textContent = value.note || '';
  screen.dataset.state = value.state;
  screen.querySelector('.app-message').textContent = value.message || '';
  screen.querySelector('.app-arc').style.strokeDashoffset = 100 * (1 - (value.progress || 0));
  if (changed) [truth, decoded].filter((video) => video.dataset.shown).forEach((video) => {
    video.muted = true;
    if (video.readyState) video.currentTime = 0;
    play(video);
  });
}

[truth, decoded].forEach((video) => video.addEventListener('ended', together));
watch('value', show);
show();
