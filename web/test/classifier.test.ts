import { describe, expect, it } from "vitest";
import { place, shares } from "../src/classifier/activation.ts";
import { cropOf, frame, type Preprocess } from "../src/classifier/preprocess.ts";
import { percent, top } from "../src/classifier/scores.ts";

const HOW: Preprocess = {
  size: 224,
  resize: "shortest",
  resize_to: 256,
  interpolation: "bilinear",
  centre: "even",
  channels: "RGB",
};

describe("top", () => {
  it("is softmax, best first, ties in the order of the classes", () => {
    const found = top(new Float32Array([0, Math.log(2), 0, -1000]), 3);
    expect(found.map(({ index }) => index)).toEqual([1, 0, 2]);
    expect(found.map(({ probability }) => probability)).toEqual([
      expect.closeTo(0.5, 6),
      expect.closeTo(0.25, 6),
      expect.closeTo(0.25, 6),
    ]);
  });

  it("does not overflow", () => {
    expect(top(new Float32Array([1000, 999]), 1)[0]!.probability).toBeCloseTo(0.7311, 4);
  });
});

it("says 100 % only of certainty", () => {
  expect([1, 0.99999, 0.1234, 0].map(percent)).toEqual(["100.0 %", "99.9 %", "12.3 %", "0.0 %"]);
});

describe("the crop", () => {
  it("is the centre of the resized picture, half margins to even", () => {
    expect(frame(500, 375, HOW)).toEqual({ width: 341, height: 256, left: 58, top: 16 });
    expect(frame(375, 500, { ...HOW, centre: "floor" })).toEqual({
      width: 256,
      height: 341,
      left: 16,
      top: 58,
    });
  });

  it("is where the network looks in the picture", () => {
    const [left, top_, width, height] = cropOf(512, 256, HOW);
    expect([left, top_, width, height]).toEqual([144, 16, 224, 224]);
    expect(cropOf(90, 30, { ...HOW, resize: "squash", resize_to: null })).toEqual([0, 0, 90, 30]);
  });
});

describe("an activation map", () => {
  const maps = { height: 3, width: 3, values: new Float32Array([...Array(9).fill(-1), 0, 0, 4, 0, 2, 0, -3, 0, 0]) };

  it("is of one class, from nothing to its largest", () => {
    expect([...shares(maps, 1)]).toEqual([0, 0, 1, 0, 0.5, 0, 0, 0, 0]);
  });

  it("has a place in words", () => {
    expect([place(maps, 0), place(maps, 1)]).toEqual(["nowhere in", "most at the top right of"]);
  });
});
