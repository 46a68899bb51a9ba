// Colour maps that stay readable with every common form of colour blindness.
// Stops sampled from matplotlib (viridis, cividis, magma: CC0; RdBu, PuOr: ColorBrewer, Apache-2.0; berlin: F. Crameri, MIT).
// Each is 33 colours of six hexadecimal digits, linearly interpolated.
export const COLORMAPS = {
  "viridis": {
    title: "Viridis",
    signed: false,
    stops:
      "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e21918c" +
      "1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83eaddc30c2df23d8e219ece51bfde725",
  },
  "cividis": {
    title: "Cividis",
    signed: false,
    stops:
      "00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d5a5f6e61656f686a716f70737676767d7c78" +
      "8482798c8878938e789b9476a39a74aba072b4a76fbcae6cc4b468cdbb63d5c25edec958e7d150f0d846f9e03afee838",
  },
  "magma": {
    title: "Magma",
    signed: false,
    stops:
      "0000040303120a0822130d341d114729115a36106b440f7651127c5d177f6a1c81762181832681902a819c2e7faa337db73779" +
      "c43c75d0416fdc4869e75263ef5d5ef56b5cf9795dfc8961fd9869fea772feb67cfec488fed395fde2a3fcf0b2fcfdbf",
  },
  "blue-red": {
    title: "Blue to red",
    signed: true,
    stops:
      "0530610e41791752901f63a82a71b23480b93f8ec0529dc86bacd184bcd99bc9e0aed3e6c2ddecd4e6f1e0ecf3ecf2f5f7f6f6" +
      "f9eee7fbe5d8fddcc9fbccb4f8bb9ef5aa89ee9677e48066db6b55d05548c53e3dba2832ab162a930e267c072267001f",
  },
  "purple-orange": {
    title: "Purple to orange",
    signed: true,
    stops:
      "2d004b390c5e4518715225845f3a916d529c7b6aa88a7eb39990bfa9a1cbb7b1d5c3c0ddcfcfe5dadcece4e5f0eeeef3f7f7f6" +
      "f9efe1fce8cdfee1b9fed59ffdc885fdbc6bf7ac52ee9b39e58a20d97b12cb6e0dbd6109ae55069e4c078d43077f3b08",
  },
  "berlin": {
    title: "Berlin (dark middle)",
    signed: true,
    stops:
      "9eb0ff8caef679abed65a7e2519fd34194c13685ad2e76992868862259731d4b61183d4f14303e11242e111a20121214190c09" +
      "220c022b0e013510004112014d16025b1d086c27117d341e8e422e9e513fae6051be6f63ce7f76df8f89f09f9cffadad",
  },
};

/** Red, green and blue (0..255) of a map at x in 0..1. */
export function colorAt(stops, x) {
  const last = stops.length / 6 - 1;
  const place = Math.min(Math.max(x, 0), 1) * last;
  const low = Math.min(Math.floor(place), last - 1);
  const channel = (stop, i) => parseInt(stops.slice(stop * 6 + i * 2, stop * 6 + i * 2 + 2), 16);
  return [0, 1, 2].map((i) => channel(low, i) + (place - low) * (channel(low + 1, i) - channel(low, i)));
}

/** The map as 256 RGBA texels. */
export function texels(name) {
  const data = new Uint8Array(256 * 4);
  for (let i = 0; i < 256; i++) data.set([...colorAt(COLORMAPS[name].stops, i / 255).map(Math.round), 255], i * 4);
  return data;
}

/** The map as a CSS gradient. */
export function gradient(name) {
  const stops = COLORMAPS[name].stops.match(/.{6}/g);
  return `linear-gradient(to right, ${stops.map((c) => `#${c}`).join(", ")})`;
}
