// The film as one picture for each scan. The value is the scan; `film` is {count, seconds, sheet, columns, rows, cuts, run}.
// Choosing sets the value at once and triggers 'select'.
const strip = element.querySelector('.app-strip-film');
const range = element.querySelector('.app-strip-range');
const clock = (t) => `${Math.floor(t / 60)}:${String(Math.round(t % 60)).padStart(2, '0')}`;
let drawn = null;
let chosen = -1;

function thumbnail(show, index) {
  const cell = document.createElement('button');
  cell.type = 'button';
  cell.tabIndex = -1;
  cell.className = 'app-thumb' + (show.cuts.includes(index) ? ' app-cut' : '');
  cell.dataset.scan = index;
  cell.setAttribute('aria-label', `Scan ${index}, ${clock(index * show.seconds)}`);
  const at = (i, n) => (n > 1 ? (100 * i) / (n - 1) : 0) + '%';
  cell.style.backgroundImage = `url(${show.sheet})`;
  cell.style.backgroundSize = `${100 * show.columns}% ${100 * show.rows}%`;
  cell.style.backgroundPosition = `${at(index % show.columns, show.columns)} ${at(Math.floor(index / show.columns), show.rows)}`;
  if (index % 15 === 0) cell.dataset.clock = clock(index * show.seconds);
  return cell;
}

function mark(scan) {
  const show = props.film;
  strip.querySelectorAll('.app-chosen').forEach((cell) => cell.classList.remove('app-chosen'));
  range.value = scan;
  range.style.setProperty('--filled', `${(100 * scan) / Math.max(1, show.count - 1)}%`);
  element.querySelector('.app-strip-scan').textContent = `Scan ${scan}`;
  element.querySelector('.app-strip-time').textContent =
    `${clock(scan * show.seconds)} – ${clock((scan + 1) * show.seconds)} of ${show.run}`;
  const cell = strip.children[scan];
  if (!cell) return;
  cell.classList.add('app-chosen');
  strip.scrollTo({ left: cell.offsetLeft - (strip.clientWidth - cell.clientWidth) / 2, behavior: chosen < 0 ? 'auto' : 'smooth' });
}

function draw() {
  const show = props.film;
  if (!show) return;
  if (drawn !== show.sheet) {
    drawn = show.sheet;
    strip.replaceChildren(...Array.from({ length: show.count }, (_, i) => thumbnail(show, i)));
    range.max = show.count - 1;
    element.querySelector('.app-strip-count').textContent = `${show.count} scans`;
  }
  mark(props.value);
  chosen = props.value;
}

function choose(scan) {
  const target = Math.max(0, Math.min(props.film.count - 1, scan));
  if (target === chosen) return;
  mark(target);
  chosen = target;
  props.value = target;
  trigger('select', { scan: target });
}

strip.addEventListener('click', (event) => {
  const cell = event.target.closest('.app-thumb');
  if (cell) choose(Number(cell.dataset.scan));
});
element.addEventListener('keydown', (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
  if (!step || event.target === range) return;
  event.preventDefault();
  choose(chosen + step);
});
element.querySelectorAll('.app-step').forEach((button) =>
  button.addEventListener('click', () => choose(chosen + Number(button.dataset.step))));
range.addEventListener('input', () => mark(Number(range.value)));
range.addEventListener('change', () => choose(Number(range.value)));
// a clip that is chosen elsewhere on the page (the cortex tells of the clips that drive a voxel)
function hear(event) {
  if (!element.isConnected) document.removeEventListener('mindviz-scan', hear);
  else if (event.detail.run === props.film.run) choose(event.detail.scan);
}
document.addEventListener('mindviz-scan', hear);
watch(['value', 'film'], draw);
draw();
