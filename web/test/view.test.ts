import { expect, test } from "vitest";
import { pathWords, spoken, tree } from "../src/tree";
import { percent } from "../src/view";
import { walk } from "../src/walk";
import { small } from "./small";

const found = tree(small(), walk(small(), 0, [3, 16, 16]));

test("a share that is not nothing is not called nothing", () => {
  expect(percent(9_536, 25_557_032)).toBe("< 0.1 %");
  expect(percent(0, 25_557_032)).toBe("0 %");
  expect(percent(2, 100)).toBe("2.0 %");
  expect(percent(59, 100)).toBe("59 %");
  expect(percent(0, 0)).toBe("0 %");
});

test("a name of torch is explained", () => {
  expect(pathWords(found.places.get("layer1.0")!)).toBe(
    "layer1 is torch's name of stage 1: a list of its blocks, counted from 0: only layer1.0.",
  );
});

test("the blocks of a list are from the first to the last", () => {
  const block = found.places.get("layer1.0")!;
  const parent = { ...block.parent!, children: [block, { ...block, path: "layer1.1" }] };
  expect(pathWords({ ...block, parent })).toMatch(/counted from 0: layer1.0 to layer1.1\.$/);
});

test("a place as it is spoken of", () => {
  const names = ["stage1", "head", "layer1.0"].map((path) => spoken(found.places.get(path)!));
  expect(names).toEqual(["stage 1", "the head", "layer1.0"]);
});
