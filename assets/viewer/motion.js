// Changes that take a moment: eased, short, and at once for whoever asked for less motion or draws without a graphics chip.
const ANIMATION_MS = 260;
const SLOW_MS = 45; // fewer frames than 22 a second are a slide show that only takes time: the end is shown instead
const REST_MS = 60000; // a machine may have been slow for a moment: so long after, motion is tried again

/** Running animations by name. `hidden()` says that nobody can see them, `changed` asks for the next frame. */
export class Animations {
  constructor(hidden, changed) {
    this.hidden = hidden;
    this.changed = changed;
    this.running = new Map();
    this.still = false; // never move
    this.slowUntil = 0;
  }

  get size() {
    return this.running.size;
  }

  /** Let `update` run from near 0 to 1. */
  start(key, update) {
    const start = performance.now();
    const reduced = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const still = this.still || reduced || this.hidden() || start < this.slowUntil;
    let last = start;
    const run = (now) => {
      // where it should be when this frame is seen: as long after now as the last one was before
      if (now - last > SLOW_MS) this.slowUntil = now + REST_MS;
      const share = still || now < this.slowUntil ? 1 : Math.min((2 * now - last - start) / ANIMATION_MS, 1);
      last = now;
      update(share < 1 ? share * share * (3 - 2 * share) : 1);
      return share >= 1;
    };
    run.end = () => update(1);
    this.running.set(key, run);
    if (still && run(start)) this.running.delete(key);
    this.changed();
  }

  /** Bring one to its end at once. */
  finish(key) {
    this.running.get(key)?.end();
    this.running.delete(key);
  }

  /** Carry all of them on to now. */
  run() {
    for (const [key, run] of [...this.running]) if (run(performance.now())) this.running.delete(key);
  }
}
