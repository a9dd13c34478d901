import { expect, test } from "vitest";
import { fromHash, initial, nearestWith, networkOf, parseInput, toHash, type State } from "../src/state";
import type { Look } from "../src/pictures/look";
import { small } from "./small";

const data = small();
data.looks = [1, 2, 3].map((name) => ({ name: `${name}.png` }) as Look);

test("what is as asked needs no address", () => {
  expect(toHash(data, initial(data))).toBe("");
  expect(fromHash(data, "")).toEqual(initial(data));
});

test("every state comes back from its address", () => {
  const states: Partial<State>[] = [
    { at: "layer1.0.conv1" },
    { tab: "count", count: 12 },
    { selection: [1, 0] },
    { selection: "resnet50_notes", versus: [1, 1] },
    { versus: [0, 1] },
    { input: [473, 473] },
    { input: [240, 320], unit: [0.25, 0.75] },
    { pictures: [2], seen: 0 },
    { pictures: [2, 0] },
  ];
  for (const change of states) {
    const state = { ...initial(data), ...change };
    expect(fromHash(data, `#${toHash(data, state)}`)).toEqual(state);
  }
});

test.each([
  "net=depth:7", "net=depth:18,stride:1x1", "input=0", "input=-5", "input=1e9", "input=a",
  "unit=2,3", "unit=x", "tab=none", "count=-1", "picture=4",
  "picture=0", "picture=1,1", "picture=x", "class=-1", "class=x", "&&&=", "%E0%A4%A",
])("what cannot be read is as asked: %s", (hash) => {
  expect(fromHash(data, `#${hash}`)).toEqual(initial(data));
});

test("an input is a side, or height and width", () => {
  expect(parseInput("473")).toEqual([473, 473]);
  expect(parseInput("240x320")).toEqual([240, 320]);
  for (const wrong of ["", "0", "2.5", "1x2x3", "x", "99999"]) expect(parseInput(wrong)).toBeNull();
});

test("a refused value has the nearest combination with it", () => {
  expect(networkOf(data, [0, 0])).toBeLessThan(0);
  expect(nearestWith(data, [0, 1], 1, 0)).toEqual([1, 0]);
});
