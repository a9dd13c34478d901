import { expect, test } from "vitest";
import { describe as words, line, segments } from "../src/axis";
import { window } from "./small";

test("cells that no window reads", () => {
  const found = line(window({ kernel: 1, padding: 0, stride: 2 }), 6);
  expect([0, 1, 2, 3, 4, 5].map(found.read)).toEqual([true, false, true, false, true, false]);
  const cut = line(window({ stride: 2 }), 60);
  expect([cut.read(59), cut.read(60)]).toEqual([true, false]);
});

test("a window that hangs over", () => {
  const up = line(window({ stride: 2, rounding: "ceil" }), 30);
  expect([up.count, up.high, up.end]).toEqual([16, 31, 31]);
  expect(words(window({ stride: 2, rounding: "ceil" }), 30, 0, "a row")).toContain(
    "hangs over the end by 1",
  );
});

test("the borders in words", () => {
  expect(words(window({ kernel: 7, padding: 3, stride: 2 }), 224, 0, "a row")).toBe(
    "Along a row of 224 pixels: window 0 of 0 to 111 covers \u22123 to 3. " +
      "The first covers \u22123 to 3, the last 219 to 225. No window reads 1 of the padding.",
  );
});

test("both ends and the middle are drawn, or both ends and more of them", () => {
  expect(segments(-1, 10, 5, 20)).toEqual([[-1, 10]]);
  expect(segments(-1, 100, 50, 30)).toEqual([[-1, 8], [45, 54], [91, 100]]);
  const ends = [[-1, 13], [86, 100]];
  expect(segments(-1, 100, 0, 30)).toEqual(ends);
  expect(segments(-1, 100, 8, 30)).toEqual(ends);
  expect(segments(-1, 100, 100, 30)).toEqual(ends);
  for (let center = -1; center <= 100; center += 1) {
    const found = segments(-1, 100, center, 30);
    expect(found.some(([from, to]) => from <= center && center <= to)).toBe(true);
    expect(found.reduce((all, [from, to]) => all + to - from + 1, 0)).toBeLessThanOrEqual(30);
    found.slice(1).forEach(([from], at) => expect(from).toBeGreaterThan(found[at]![1]));
  }
});
