// What tests/test_browser.py runs in Node.
export { WARMTH } from "../src/engine";
export { zip } from "../src/zip";
export { chromaOf, lightnessOf } from "../src/color";
export {
  agree,
  candidatesEach,
  finer,
  groupByWarmth,
  hintInfluence,
  rasterizeHints,
  workingSizes,
} from "../src/layout";
export { cover } from "../src/things";
export { xmpPacket } from "../src/mark";
export { TorchGenerator } from "../src/noise";
export { RowResizer } from "../src/resize";
export { pictureBox } from "../src/margins";
export { Cells, LevelsMeter, leveled } from "../src/light";
export { glowPixels } from "../src/glow";
