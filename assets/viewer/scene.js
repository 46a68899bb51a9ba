// Two hemispheres drawn with three.js: surfaces and the morph between them, colours, picking; once for one map, twice
// beside each other for two (panes). No page elements but the canvas. Nothing is drawn unless something changed.
import {
  BufferAttribute, BufferGeometry, DataTexture, GLSL3, Group, LinearFilter, Mesh, OrthographicCamera,
  Quaternion, RawShaderMaterial, Scene, Vector3, WebGLRenderer, WebGLRenderTarget,
} from "./three.module.min.js";
import { texels } from "./colormaps.js";
import { coordinates, triangleNormals, vertexNormals } from "./data.js";
import { Facing } from "./facing.js";
import { extent, fits, places, PRESETS, rotation } from "./layout.js";
import { borderCodes } from "./outlines.js";
import { COLOUR_FRAGMENT, COLOUR_VERTEX, PICK_FRAGMENT, PICK_VERTEX } from "./shaders.js";

const SIDES = ["left", "right"];
const OUTLINE_PX = 0.8; // half the width of a line
const HEAD_PX = 38; // above each of two panes: its title, in up to two lines

/** Whether WebGL runs on the processor: smooth edges and motion would then cost more than they are worth. */
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
    this.software = this.culls = software();
    this.renderer = new WebGLRenderer({ canvas, antialias: !this.software, alpha: true, powerPreference: "high-performance" });
    this.camera = new OrthographicCamera(-1, 1, 1, -1, -1000, 1000);
    this.scene = new Scene();
    this.pickScene = new Scene();
    this.pickTarget = new WebGLRenderTarget(1, 1);
    this.shared = { morph: { value: 0 }, opacity: { value: 1 }, outline: { value: 0 } };
    this.cache = {};
    this.panes = [this.#pane(), this.#pane()];
    this.compared = this.stacked = false;
    this.outlines = "";
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

  /** The colours of one map, and the two ways to paint it. */
  #pane() {
    const texture = new DataTexture(texels("viridis"), 256, 1);
    texture.minFilter = texture.magFilter = LinearFilter;
    texture.needsUpdate = true;
    const uniforms = {
      ...this.shared, colours: { value: texture }, limits: { value: [0, 1] }, threshold: { value: -1e30 },
      diverging: { value: false },
    };
    const [vertexShader, fragmentShader] = [COLOUR_VERTEX, COLOUR_FRAGMENT];
    const paint = (defines) => new RawShaderMaterial({ glslVersion: GLSL3, defines, vertexShader, fragmentShader, uniforms });
    // outlines are a program of their own: what is not drawn costs nothing
    return { texture, uniforms, plain: paint({}), outlined: paint({ OUTLINES: "" }) };
  }

  get outlined() {
    return this.panes[0].outlined;
  }

  #hemisphere(side, i) {
    const arrays = this.geometry.arrays;
    const count = this.geometry.vertices;
    const facing = new Facing(arrays[`${side}/faces`]), sulc = new BufferAttribute(arrays[`${side}/sulc`], 1, true);
    const shapes = this.panes.map(() => {
      const shape = new BufferGeometry();
      shape.setIndex(facing.whole);
      shape.setAttribute("sulc", sulc);
      shape.setAttribute("value", new BufferAttribute(new Float32Array(count), 1));
      shape.setAttribute("given", new BufferAttribute(new Uint8Array(count), 1));
      return shape;
    });
    const mark = new RawShaderMaterial({
      glslVersion: GLSL3, vertexShader: PICK_VERTEX, fragmentShader: PICK_FRAGMENT,
      uniforms: { morph: this.shared.morph, side: { value: i } },
    });
    const group = new Group(), pick = new Mesh(shapes[0], mark);
    const meshes = shapes.map((shape, pane) => new Mesh(shape, this.panes[pane].plain));
    for (const mesh of [...meshes, pick]) mesh.frustumCulled = false;
    group.add(...meshes);
    this.scene.add(group);
    pick.matrixAutoUpdate = false;
    this.pickScene.add(pick);
    return { group, shapes, meshes, shape: shapes[0], mesh: meshes[0], pick, facing };
  }

  #points(side, surface) {
    const key = `${side}/${surface}`;
    if (!this.cache[key]) {
      const faces = this.geometry.arrays[`${side}/faces`];
      const points = coordinates(this.geometry, side, surface);
      const count = surface === "flat" ? this.geometry.info[`${side}/faces`].flat : faces.length;
      const across = triangleNormals(points, faces, count), normals = vertexNormals(across, faces, points.length);
      this.cache[key] = { points: new BufferAttribute(points, 3), normals: new BufferAttribute(normals, 3), across: this.software ? across : null };
    }
    return this.cache[key];
  }

  /** Hand the surfaces that the morph runs between to the shader. */
  #load() {
    for (const side of SIDES) {
      const a = this.#points(side, this.from), b = this.#points(side, this.surface);
      for (const shape of this.hemispheres[side].shapes) {
        shape.setAttribute("position", a.points);
        shape.setAttribute("normal", a.normals);
        shape.setAttribute("positionB", b.points);
        shape.setAttribute("normalB", b.normals);
      }
    }
  }

  setColours(pane, name, diverging) {
    const { texture, uniforms } = this.panes[pane];
    texture.image.data.set(texels(name));
    texture.needsUpdate = true;
    uniforms.diverging.value = diverging;
    this.changed();
  }

  setRange(pane, limits, threshold) {
    const { uniforms } = this.panes[pane];
    uniforms.limits.value = limits;
    uniforms.threshold.value = threshold;
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
      const { meshes, shapes } = this.hemispheres[side];
      meshes.forEach((mesh, pane) => (mesh.material = this.panes[pane][key ? "outlined" : "plain"]));
      if (key) for (const shape of shapes) shape.setAttribute("parcel", this.#codes(side, key));
    }
    this.outlines = key;
    this.changed();
  }

  /** A parcellation of the geometry has other labels now. */
  forgetOutlines(key) {
    for (const side of SIDES) delete this.cache[`${side}/outlines/${key}`];
    if (this.outlines === key) this.setOutlines(key);
  }

  #codes(side, key) {
    const arrays = this.geometry.arrays;
    return (this.cache[`${side}/outlines/${key}`] ??= new BufferAttribute(
      borderCodes(arrays[`${side}/${key}`], arrays[`${side}/faces`]), 4, true,
    ));
  }

  /** Make ready what `setOutlines` needs, a piece at a time, before it is asked for. */
  prepareOutlines() {
    this.#inIdleTime(Object.keys(this.geometry.parcellations), (side, key) => this.#codes(side, key));
  }

  /** Make ready what `startMorph` needs, a piece at a time, before it is asked for. */
  prepareSurfaces() {
    this.#inIdleTime(this.geometry.surfaces.map(({ name }) => name), (side, name) => this.#points(side, name));
  }

  #inIdleTime(names, make) {
    const pieces = names.flatMap((name) => SIDES.map((side) => [side, name]));
    const idle = window.requestIdleCallback ?? setTimeout;
    const next = () => {
      if (pieces.length === 0 || this.disposed) return;
      make(...pieces.shift());
      idle(next);
    };
    idle(next);
  }

  /** Whether two panes are drawn. */
  setCompared(compared) {
    this.holdFit = this.holdFit && compared === this.compared;
    this.compared = compared;
    this.changed();
  }

  /** `map` has a Float32Array for each side, NaN where there is nothing; null is bare cortex. */
  setMap(pane, map) {
    for (const side of SIDES) {
      const { value, given } = this.hemispheres[side].shapes[pane].attributes;
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

  /** Put the hemispheres beside each other and fit them to a pane. Tells where each stands, in CSS pixels of it. */
  #layout(width, height) {
    const order = this.swap ? ["right", "left"] : SIDES;
    const boxes = order.map((side) => {
      const a = this.#points(side, this.from).points.array, b = this.#points(side, this.surface).points.array;
      return extent(this.hemispheres[side].group.quaternion, a, b, this.shared.morph.value);
    });
    const fitted = fits(boxes, width, height);
    // two narrow panes may have room for one hemisphere above the other; it stays so while a hand turns them
    if (!this.holdFit) this.stacked = this.compared && fitted.column > fitted.row;
    const best = this.stacked ? fitted.column : fitted.row;
    this.fit = this.holdFit ? Math.min(this.fit, best) : best;
    const scale = (this.scale = this.fit * this.zoom);
    const at = places(boxes, this.stacked, scale);
    this.boxes = {};
    order.forEach((side, i) => {
      const [x, y] = at[i];
      this.hemispheres[side].group.position.set(x, y, 0);
      const centre = x + (boxes[i].left + boxes[i].right) / 2;
      this.boxes[side] = { x: width / 2 + centre * scale, bottom: this.head + height / 2 - (boxes[i].bottom + y) * scale };
    });
    Object.assign(this.camera, {
      left: -width / 2 / scale, right: width / 2 / scale, top: height / 2 / scale, bottom: -height / 2 / scale,
    });
    this.camera.updateProjectionMatrix();
  }

  /** Leave out what is turned away. In the midst of a morph that is not known, and with a graphics chip it saves nothing. */
  #face() {
    const still = this.culls && this.from === this.surface;
    for (const side of SIDES) {
      const { facing, group, shapes } = this.hemispheres[side], { across } = this.#points(side, this.surface);
      if (still) facing.update(across, group.quaternion);
      const faces = this.geometry.info[`${side}/faces`], cut = this.from === "flat" || this.surface === "flat";
      for (const shape of shapes) {
        shape.setIndex(still ? facing.shown : facing.whole);
        shape.setDrawRange(0, still ? facing.count : cut ? faces.flat : faces.length);
      }
    }
  }

  draw(width, height, ratio) {
    const size = this.canvasSize;
    if (size?.width !== width || size.height !== height || size.ratio !== ratio) { // a new size is a new buffer: it costs
      this.renderer.setPixelRatio(ratio);
      this.renderer.setSize(width, height, false);
      this.canvasSize = { width, height, ratio };
    }
    const panes = this.compared ? 2 : 1;
    this.head = this.compared ? HEAD_PX : 0;
    this.size = { width: width / panes, height: height - this.head };
    this.shared.outline.value = OUTLINE_PX * ratio;
    this.#layout(this.size.width, this.size.height);
    this.#face();
    this.renderer.setScissorTest(this.compared);
    for (let pane = 0; pane < panes; pane++) {
      for (const side of SIDES) this.hemispheres[side].meshes.forEach((mesh, i) => (mesh.visible = i === pane));
      const box = [pane * this.size.width, 0, this.size.width, this.size.height];
      this.renderer.setViewport(...box);
      this.renderer.setScissor(...box);
      this.renderer.render(this.scene, this.camera);
    }
  }

  /** The pane at a place of the canvas (CSS pixels) and the place in it; null above the panes. */
  paneAt(x, y) {
    if (!this.size || y < this.head) return null;
    const pane = this.compared && x >= this.size.width ? 1 : 0;
    return { pane, x: x - pane * this.size.width, y: y - this.head };
  }

  /** Where a vertex is seen, in CSS pixels of the canvas for the first pane, and whether it faces the viewer. */
  project(side, vertex) {
    const { group } = this.hemispheres[side], { points, normals } = this.#points(side, this.surface);
    const part = (attribute) => new Vector3().fromBufferAttribute(attribute, vertex).applyQuaternion(group.quaternion);
    const at = part(points).add(group.position), { width, height } = this.size;
    const facing = this.surface === "flat" || part(normals).z > 0;
    return { x: width / 2 + at.x * this.scale, y: this.head + height / 2 - at.y * this.scale, facing };
  }

  #renderPicking(width, height) {
    for (const side of SIDES) {
      const { group, pick } = this.hemispheres[side];
      group.updateMatrixWorld();
      pick.matrix.copy(group.matrixWorld);
    }
    this.#face();
    this.renderer.setScissorTest(false);
    this.pickTarget.setSize(width, height);
    this.renderer.setRenderTarget(this.pickTarget);
    this.renderer.render(this.pickScene, this.camera);
    const pixels = new Uint8Array(4 * width * height);
    this.renderer.readRenderTargetPixels(this.pickTarget, 0, 0, width, height, pixels);
    this.renderer.setRenderTarget(null);
    return pixels;
  }

  /** Which vertex is at a place of the canvas (CSS pixels): `{side, vertex, pane}` or null. One pixel is drawn for it. */
  pick(x, y) {
    const place = this.paneAt(x, y);
    if (!place) return null;
    this.camera.setViewOffset(this.size.width, this.size.height, place.x, place.y, 1, 1);
    const pixel = this.#renderPicking(1, 1);
    this.camera.clearViewOffset();
    if (pixel[3] < 254) return null;
    return { side: SIDES[pixel[3] - 254], vertex: pixel[0] + 256 * pixel[1] + 65536 * pixel[2], pane: place.pane };
  }

  /** What is seen of a pane, every `step`th pixel: vertices (the right hemisphere's after the left's) from the top left
   * on, -1 where there is no cortex. */
  seen(step) {
    const width = Math.floor(this.size.width / step), height = Math.floor(this.size.height / step);
    const pixels = this.#renderPicking(width, height), vertices = new Int32Array(width * height);
    this.pickTarget.setSize(1, 1);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = 4 * ((height - 1 - y) * width + x), mark = pixels[at + 3];
        const vertex = pixels[at] + 256 * pixels[at + 1] + 65536 * pixels[at + 2];
        vertices[y * width + x] = mark < 254 ? -1 : vertex + (mark === 255 ? this.geometry.vertices : 0);
      }
    }
    return { vertices, width, height };
  }

  dispose() {
    this.disposed = true;
    this.renderer.dispose();
    this.pickTarget.dispose();
  }
}
