import { expect, test } from "vitest";
import { counted, sums } from "../src/counting";
import { walk } from "../src/walk";
import { small } from "./small";

const found = walk(small(), 0, [3, 16, 16]);

test("the paper counts the classifier, and the convolutions of the stem as one", () => {
  const list = counted(found, "paper");
  expect(list.map(({ number, rows }) => [number, rows.map((row) => row.path)])).toEqual([
    [1, ["conv1", "conv2"]],
    [2, ["layer1.0.conv1"]],
    [3, ["fc"]],
  ]);
  expect(sums(list).map((part) => part.count)).toEqual([1, 1, 1]);
});

test("the notes count the pool, and no classifier", () => {
  const list = counted(found, "notes");
  expect(list.map(({ rows }) => rows.at(-1)!.path)).toEqual(["conv2", "maxpool", "layer1.0.conv1"]);
  expect(sums(list)).toEqual([
    { stage: "stage0", count: 2 },
    { stage: "stage1", count: 1 },
  ]);
});
