// Borders of parcels, made ready for the shader: pure arithmetic on labels and triangles.
const CODES = 5;
const OWN = 0.55; // more than half: a vertex alone in its patch keeps a border around it

/**
 * Five numbers by vertex, of which the last, 255 less the others, is left to the shader. Most of 255 goes to the code of
 * the vertex's patch, the rest to those of its neighbours, so that a border lies between the vertices it parts, smooth, and
 * wide enough to be met by pixels of the size of a triangle. The shader draws it where the two largest are equal.
 *
 * Touching patches have different codes. A patch is a connected part of a parcel; patches lie on a sphere, so their
 * neighbourhood is a planar graph, for which four would do; `distinct` finds five.
 * @returns {Uint8Array} the first four, four bytes by vertex
 */
export function borderCodes(labels, faces) {
  const patch = patches(labels, faces);
  const chosen = distinct(neighbours(patch, faces));
  const own = Uint8Array.from(labels);
  for (let i = 0; i < own.length; i++) own[i] = chosen.get(patch[i]) ?? 0;
  const around = new Uint8Array(CODES * own.length), count = new Uint8Array(own.length);
  for (let f = 0; f < faces.length; f += 3) {
    for (let k = 0; k < 3; k++) {
      const i = faces[f + k], j = faces[f + ((k + 1) % 3)];
      around[CODES * i + own[j]] += 1;
      count[i] += 1;
    }
  }
  const codes = new Uint8Array(4 * own.length);
  for (let i = 0; i < own.length; i++) {
    for (let c = 0; c < CODES - 1; c++) {
      const share = around[CODES * i + c] / Math.max(count[i], 1);
      codes[4 * i + c] = Math.round(255 * ((1 - OWN) * share + (c === own[i] ? OWN : 0)));
    }
  }
  return codes;
}

/** Which patch each vertex belongs to, named by one of its vertices. */
function patches(labels, faces) {
  const parent = new Int32Array(labels.length);
  for (let i = 0; i < parent.length; i++) parent[i] = i;
  const root = (i) => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  for (let f = 0; f < faces.length; f += 3) {
    const a = faces[f], b = faces[f + 1], c = faces[f + 2];
    if (labels[a] === labels[b]) parent[root(a)] = root(b);
    if (labels[b] === labels[c]) parent[root(b)] = root(c);
    if (labels[c] === labels[a]) parent[root(c)] = root(a);
  }
  return parent.map((_, i) => root(i));
}

/** Patch -> the set of patches that it touches. */
function neighbours(patch, faces) {
  const touching = new Map();
  const meet = (p, q) => touching.get(p)?.add(q) ?? touching.set(p, new Set([q]));
  for (let f = 0; f < faces.length; f += 3) {
    const corners = [patch[faces[f]], patch[faces[f + 1]], patch[faces[f + 2]]];
    if (corners[0] === corners[1] && corners[1] === corners[2]) continue;
    for (const p of corners) for (const q of corners) if (p !== q) meet(p, q);
  }
  return touching;
}

/** Patch -> a number that none of its neighbours has; the last taken away choose first. */
function distinct(touching) {
  const left = new Map([...touching].map(([p, others]) => [p, others.size]));
  const order = [];
  while (left.size) {
    let [next, fewest] = [-1, Infinity];
    for (const [p, count] of left) if (count < fewest) [next, fewest] = [p, count];
    left.delete(next);
    order.push(next);
    for (const q of touching.get(next)) if (left.has(q)) left.set(q, left.get(q) - 1);
  }
  const colour = new Map();
  for (const p of order.reverse()) {
    const taken = new Set([...touching.get(p)].map((q) => colour.get(q)));
    let c = 0;
    while (taken.has(c) && c < CODES - 1) c++;
    colour.set(p, c);
  }
  return colour;
}
