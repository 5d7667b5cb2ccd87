// What tests/test_browser.py runs in Node.
export { chromaOf, lightnessOf } from "../src/color";
export { agreed, nearness, pad, paddedSize, rasterizeHints, workingSize } from "../src/layout";
export { xmpPacket } from "../src/mark";
export { TorchGenerator } from "../src/noise";
export { RowResizer } from "../src/resize";
