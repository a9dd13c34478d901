// A small network as Python would write it, for the tests.

import type { Data, Layer, Window } from "../src/data";

export const window = (changes: Partial<Window>): Window => ({
  kernel: 3,
  stride: 1,
  padding: 1,
  dilation: 1,
  end_padding: 0,
  rounding: "floor",
  starts_inside: false,
  ...changes,
});

const conv = (name: string, inputs: number, channels: number, slides: Window): Layer => ({
  name,
  kind: "conv",
  text: `conv ${slides.kernel}x${slides.kernel}`,
  inputs,
  channels,
  window: slides,
  groups: 1,
  parameters: inputs * channels * slides.kernel ** 2,
  perOutput: inputs * slides.kernel ** 2,
  perOutputFormula: `${inputs}*${slides.kernel}*${slides.kernel}`,
  called: `the ${slides.kernel}x${slides.kernel} convolution`,
});

/** Stem of two convolutions that count as one, a pool, one block with a shortcut, a head. */
export function small(): Data {
  return {
    asked: 0,
    input: [3, 16, 16],
    choices: [
      { name: "depth", label: "depth", asked: 0, values: named("18", "50") },
      { name: "stride", label: "stride on", asked: 1, values: named("1x1", "3x3") },
    ],
    combinations: [-1, 0, 1, 2],
    refused: ["stride on the 1x1 needs bottlenecks"],
    notes: [3],
    blocks: [],
    looks: [],
    live: false,
    layers: [
      conv("conv1", 3, 8, window({ stride: 2 })),
      conv("conv2", 8, 8, window({})),
      { name: "maxpool", kind: "pool", text: "max pool", window: window({ stride: 2 }), called: "the max pool" },
      conv("conv1", 8, 16, window({ stride: 2 })),
      conv("downsample.0", 8, 16, window({ kernel: 1, padding: 0, stride: 2 })),
      { name: "add", kind: "add", text: "add the shortcut" },
      { name: "avgpool", kind: "pool", text: "global average pool" },
      { name: "flatten", kind: "flatten", text: "flatten" },
      { name: "fc", kind: "linear", text: "linear", inputs: 16, channels: 10, macs: 160 },
    ],
    blockTable: [
      {
        what: "",
        layers: [
          [0, "main", [-1], 1, 1],
          [1, "main", [0], 2, 2],
          [2, "main", [1], 0, 1],
        ],
      },
      {
        what: "a block",
        layers: [
          [3, "main", [-1], 1, 1],
          [4, "shortcut", [-1], 0, 0],
          [5, "junction", [0, 1], 0, 0],
        ],
      },
      {
        what: "",
        layers: [
          [6, "main", [-1], 0, 0],
          [7, "main", [0], 0, 0],
          [8, "main", [1], 1, 0],
        ],
      },
    ],
    stages: [
      { name: "stage0", what: "stem", blocks: [["", 0]] },
      { name: "stage1", what: "one block", blocks: [["layer1.0", 1]] },
      { name: "head", what: "head", blocks: [["", 2]] },
    ],
    networks: ["a", "b", "c", "resnet50_notes"].map((name) => ({
      name,
      title: name,
      about: "",
      source: "",
      size: 16,
      channels: 3,
      multiple: 8,
      stages: [0, 1, 2],
    })),
  };
}

function named(...values: string[]): { value: string; label: string }[] {
  return values.map((value) => ({ value, label: value }));
}
