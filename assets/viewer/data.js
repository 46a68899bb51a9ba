// What Python sends (mindviz/ui/viewer.py), turned into typed arrays. Knows neither three.js nor the page.

const TYPES = { int16: Int16Array, uint16: Uint16Array, uint8: Uint8Array };

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Unpack the mesh: gzipped or plain; header length (uint32), header (JSON), arrays. */
export async function decodeGeometry(buffer) {
  let bytes = new Uint8Array(buffer);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  }
  const headerLength = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerLength)));
  if (header.format !== 1) throw new Error(`the mesh has format ${header.format}, this viewer reads 1`);
  const arrays = {};
  for (const [key, a] of Object.entries(header.arrays)) {
    const Type = TYPES[a.dtype];
    arrays[key] = new Type(bytes.buffer, 4 + headerLength + a.offset, a.length);
  }
  return { ...header, info: header.arrays, arrays };
}

/** Coordinates of a surface of a hemisphere in mm, as Float32Array (x, y, z by vertex). */
export function coordinates(geometry, side, surface) {
  const key = `${side}/${surface}`;
  const scale = geometry.info[key].scale;
  const points = Float32Array.from(geometry.arrays[key]);
  for (let i = 0; i < points.length; i++) points[i] *= scale;
  return points;
}

/** The normals of the first `count` / 3 triangles, as long as twice their area: three numbers for each. */
export function triangleNormals(points, faces, count = faces.length) {
  const across = new Float32Array(count);
  for (let f = 0; f < count; f += 3) {
    const a = faces[f] * 3, b = faces[f + 1] * 3, c = faces[f + 2] * 3;
    const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
    const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
    across[f] = uy * vz - uz * vy;
    across[f + 1] = uz * vx - ux * vz;
    across[f + 2] = ux * vy - uy * vx;
  }
  return across;
}

/** Smooth unit normals: the mean of the triangles around each vertex, weighted by area (`triangleNormals`). */
export function vertexNormals(across, faces, length) {
  const normals = new Float32Array(length);
  for (let f = 0; f < across.length; f++) {
    const i = faces[f] * 3, t = f - (f % 3);
    normals[i] += across[t];
    normals[i + 1] += across[t + 1];
    normals[i + 2] += across[t + 2];
  }
  for (let i = 0; i < length; i += 3) {
    const size = Math.sqrt(normals[i] * normals[i] + normals[i + 1] * normals[i + 1] + normals[i + 2] * normals[i + 2]) || 1;
    normals[i] /= size;
    normals[i + 1] /= size;
    normals[i + 2] /= size;
  }
  return normals;
}

const parsed = (payload) => (typeof payload === "string" && payload ? JSON.parse(payload) : payload || null);

/** Unpack one map or two that are compared: a list of one or two (`decodeMap`); `[null]` stands for "no map yet". */
export function decodeValues(payload, geometry) {
  const content = parsed(payload);
  if (content === null || content.maps?.length === 0) return [null];
  return (content.maps ?? [content]).map((map) => decodeMap(map, geometry));
}

const bit = (bits, i) => Boolean(bits[i >> 3] & (1 << (i & 7)));

/** `{left, right, counts, ...}` with NaN where a vertex has no value; `counts(side, vertex)`: whether means count it. */
function decodeMap(map, geometry) {
  if (map.mesh !== geometry.mesh) {
    throw new Error(`The map is on ${map.mesh}, the cortex shown is ${geometry.mesh}.`);
  }
  const bits = bytesOf(map.mask);
  const given = new Float32Array(bytesOf(map.values).buffer);
  const all = new Float32Array(2 * geometry.vertices);
  let next = 0;
  for (let i = 0; i < all.length; i++) all[i] = bit(bits, i) ? given[next++] : NaN;
  if (next !== given.length) throw new Error(`The map has ${given.length} values for ${next} vertices.`);
  const once = map.counted && bytesOf(map.counted); // of a map of an image's voxels: the vertex that stands for each
  const counts = (side, i) => !once || bit(once, side === "left" ? i : geometry.vertices + i);
  const decoded = { ...map, counts, left: all.subarray(0, geometry.vertices), right: all.subarray(geometry.vertices) };
  return { ...decoded, extremes: extremes(decoded) };
}

