// Draws charts over all epochs, each a line of JSON of the file, as the script of a page does.
// node whole_curves.mjs FILE

import { readFileSync } from "node:fs";
import { drawn } from "../src/curves/chart.ts";

for (const line of readFileSync(process.argv[2], "utf8").trim().split("\n")) {
  const chart = JSON.parse(line);
  console.log(drawn(chart, chart.lines.filter((one) => one.shown), [1, chart.epochs]));
}
