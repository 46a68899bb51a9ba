// Where the hemispheres stand: how each is turned, how large both are drawn, side by side or one above the other.
import { Matrix4, Quaternion } from "./three.module.min.js";

const GAP_MM = 10;
const LABEL_PX = 22; // a line below a hemisphere

// What the screen's right, up and towards-the-viewer are in the brain (x right, y anterior, z superior), by hemisphere.
const BOTH = (axes, swap = false) => ({ left: axes, right: axes, swap });
export const PRESETS = {
  lateral: { left: ["-y", "z", "-x"], right: ["y", "z", "x"], title: "Lateral" },
  medial: { left: ["y", "z", "x"], right: ["-y", "z", "-x"], title: "Medial" },
  dorsal: { ...BOTH(["x", "y", "z"]), title: "Dorsal" },
  ventral: { ...BOTH(["-x", "y", "-z"], true), title: "Ventral" },
  posterior: { ...BOTH(["x", "z", "-y"]), title: "Posterior" },
};

/** The turn that brings a hemisphere's axes (right, up, towards the viewer) to the screen's. */
export function rotation(axes) {
  const unit = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] };
  const [r, u, t] = axes.map((name) => unit[name.at(-1)].map((c) => (name[0] === "-" ? -c : c)));
  return new Quaternion().setFromRotationMatrix(
    new Matrix4().set(r[0], r[1], r[2], 0, u[0], u[1], u[2], 0, t[0], t[1], t[2], 0, 0, 0, 0, 1),
  );
}

/** Width and height of a hemisphere as it stands on the screen, from every eighth vertex; `share` of the way from points a to b. */
export function extent(quaternion, a, b, share) {
  const m = new Matrix4().makeRotationFromQuaternion(quaternion).elements;
  const box = { left: 1e9, right: -1e9, bottom: 1e9, top: -1e9 };
  for (let i = 0; i < a.length; i += 24) {
    const x = a[i] + share * (b[i] - a[i]), y = a[i + 1] + share * (b[i + 1] - a[i + 1]);
    const z = a[i + 2] + share * (b[i + 2] - a[i + 2]);
    const u = m[0] * x + m[4] * y + m[8] * z, v = m[1] * x + m[5] * y + m[9] * z;
    box.left = Math.min(box.left, u);
    box.right = Math.max(box.right, u);
    box.bottom = Math.min(box.bottom, v);
    box.top = Math.max(box.top, v);
  }
  return box;
}

/** How large two hemispheres (`extent`) can be drawn in a space of pixels: `{row, column}` in pixels by mm. */
export function fits([first, second], width, height) {
  const [w1, w2] = [first.right - first.left, second.right - second.left];
  const [h1, h2] = [first.top - first.bottom, second.top - second.bottom];
  const tall = Math.max(first.top, second.top) - Math.min(first.bottom, second.bottom);
  return {
    row: Math.min((width - 24) / (w1 + GAP_MM + w2), (height - 2 * LABEL_PX) / tall),
    column: Math.min((width - 24) / Math.max(w1, w2), (height - 3 * LABEL_PX) / (h1 + h2)),
  };
}

/** Where the middles of two hemispheres go, in mm from the middle of the space: `[x, y]` of each. */
export function places([first, second], column, scale) {
  if (!column) {
    const total = first.right - first.left + GAP_MM + second.right - second.left;
    const middle = (Math.min(first.bottom, second.bottom) + Math.max(first.top, second.top)) / 2;
    return [[-total / 2 - first.left, -middle], [total / 2 - second.right, -middle]];
  }
  const gap = LABEL_PX / scale, total = first.top - first.bottom + gap + second.top - second.bottom;
  const centred = (box) => -(box.left + box.right) / 2;
  const up = gap / 3; // the label of the lower one needs room below
  return [[centred(first), total / 2 - first.top + up], [centred(second), -total / 2 - second.bottom + up]];
}