/** Put the encoder's patches (`patches_payload`) among the parcellations of the geometry; whether there are any. */
export function addPatches(payload, geometry) {
  const content = parsed(payload);
  if (content === null || content.mesh !== geometry.mesh) return false;
  const labels = new Uint16Array(bytesOf(content.labels).buffer);
  geometry.arrays["left/patch"] = labels.subarray(0, geometry.vertices);
  geometry.arrays["right/patch"] = labels.subarray(geometry.vertices);
  const names = Array.from({ length: content.count }, (_, i) => `patch ${i + 1}`);
  geometry.parcellations.patch = { title: "patches", names: ["", ...names] };
  return true;
}

/** [smallest, largest] of both sides, or null where there is no value at all. */
function extremes(map) {
  let low = Infinity, high = -Infinity;
  for (const side of [map.left, map.right]) {
    for (const value of side) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}

/** The colour scale of a map: `{signed, limits, extremes, units}`. `choice` is "auto" (as the map was sent),
 * "sequential" (1st to 99th percentile where the map was sent as signed) or "symmetric" (around 0). */
export function scaleOf(map, choice) {
  const { extremes, units } = map;
  const signed = choice === "auto" ? map.signed : choice === "symmetric";
  let limits = map.limits;
  if (choice === "symmetric") {
    const high = Math.max(...limits.map(Math.abs));
    limits = [-high, high];
  } else if (signed !== map.signed && extremes) {
    limits = percentiles(map, [0.01, 0.99]);
    if (limits[0] === limits[1]) limits = extremes;
  }
  return { signed, limits, extremes, units };
}

/** One scale for two maps: from the lowest to the highest limit, around 0 if one of them is. */
export function commonScale([a, b]) {
  const signed = a.signed || b.signed;
  const low = Math.min(a.limits[0], b.limits[0]), high = Math.max(a.limits[1], b.limits[1]);
  const size = Math.max(-low, high);
  return { signed, limits: signed ? [-size, size] : [low, high] };
}

/** As numpy's: between two values of the sorted list, linearly. */
function percentiles(map, shares) {
  const values = [map.left, map.right].map((side) => side.filter((value) => value === value));
  const all = new Float32Array(values[0].length + values[1].length);
  all.set(values[0]);
  all.set(values[1], values[0].length);
  all.sort();
  return shares.map((share) => {
    const place = share * (all.length - 1), low = Math.floor(place);
    return all[low] + (place - low) * (all[Math.min(low + 1, all.length - 1)] - all[low]);
  });
}

/** The parcels with the largest mean (in size), those with at least `least` values that count:
 * `[{side, label, name, mean, vertex}]`; `vertex` is where the map is largest in it. */
export function strongestAreas(map, geometry, count = 5, key = "area", least = 10) {
  const names = geometry.parcellations[key]?.names;
  if (!names) return [];
  const found = [];
  for (const side of ["left", "right"]) {
    const labels = geometry.arrays[`${side}/${key}`], values = map[side];
    const sums = new Float64Array(names.length), sizes = new Uint32Array(names.length), peaks = new Int32Array(names.length).fill(-1);
    for (let i = 0; i < values.length; i++) {
      if (Number.isNaN(values[i]) || !map.counts(side, i)) continue;
      const k = labels[i];
      sums[k] += values[i];
      sizes[k] += 1;
      if (peaks[k] < 0 || Math.abs(values[i]) > Math.abs(values[peaks[k]])) peaks[k] = i;
    }
    for (let k = 1; k < names.length; k++) {
      if (sizes[k] >= least) found.push({ side, label: k, name: names[k], mean: sums[k] / sizes[k], vertex: peaks[k] });
    }
  }
  return found.sort((a, b) => Math.abs(b.mean) - Math.abs(a.mean)).slice(0, count);
}

/** A number for people: three significant digits, no needless zeros, never "-0". */
export function number(x) {
  if (x === 0 || Math.abs(x) < 1e-12) return "0";
  const size = Math.abs(x);
  const text = size >= 1e5 || size < 1e-3 ? x.toExponential(1) : String(Number(x.toPrecision(3)));
  return text.replace("-", "−");
}
