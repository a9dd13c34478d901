import { expect, test } from "vitest";
import { apart, axisOf, drawn, epochAt, linear, tickText, ticks, valueText, type Chart } from "../src/curves/chart";
import { between, kept, moved, showing, zoomed } from "../src/curves/range";
import { compared } from "../src/curves/sort";

const chart: Chart = {
  epochs: 10,
  area: [48, 8, 352, 202],
  form: "percent",
  log: false,
  most: 1,
  best: [9, 0.99],
  lines: [
    { name: "train", label: "training", end: "", shown: true, values: [0.1, 0.5, 0.8, 0.9, 0.95, 0.96, null, 0.98, 0.99] },
  ],
};
const [line] = chart.lines;

test("a part of the epochs fills the height, and no more of the lines is drawn", () => {
  expect(axisOf(chart, [line!], [1, 10])).toEqual({ low: 0, high: 1, log: false });
  const part = axisOf(chart, [line!], [4, 6]);
  expect(part.low).toBeCloseTo(0.897);
  expect(part.high).toBeCloseTo(0.963);
  const svg = drawn(chart, [line!], [4, 6]);
  expect(svg.match(/points="([^"]*)"/)![1]!.split(" ")).toHaveLength(3);
  expect(svg).not.toContain("<circle");
  expect(drawn(chart, [line!], [8, 10])).toContain('<circle class="held"');
});

test("a gap parts a line, and a lone value is a point", () => {
  const svg = drawn({ ...chart, best: null }, [line!], [6, 9]);
  expect(svg.match(/<polyline/g)).toHaveLength(2);
  expect(svg.match(/<circle class="train"/g)).toHaveLength(1);
});

test("log axes stay log", () => {
  const loss = { ...chart, log: true, most: null, best: null };
  const line = { ...chart.lines[0]!, values: [100, 10, 1, 0.1] };
  const axis = axisOf(loss, [line], [1, 4]);
  expect(axis.log).toBe(true);
  expect(ticks(axis)).toEqual([0.1, 1, 10, 100]);
  expect(ticks({ low: 0.2, high: 0.9, log: true })).toEqual(linear(0.2, 0.9, 5));
});

test("nothing to show is drawn as nothing", () => {
  const empty = { ...line!, values: [] };
  expect(drawn(chart, [empty], [1, 10])).not.toContain("NaN");
  expect(drawn(chart, [{ ...empty, values: [0, 0] }], [1, 2])).not.toContain("NaN");
  expect(drawn({ ...chart, epochs: 1 }, [line!], [1, 1])).not.toContain("NaN");
});

test("ticks are round, and texts have the digits that they need", () => {
  expect(linear(1, 12, 6)).toEqual([2, 4, 6, 8, 10, 12]);
  expect(linear(0.902, 0.943, 5).map((tick) => tickText(chart, tick))).toEqual(["91%", "92%", "93%", "94%"]);
  const rate: Chart = { ...chart, form: "number" };
  expect(tickText(rate, 0.0125)).toBe("0.0125");
  expect(tickText(rate, 0.30000000000000004)).toBe("0.3");
  expect(valueText(rate, 0.000000123456)).toBe("1.235e-7");
  expect(valueText(chart, 0.98765)).toBe("98.77 %");
});

test("a place of the drawing is an epoch of the shown ones", () => {
  expect(epochAt(chart, [1, 10], 48)).toBe(1);
  expect(epochAt(chart, [3, 7], 200)).toBe(5);
  expect(epochAt(chart, [3, 7], 1000)).toBe(7);
});

test("labels are moved apart, and stay above the bottom", () => {
  expect(apart([10, 12, 50], 200)).toEqual([10, 21, 50]);
  expect(apart([195, 196, 197], 200)).toEqual([178, 189, 200]);
});

test("ranges stay within the epochs", () => {
  expect(between(7, 3, 10)).toEqual([3, 7]);
  expect(zoomed([1, 11], 0.5, 6, 11)).toEqual([4, 9]);
  expect(zoomed([1, 11], 0.5, 11, 11)).toEqual([6, 11]);
  expect(zoomed([4, 5], 0.5, 4, 11)).toEqual([4, 5]);
  expect(zoomed([4, 5], 2, 4, 11)).toEqual([4, 6]);
  expect(zoomed([4, 9], 9, 5, 11)).toEqual([1, 11]);
  expect(moved([4, 9], 99, 11)).toEqual([6, 11]);
  expect(moved([4, 9], -99, 11)).toEqual([1, 6]);
  expect(showing([4, 9], 3, 11)).toEqual([3, 8]);
  expect(showing([4, 9], 11, 11)).toEqual([6, 11]);
  expect(showing([4, 9], 5, 11)).toEqual([4, 9]);
});

test("a kept range is that of the same epochs, or nothing", () => {
  expect(kept("3-7", 10)).toEqual([3, 7]);
  for (const text of [null, "", "7-3", "3-70", "0-4", "3", "<b>"]) expect(kept(text, 10)).toEqual([1, 10]);
});

test("columns are sorted by numbers, then words; what is missing is last", () => {
  const sorted = (direction: 1 | -1) =>
    ["10", "", "9", "run2", "run10"].sort((a, b) => compared(a, b, direction));
  expect(sorted(1)).toEqual(["9", "10", "run2", "run10", ""]);
  expect(sorted(-1)).toEqual(["10", "9", "run10", "run2", ""]);
});
