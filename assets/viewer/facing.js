// The triangles that face the viewer. Without a graphics chip a triangle that is turned away costs as much as one that is
// seen, and half of them are: leaving those out nearly halves the time of a drawing.
import { BufferAttribute } from "./three.module.min.js";

// How far (squared) a triangle may be turned away and still be drawn: its corners are rounded to places of the screen, so
// that one that is seen from its edge may face the viewer there.
const EDGE = 0.001;

/** The triangles of a hemisphere: all of them (`whole`), and those that face the viewer (`shown`, the first `count`). */
export class Facing {
  constructor(faces) {
    this.whole = new BufferAttribute(faces, 1);
    this.shown = new BufferAttribute(new faces.constructor(faces.length), 1);
    this.count = 0;
    this.found = {}; // for which surface and turn `shown` was made
  }

  /**
   * Find them anew if the surface or its turn is another one.
   * @param {Float32Array} across  the normals of the triangles of a surface (`triangleNormals`), as many as it has
   * @param {Quaternion} turn  of the hemisphere; the viewer looks along z, from the far end
   */
  update(across, turn) {
    const { x, y, z, w } = turn, { found } = this;
    if (found.across === across && found.x === x && found.y === y && found.z === z && found.w === w) return;
    this.found = { across, x, y, z, w };
    const toX = 2 * (x * z - w * y), toY = 2 * (y * z + w * x), toZ = 1 - 2 * (x * x + y * y); // how far each axis points to the viewer
    const from = this.whole.array, to = this.shown.array;
    let count = 0;
    for (let i = 0; i < across.length; i += 3) {
      const ahead = across[i] * toX + across[i + 1] * toY + across[i + 2] * toZ;
      if (ahead <= 0 && ahead * ahead > EDGE * (across[i] ** 2 + across[i + 1] ** 2 + across[i + 2] ** 2)) continue;
      to[count] = from[i];
      to[count + 1] = from[i + 1];
      to[count + 2] = from[i + 2];
      count += 3;
    }
    this.count = count;
    this.shown.clearUpdateRanges();
    this.shown.addUpdateRange(0, count);
    this.shown.needsUpdate = true;
  }
}
