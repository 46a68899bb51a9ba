// Where the names of parcels stand: pure arithmetic on what is seen of the cortex. Knows neither the page nor WebGL.
const LEAST_DEPTH = 2; // pixels: of less is seen too little to say which parcel a name means

/**
 * The place of each parcel that is deepest inside what is seen of it: hidden and turned-away parts cannot be named, since
 * they are not seen.
 * @param {{vertices: Int32Array, width: number, height: number}} seen  as CortexScene.seen
 * @param {(vertex: number) => number} parcelOf  a number for each parcel and hemisphere, 0 for none
 * @returns {{parcel: number, x: number, y: number, depth: number}[]} in pixels of `seen`, the deepest first
 */
export function parcelPlaces({ vertices, width, height }, parcelOf) {
  const parcel = new Int32Array(vertices.length);
  for (let i = 0; i < parcel.length; i++) parcel[i] = vertices[i] < 0 ? 0 : parcelOf(vertices[i]);
  const depth = depths(parcel, width, height);
  const best = new Map();
  for (let i = 0; i < parcel.length; i++) {
    if (parcel[i] && depth[i] >= LEAST_DEPTH && depth[i] > (best.get(parcel[i])?.depth ?? 0)) {
      best.set(parcel[i], { parcel: parcel[i], x: i % width, y: Math.floor(i / width), depth: depth[i] });
    }
  }
  return [...best.values()].sort((a, b) => b.depth - a.depth);
}

/** How many pixels each is from the next of another parcel, counted along rows, columns and diagonals (in thirds). */
function depths(parcel, width, height) {
  const depth = new Float32Array(parcel.length);
  const near = (i, j, cost) => (parcel[i] === parcel[j] ? depth[j] + cost : 1);
  const pass = (order, dy, dx) => {
    for (const i of order) {
      const x = i % width, y = (i - x) / width;
      const steps = [[0, dx, 1], [dy, 0, 1], [dy, -1, 4 / 3], [dy, 1, 4 / 3]];
      for (const [down, right, cost] of steps) {
        const inside = x + right >= 0 && x + right < width && y + down >= 0 && y + down < height;
        const found = inside ? near(i, i + down * width + right, cost) : 1;
        depth[i] = Math.min(depth[i], found);
      }
    }
  };
  depth.fill(1e9);
  pass(depth.keys(), -1, -1);
  pass(backwards(depth.length), 1, 1);
  return depth;
}

function* backwards(count) {
  for (let i = count - 1; i >= 0; i--) yield i;
}

/** Of boxes `{x, y, width, height}` (x, y their middles) in the order of their worth, those that fit without overlap,
 * moved inside a space where they reach past its edge. */
export function withoutOverlap(boxes, width, height, gap = 2) {
  const kept = [];
  for (const box of boxes) {
    const x = Math.min(Math.max(box.x, box.width / 2), width - box.width / 2);
    const y = Math.min(Math.max(box.y, box.height / 2), height - box.height / 2);
    const clear = (other) =>
      Math.abs(other.x - x) >= (other.width + box.width) / 2 + gap || Math.abs(other.y - y) >= (other.height + box.height) / 2 + gap;
    if (kept.every(clear)) kept.push({ ...box, x, y });
  }
  return kept;
}
