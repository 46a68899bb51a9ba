// Two hemispheres drawn with three.js: surfaces and the morph between them, colours, layout, picking. No page elements
// but the canvas. Nothing is drawn unless something changed.
import {
  BufferAttribute, BufferGeometry, DataTexture, GLSL3, Group, LinearFilter, Mesh, OrthographicCamera,
  Quaternion, RawShaderMaterial, Matrix4, Scene, Vector3, WebGLRenderer, WebGLRenderTarget,
} from "./three.module.min.js";
import { texels } from "./colormaps.js";
import { coordinates, vertexNormals } from "./data.js";
import { borderCodes } from "./outlines.js";
import { COLOUR_FRAGMENT, COLOUR_VERTEX, PICK_FRAGMENT, PICK_VERTEX } from "./shaders.js";

const SIDES = ["left", "right"];
const GAP_MM = 10;
const OUTLINE_PX = 0.8; // half the width of a line

// What the screen's right, up and towards-the-viewer are in the brain (x right, y anterior, z superior), by hemisphere.
const BOTH = (axes, swap = false) => ({ left: axes, right: axes, swap });
export const PRESETS = {
  lateral: { left: ["-y", "z", "-x"], right: ["y", "z", "x"], title: "Lateral" },
  medial: { left: ["y", "z", "x"], right: ["-y", "z", "-x"], title: "Medial" },
  dorsal: { ...BOTH(["x", "y", "z"]), title: "Dorsal" },
  ventral: { ...BOTH(["-x", "y", "-z"], true), title: "Ventral" },
  posterior: { ...BOTH(["x", "z", "-y"]), title: "Posterior" },
};

function rotation(axes) {
  const unit = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] };
  const [r, u, t] = axes.map((name) => unit[name.at(-1)].map((c) => (name[0] === "-" ? -c : c)));
  return new Quaternion().setFromRotationMatrix(
    new Matrix4().set(r[0], r[1], r[2], 0, u[0], u[1], u[2], 0, t[0], t[1], t[2], 0, 0, 0, 0, 1),
  );
}

/** Whether WebGL runs on the processor: smooth edges would then cost more than they are worth. */
function software() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const info = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = info ? String(gl.getParameter(info.UNMASKED_RENDERER_WEBGL)) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

/** Everything that is drawn. `changed` is called when a new frame is due. */
export class CortexScene {
  constructor(canvas, geometry, changed) {
    this.geometry = geometry;
    this.changed = changed;
    this.renderer = new WebGLRenderer({ canvas, antialias: !software(), alpha: true, powerPreference: "high-performance" });
    this.camera = new OrthographicCamera(-1, 1, 1, -1, -1000, 1000);
    this.scene = new Scene();
    this.pickScene = new Scene();
    this.pickTarget = new WebGLRenderTarget(1, 1);
    this.colours = new DataTexture(texels("viridis"), 256, 1);
    this.colours.minFilter = this.colours.magFilter = LinearFilter;
    this.colours.needsUpdate = true;
    this.shared = {
      morph: { value: 0 }, colours: { value: this.colours }, limits: { value: [0, 1] },
      threshold: { value: -1e30 }, diverging: { value: false }, opacity: { value: 1 }, outline: { value: 0 },
    };
    this.cache = {};
    this.plain = this.#paint({});
    this.outlined = this.#paint({ OUTLINES: "" }); // a program of its own: what is not drawn costs nothing
    this.zoom = 1;
    this.fit = 1;
    this.holdFit = false;
    this.swap = false;
    this.surface = this.from = geometry.surfaces[0].name;
    this.hemispheres = Object.fromEntries(SIDES.map((side, i) => [side, this.#hemisphere(side, i)]));
    this.#load();
    this.startTurn("lateral");
    this.turn(1);
  }

  #paint(defines) {
    const [vertexShader, fragmentShader] = [COLOUR_VERTEX, COLOUR_FRAGMENT];
    return new RawShaderMaterial({ glslVersion: GLSL3, defines, vertexShader, fragmentShader, uniforms: this.shared });
  }

  #hemisphere(side, i) {
    const arrays = this.geometry.arrays;
    const count = this.geometry.vertices;
    const shape = new BufferGeometry();
    shape.setIndex(new BufferAttribute(arrays[`${side}/faces`], 1));
    shape.setAttribute("sulc", new BufferAttribute(arrays[`${side}/sulc`], 1, true));
    shape.setAttribute("value", new BufferAttribute(new Float32Array(count), 1));
    shape.setAttribute("given", new BufferAttribute(new Uint8Array(count), 1));
    const mark = new RawShaderMaterial({
      glslVersion: GLSL3, vertexShader: PICK_VERTEX, fragmentShader: PICK_FRAGMENT,
      uniforms: { morph: this.shared.morph, side: { value: i } },
    });
    const group = new Group(), mesh = new Mesh(shape, this.plain), pick = new Mesh(shape, mark);
    mesh.frustumCulled = pick.frustumCulled = false;
    group.add(mesh);
    this.scene.add(group);
    pick.matrixAutoUpdate = false;
    this.pickScene.add(pick);
    return { group, shape, mesh, pick, box: null };
  }

  #points(side, surface) {
    const key = `${side}/${surface}`;
    if (!this.cache[key]) {
      const faces = this.geometry.arrays[`${side}/faces`];
      const points = coordinates(this.geometry, side, surface);
      const count = surface === "flat" ? this.geometry.info[`${side}/faces`].flat : faces.length;
      this.cache[key] = {
        points: new BufferAttribute(points, 3), normals: new BufferAttribute(vertexNormals(points, faces, count), 3),
      };
    }
    return this.cache[key];
  }

