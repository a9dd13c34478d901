import { describe, expect, test } from "vitest";
import { positions, sizeFormula, walk, WalkError } from "../src/walk";
import { nearest, neighbours, tree } from "../src/tree";
import { small, window } from "./small";

describe("positions of a window", () => {
  test.each([
    [473, { kernel: 7, stride: 2, padding: 3 }, 237],
    [473, { stride: 2, padding: 0 }, 236],
    [237, { stride: 2 }, 119],
    [232, { stride: 2, rounding: "ceil" as const }, 117],
    [60, { stride: 2 }, 30],
    [2, { padding: 0 }, 0],
    // torch drops a window that would start in the padding at the end
    [4, { stride: 2, padding: 1, kernel: 2, rounding: "ceil" as const, starts_inside: true }, 3],
  ])("of %i pixels with %o are %i", (size, changes, expected) => {
    expect(positions(window(changes), size)).toBe(expected);
  });

  test("have a formula with the numbers", () => {
    expect(sizeFormula(window({ stride: 2 }), 473)).toBe("floor((473 + 2*1 - 3) / 2) + 1 = 237");
    expect(sizeFormula(window({ padding: 2, dilation: 2 }), 28)).toBe(
      "floor((28 + 2*2 - (2*(3 - 1) + 1)) / 1) + 1 = 28",
    );
  });
});

describe("a walk", () => {
  const found = walk(small(), 0, [3, 16, 16]);
  const row = (path: string) => found.rows.find((one) => one.path === path)!;

  test("has shapes, costs and fields", () => {
    expect(row("conv1").output).toEqual([8, 8, 8]);
    expect(row("conv1").macs).toBe(8 * 8 * 8 * 27);
    expect(row("maxpool").output).toEqual([8, 4, 4]);
    expect(row("layer1.0.add").output).toEqual([16, 2, 2]);
    expect(found.output).toEqual([10]);
    // conv1: 3, conv2: + 2*2, maxpool: + 2*2, conv1 of the block: + 2*4
    expect(row("layer1.0.conv1").field).toBe(3 + 4 + 4 + 8);
    expect(row("layer1.0.conv1").stride).toBe(8);
    expect(row("layer1.0.conv1").start).toBe(-1 - 2 - 2 - 4);
  });

  test("takes the larger field where paths meet", () => {
    expect(row("layer1.0.downsample.0").field).toBe(11);
    expect(row("layer1.0.add").field).toBe(19);
    const data = small();
    data.blockTable[1]!.layers[2] = [5, "junction", [1, 0], 0, 0];
    const turned = walk(data, 0, [3, 16, 16]).rows.find((one) => one.path === "layer1.0.add")!;
    expect([turned.field, turned.start]).toEqual([19, -9]);
  });

  test("says at which layer an input is too small", () => {
    expect(() => walk({ ...small(), layers: tiny() }, 0, [3, 1, 1])).toThrow(WalkError);
    expect(() => walk({ ...small(), layers: tiny() }, 0, [3, 1, 1])).toThrow(
      "the input 3x1x1 is too small for a: at conv1, the 3x3 convolution covers 3 pixels, " +
        "and its input is 1x1 with padding 0: the output is empty",
    );
  });

  test("says what the head cannot process", () => {
    const data = small();
    data.layers[6] = { ...data.layers[6]!, window: window({ padding: 0, kernel: 1 }) };
    const problem = walk(data, 0, [3, 16, 16]).problem;
    expect(problem).toContain("the head cannot process 16x2x2: at fc");
  });

  const tiny = () => {
    const { layers } = small();
    layers[0] = { ...layers[0]!, window: window({ padding: 0 }) };
    return layers;
  };
});

describe("a tree", () => {
  const found = tree(small(), walk(small(), 0, [3, 16, 16]));

  test("has the places and their sums", () => {
    expect([...found.places.keys()].filter((path) => !path.includes("."))).toEqual([
      "", "stage0", "conv1", "conv2", "maxpool", "stage1", "head", "avgpool", "flatten", "fc",
    ]);
    const stages = found.root.children;
    expect(stages.reduce((all, one) => all + one.macs, 0)).toBe(found.root.macs);
    expect(found.places.get("layer1.0")!.children.map((one) => one.name)).toEqual([
      "conv1", "downsample.0", "add",
    ]);
  });

  test("opens the nearest place above one that it has not", () => {
    expect(nearest(found, "layer1.0.conv9").path).toBe("layer1.0");
    expect(nearest(found, "layer1.0.downsample.9").path).toBe("layer1.0");
    expect(nearest(found, "layer7").path).toBe("");
  });

  test("knows neighbours", () => {
    const [before, after] = neighbours(found, found.places.get("stage1")!);
    expect([before?.path, after?.path]).toEqual(["stage0", "head"]);
  });
});
