import { expect, test } from "vitest";
import { onOneScale, valueAt, type ByteMap } from "../src/pictures/look";

const map = (bytes: number[], low: number, high: number): ByteMap => ({
  height: 1,
  width: bytes.length,
  values: btoa(String.fromCharCode(...bytes)),
  low,
  high,
});

test("maps of one scale keep their values", () => {
  const given = [map([0, 128, 255], -1, 4), map([0, 255, 51], 0, 9)];
  const found = onOneScale(given);
  found.forEach((one, at) => {
    expect([one.low, one.high]).toEqual([-1, 9]);
    for (const column of [0, 1, 2]) {
      expect(Math.abs(valueAt(one, 0, column) - valueAt(given[at]!, 0, column))).toBeLessThan(0.02);
    }
  });
  expect(valueAt(onOneScale([map([0, 0, 0], 2, 2)])[0]!, 0, 1)).toBe(2);
});
