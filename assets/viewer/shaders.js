// What the graphics card runs: the morph between two surfaces, the colours of the map, the outlines, picking.
const VERTEX = `
precision highp float;
uniform mat4 modelViewMatrix, projectionMatrix;
uniform float morph;
in vec3 position, positionB;
`;
export const COLOUR_VERTEX = `${VERTEX}
in vec3 normal, normalB;
in float value, given, sulc;
out vec3 vNormal;
out float vValue, vGiven, vSulc;
#ifdef OUTLINES
in vec4 parcel;
out vec4 vParcel;
#endif
void main() {
#ifdef OUTLINES
  vParcel = parcel;
#endif
  vNormal = mat3(modelViewMatrix) * mix(normal, normalB, morph);
  vValue = value;
  vGiven = given;
  vSulc = sulc;
  gl_Position = projectionMatrix * (modelViewMatrix * vec4(mix(position, positionB, morph), 1.0));
}`;
// An empty vertex counts as 0 with weight 0: dividing by the interpolated weight keeps its emptiness out of the colours.
// A border of parcels is where the two largest codes (outlines.js) are equal: their difference over its slope is the
// distance in pixels, so that a line has the same width on every surface. Ink is dark on light and light on dark.
export const COLOUR_FRAGMENT = `
precision highp float;
uniform sampler2D colours;
uniform vec2 limits;
uniform float threshold, opacity, outline;
uniform bool diverging;
in vec3 vNormal;
in float vValue, vGiven, vSulc;
out vec4 colour;
#ifdef OUTLINES
in vec4 vParcel;
float border() {
  float rest = 1.0 - vParcel.x - vParcel.y - vParcel.z - vParcel.w;
  vec2 low = min(vParcel.xy, vParcel.zw), high = max(vParcel.xy, vParcel.zw);
  float first = max(high.x, high.y), second = max(min(high.x, high.y), max(low.x, low.y));
  second = max(second, min(first, rest));
  first = max(first, rest);
  vec4 x = dFdx(vParcel), y = dFdy(vParcel);
  vec2 other = vec2(dot(x, vec4(1.0)), dot(y, vec4(1.0)));
  float slope = dot(x, x) + dot(y, y) + dot(other, other);
  return slope < 1e-9 ? 0.0 : 1.0 - smoothstep(outline - 0.5, outline + 0.5, (first - second) * inversesqrt(2.0 * slope));
}
#endif
void main() {
  float light = abs(normalize(vNormal).z);
  vec3 plain = vec3(mix(0.80, 0.47, smoothstep(0.38, 0.62, vSulc)));
  float dim = 0.55;
  float value = vValue / max(vGiven, 1e-6);
  float size = diverging ? abs(value) : value;
  if (vGiven > 0.5 && size >= threshold) {
    float span = limits.y - limits.x;
    float place = span > 0.0 ? (value - limits.x) / span : 0.5;
    vec3 mapped = texture(colours, vec2(clamp(place, 0.0, 1.0) * 255.0 / 256.0 + 0.5 / 256.0, 0.5)).rgb;
    plain = mix(plain, mapped, opacity);
    dim = mix(dim, 0.72, opacity);
  }
  colour = vec4(plain * mix(dim, 1.0, light), 1.0);
#ifdef OUTLINES
  float ink = dot(plain, vec3(0.299, 0.587, 0.114)) < 0.36 ? 0.97 : 0.05;
  colour.rgb = mix(colour.rgb, vec3(ink), border());
#endif
}`;
export const PICK_VERTEX = `${VERTEX}
flat out int vId;
void main() {
  vId = gl_VertexID;
  gl_Position = projectionMatrix * (modelViewMatrix * vec4(mix(position, positionB, morph), 1.0));
}`;
export const PICK_FRAGMENT = `
precision highp float;
uniform float side;
flat in int vId;
out vec4 colour;
void main() {
  colour = vec4(float(vId & 255), float((vId >> 8) & 255), float((vId >> 16) & 255), 254.0 + side) / 255.0;
}`;
