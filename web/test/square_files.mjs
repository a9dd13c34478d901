// Crops pictures as the page does: called by tests/exporters/test_web_pixels.py with a file that
// lists them.
import { readFileSync, writeFileSync } from "node:fs";
import { square } from "../src/classifier/preprocess.ts";

const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
for (const { file, width, height, preprocess } of cases) {
  const data = new Uint8Array(readFileSync(file));
  writeFileSync(file, square({ width, height, channels: 4, data }, preprocess).data);
}