  /** Hand the surfaces that the morph runs between to the shader. */
  #load() {
    for (const side of SIDES) {
      const { shape } = this.hemispheres[side];
      const a = this.#points(side, this.from), b = this.#points(side, this.surface);
      shape.setAttribute("position", a.points);
      shape.setAttribute("normal", a.normals);
      shape.setAttribute("positionB", b.points);
      shape.setAttribute("normalB", b.normals);
      const faces = this.geometry.info[`${side}/faces`];
      const cut = this.from === "flat" || this.surface === "flat";
      shape.setDrawRange(0, cut ? faces.flat : faces.length);
    }
  }

  setColours(name, diverging) {
    this.colours.image.data.set(texels(name));
    this.colours.needsUpdate = true;
    this.shared.diverging.value = diverging;
    this.changed();
  }

  setRange(limits, threshold) {
    this.shared.limits.value = limits;
    this.shared.threshold.value = threshold;
    this.changed();
  }

  /** How much of the underlay the map covers: 0 (nothing) to 1 (all). */
  setOpacity(opacity) {
    this.shared.opacity.value = opacity;
    this.changed();
  }

  /** Draw the borders of a parcellation of the geometry ("" for none). */
  setOutlines(key) {
    for (const side of SIDES) {
      const { mesh, shape } = this.hemispheres[side];
      mesh.material = key ? this.outlined : this.plain;
      if (key) shape.setAttribute("parcel", this.#codes(side, key));
    }
    this.changed();
  }

  #codes(side, key) {
    const arrays = this.geometry.arrays;
    return (this.cache[`${side}/outlines/${key}`] ??= new BufferAttribute(
      borderCodes(arrays[`${side}/${key}`], arrays[`${side}/faces`]), 4, true,
    ));
  }

  /** Make ready what `setOutlines` needs, a piece at a time, before it is asked for. */
  prepareOutlines() {
    const pieces = Object.keys(this.geometry.parcellations).flatMap((key) => SIDES.map((side) => [side, key]));
    const next = () => {
      if (pieces.length === 0) return;
      this.#codes(...pieces.shift());
      setTimeout(next);
    };
    setTimeout(next);
  }

  /** `map` has a Float32Array for each side, NaN where there is nothing; null is bare cortex. */
  setMap(map) {
    for (const side of SIDES) {
      const { value, given } = this.hemispheres[side].shape.attributes;
      const values = map?.[side];
      for (let i = 0; i < value.array.length; i++) {
        const there = values !== undefined && values[i] === values[i];
        given.array[i] = there ? 1 : 0;
        value.array[i] = there ? values[i] : 0;
      }
      value.needsUpdate = given.needsUpdate = true;
    }
    this.changed();
  }

  /** Begin the morph to a surface; `step` (0..1) carries it on. */
  startMorph(surface) {
    this.from = this.surface;
    this.surface = surface;
    this.shared.morph.value = 0;
    this.#load();
  }

  step(share) {
    this.shared.morph.value = share;
    if (share >= 1) {
      this.from = this.surface;
      this.shared.morph.value = 0;
      this.#load();
    }
    this.changed();
  }

  /** Begin the turn to a preset; `turn` (0..1) carries it on. */
  startTurn(preset) {
    this.swap = Boolean(PRESETS[preset].swap);
    this.holdFit = false;
    for (const side of SIDES) {
      const h = this.hemispheres[side];
      h.start = h.group.quaternion.clone();
      h.goal = rotation(PRESETS[preset][side]);
    }
  }

  turn(share) {
    for (const side of SIDES) {
      const h = this.hemispheres[side];
      h.group.quaternion.slerpQuaternions(h.start, h.goal, share);
    }
    this.changed();
  }

  /** Turn both hemispheres by angles (radians) about the screen's vertical and horizontal. */
  rotate(right, down) {
    const by = new Quaternion().setFromAxisAngle(new Vector3(0, 1, 0), right);
    by.multiply(new Quaternion().setFromAxisAngle(new Vector3(1, 0, 0), down));
    for (const side of SIDES) this.hemispheres[side].group.quaternion.premultiply(by);
    this.holdFit = true;
    this.changed();
  }

  zoomBy(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 8);
    this.changed();
  }

  /** Width and height of a hemisphere as it stands on the screen, from every eighth vertex. */
  #extent(side) {
    const { group } = this.hemispheres[side];
    const m = new Matrix4().makeRotationFromQuaternion(group.quaternion).elements;
    const a = this.#points(side, this.from).points.array, b = this.#points(side, this.surface).points.array;
    const t = this.shared.morph.value;
    const box = { left: 1e9, right: -1e9, bottom: 1e9, top: -1e9 };
    for (let i = 0; i < a.length; i += 24) {
      const x = a[i] + t * (b[i] - a[i]), y = a[i + 1] + t * (b[i + 1] - a[i + 1]), z = a[i + 2] + t * (b[i + 2] - a[i + 2]);
      const u = m[0] * x + m[4] * y + m[8] * z, v = m[1] * x + m[5] * y + m[9] * z;
      box.left = Math.min(box.left, u);
      box.right = Math.max(box.right, u);
      box.bottom = Math.min(box.bottom, v);
      box.top = Math.max(box.top, v);
    }
    return box;
  }

  /** Put the hemispheres side by side and fit them to the canvas. Returns where each stands, in CSS pixels. */
  #layout(width, height) {
    const order = this.swap ? ["right", "left"] : SIDES;
    const boxes = order.map((side) => this.#extent(side));
    const [first, second] = boxes;
    const total = first.right - first.left + GAP_MM + second.right - second.left;
    const bottom = Math.min(first.bottom, second.bottom), top = Math.max(first.top, second.top);
    const fitted = Math.min((width - 24) / total, (height - 44) / (top - bottom));
    this.fit = this.holdFit ? Math.min(this.fit, fitted) : fitted;
    const scale = this.fit * this.zoom;
    const middle = (bottom + top) / 2;
    const places = [-total / 2 - first.left, total / 2 - second.right];
    this.boxes = {};
    order.forEach((side, i) => {
      this.hemispheres[side].group.position.set(places[i], -middle, 0);
      const x = places[i] + (boxes[i].left + boxes[i].right) / 2;
      this.boxes[side] = { x: width / 2 + x * scale, bottom: height / 2 - (boxes[i].bottom - middle) * scale };
    });
    Object.assign(this.camera, {
      left: -width / 2 / scale, right: width / 2 / scale, top: height / 2 / scale, bottom: -height / 2 / scale,
    });
    this.camera.updateProjectionMatrix();
  }

  draw(width, height, ratio) {
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.size = { width, height };
    this.shared.outline.value = OUTLINE_PX * ratio;
    this.#layout(width, height);
    this.renderer.render(this.scene, this.camera);
  }

  /** Which vertex is at a place of the canvas (CSS pixels): `{side, vertex}` or null. One pixel is drawn for it. */
  pick(x, y) {
    if (!this.size) return null;
    for (const side of SIDES) {
      const { group, pick } = this.hemispheres[side];
      group.updateMatrixWorld();
      pick.matrix.copy(group.matrixWorld);
    }
    this.camera.setViewOffset(this.size.width, this.size.height, x, y, 1, 1);
    this.renderer.setRenderTarget(this.pickTarget);
    this.renderer.render(this.pickScene, this.camera);
    const pixel = new Uint8Array(4);
    this.renderer.readRenderTargetPixels(this.pickTarget, 0, 0, 1, 1, pixel);
    this.renderer.setRenderTarget(null);
    this.camera.clearViewOffset();
    if (pixel[3] < 254) return null;
    return { side: SIDES[pixel[3] - 254], vertex: pixel[0] + 256 * pixel[1] + 65536 * pixel[2] };
  }

  dispose() {
    this.renderer.dispose();
    this.pickTarget.dispose();
  }
}
