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
  return Float32Array.from(geometry.arrays[key], (x) => x * scale);
}

/** Smooth unit normals: the mean of the triangles around each vertex, weighted by area. */
export function vertexNormals(points, faces, count = faces.length) {
  const normals = new Float32Array(points.length);
  for (let f = 0; f < count; f += 3) {
    const a = faces[f] * 3, b = faces[f + 1] * 3, c = faces[f + 2] * 3;
    const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
    const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const i of [a, b, c]) {
      normals[i] += nx;
      normals[i + 1] += ny;
      normals[i + 2] += nz;
    }
  }
  for (let i = 0; i < normals.length; i += 3) {
    const length = Math.hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
    normals[i] /= length;
    normals[i + 1] /= length;
    normals[i + 2] /= length;
  }
  return normals;
}

/** Unpack a map: `{left, right, ...}` with NaN where a vertex has no value; null stands for "no map yet". */
export function decodeValues(payload, geometry) {
  if (payload === null || payload === undefined || payload === "") return null;
  const map = typeof payload === "string" ? JSON.parse(payload) : payload;
  if (map.mesh !== geometry.mesh) {
    throw new Error(`The map is on ${map.mesh}, the cortex shown is ${geometry.mesh}.`);
  }
  const bits = bytesOf(map.mask);
  const given = new Float32Array(bytesOf(map.values).buffer);
  const all = new Float32Array(2 * geometry.vertices);
  let next = 0;
  for (let i = 0; i < all.length; i++) all[i] = bits[i >> 3] & (1 << (i & 7)) ? given[next++] : NaN;
  if (next !== given.length) throw new Error(`The map has ${given.length} values for ${next} vertices.`);
  return { ...map, left: all.subarray(0, geometry.vertices), right: all.subarray(geometry.vertices) };
}

/** The areas with the largest mean (in size), those with at least ten values: `[{side, name, mean}]`. */
export function strongestAreas(map, geometry, count = 5) {
  const names = geometry.parcellations.area?.names;
  if (!names) return [];
  const found = [];
  for (const side of ["left", "right"]) {
    const labels = geometry.arrays[`${side}/area`];
    const sums = new Float64Array(names.length), sizes = new Uint32Array(names.length);
    map[side].forEach((value, i) => {
      if (Number.isNaN(value)) return;
      sums[labels[i]] += value;
      sizes[labels[i]] += 1;
    });
    for (let k = 1; k < names.length; k++) if (sizes[k] >= 10) found.push({ side, name: names[k], mean: sums[k] / sizes[k] });
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
