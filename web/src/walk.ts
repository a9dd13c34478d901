// Slides windows over a network of the data: shapes, multiply-adds and receptive fields.
// tests/inspect/test_view_page.py compares every row with `resnetkit.explain`.

import type { Branch, Data, Layer, Network, Window } from "./data";

export interface Row {
  path: string;
  stage: string;
  block: string;
  branch: Branch;
  layer: Layer;
  inputs: string[];
  /** null where the head cannot process the features. */
  input: number[] | null;
  output: number[] | null;
  /** Side, in input pixels, of the square that one output sees. */
  field: number;
  /** Input pixels between neighbouring outputs. */
  stride: number;
  /** First input pixel that the first output sees; negative in the padding. */
  start: number;
  macs: number;
  activations: number;
  formula: string;
  macsFormula: string;
  /** Its number in each way of counting, 0 where it does not count. */
  paper: number;
  notes: number;
}

export interface Walk {
  network: Network;
  input: number[];
  rows: Row[];
  output: number[];
  problem: string | null;
}

/** An input that the network cannot process. */
export class WalkError extends Error {}

class ShapeError extends Error {}

interface Signal {
  shape: number[];
  field: number;
  stride: number;
  start: number;
}

export const shapeText = (shape: number[]): string => shape.join("x");

export const grouped = (value: number): string => value.toLocaleString("en-US");

const product = (numbers: number[]): number => numbers.reduce((a, b) => a * b, 1);

export const extent = (window: Window): number => window.dilation * (window.kernel - 1) + 1;

const slack = (window: Window, size: number): number =>
  size + 2 * window.padding + window.end_padding - extent(window);

const steps = (window: Window, size: number): number => {
  const quotient = slack(window, size) / window.stride;
  return window.rounding === "floor" ? Math.floor(quotient) : Math.ceil(quotient);
};

const dropsLast = (window: Window, size: number): boolean =>
  window.starts_inside &&
  window.rounding === "ceil" &&
  steps(window, size) * window.stride >= size + window.padding;

/** Positions of a window along an axis; below 1 means none. */
export const positions = (window: Window, size: number): number =>
  steps(window, size) + 1 - (dropsLast(window, size) ? 1 : 0);

/** The number of positions with its numbers filled in. */
export function sizeFormula(window: Window, size: number): string {
  const end = window.end_padding ? ` + ${window.end_padding}` : "";
  const spans =
    window.dilation > 1
      ? `(${window.dilation}*(${window.kernel} - 1) + 1)`
      : `${window.kernel}`;
  const last = dropsLast(window, size) ? " - 1 (the last window would start outside)" : "";
  return (
    `${window.rounding}((${size} + 2*${window.padding}${end} - ${spans}) / ${window.stride})` +
    ` + 1${last} = ${positions(window, size)}`
  );
}

function mapOf(shape: number[], what: string): [number, number, number] {
  if (shape.length !== 3) {
    throw new ShapeError(`${what} requires a map (C, H, W), not ${shapeText(shape)}`);
  }
  return shape as [number, number, number];
}

function output(layer: Layer, shape: number[]): number[] {
  if (layer.window) {
    const called = layer.called ?? layer.text;
    const [channels, height, width] = mapOf(shape, called);
    if (layer.least && Math.min(height, width) < layer.least) {
      throw new ShapeError(
        `${called} requires at least ${layer.least} pixels per side, not ${height}x${width}`,
      );
    }
    const [rows, columns] = [positions(layer.window, height), positions(layer.window, width)];
    if (rows < 1 || columns < 1) {
      throw new ShapeError(
        `${called} covers ${extent(layer.window)} pixels, and its input is ${height}x${width} ` +
          `with padding ${layer.window.padding}: the output is empty`,
      );
    }
    return [layer.channels ?? channels, rows, columns];
  }
  if (layer.kind === "pool") {
    return [mapOf(shape, layer.called ?? layer.text)[0], 1, 1];
  }
  if (layer.kind === "flatten") {
    return [product(mapOf(shape, "flatten"))];
  }
  if (layer.kind === "linear") {
    if (shape.length !== 1 || shape[0] !== layer.inputs) {
      throw new ShapeError(
        `the fully connected layer requires ${layer.inputs} inputs, not ${product(shape)}`,
      );
    }
    return [layer.channels ?? 0];
  }
  return shape;
}

function formula(layer: Layer, shape: number[]): string {
  if (layer.window) {
    const [, height, width] = mapOf(shape, "a window");
    if (height === width) {
      return sizeFormula(layer.window, height);
    }
    return `height ${sizeFormula(layer.window, height)}; width ${sizeFormula(layer.window, width)}`;
  }
  if (layer.kind === "pool") {
    const [, height, width] = mapOf(shape, "the pool");
    return `mean of ${height}*${width} = ${height * width} pixels`;
  }
  if (layer.kind === "flatten") {
    return `${shape.join("*")} = ${product(shape)}`;
  }
  return layer.kind === "linear" ? `${layer.inputs} -> ${layer.channels}` : "";
}

function costs(layer: Layer, shape: number[], after: number[]): Partial<Row> {
  if (layer.perOutput) {
    const macs = product(after) * layer.perOutput;
    const macsFormula = `${after.join("*")} * ${layer.perOutputFormula} = ${grouped(macs)}`;
    return { macs, macsFormula, activations: product(after) };
  }
  if (layer.kind === "linear") {
    return {
      macs: layer.macs ?? 0,
      macsFormula: layer.macsFormula ?? "",
      activations: product(after),
    };
  }
  if (layer.kernel) {
    const channels = shape[0] ?? 0;
    const macs = channels * layer.kernel;
    return {
      macs,
      macsFormula: `${channels} * ${layer.kernel} = ${grouped(macs)}`,
      activations: channels,
    };
  }
  return {};
}

function through(layer: Layer, signal: Signal): Signal {
  const shape = output(layer, signal.shape);
  const window = layer.window;
  if (window) {
    return {
      shape,
      field: signal.field + (extent(window) - 1) * signal.stride,
      stride: signal.stride * window.stride,
      start: signal.start - window.padding * signal.stride,
    };
  }
  if (layer.kind === "pool" || layer.kind === "flatten") {
    const side = Math.max(...signal.shape.slice(1));
    return { ...signal, shape, field: signal.field + (side - 1) * signal.stride };
  }
  return { ...signal, shape };
}

/** Every layer of a network at an input `[channels, height, width]`. Throws a WalkError for an
 * input that it cannot process; a head that cannot is a `problem`. */
export function walk(data: Data, index: number, input: number[]): Walk {
  const network = data.networks[index]!;
  const rows: Row[] = [];
  const counted = { paper: 0, notes: 0 };
  const signals = new Map<string, Signal>([
    ["input", { shape: input, field: 1, stride: 1, start: 0 }],
  ]);
  let before = "input";
  let lastMap = input;
  let problem: string | null = null;
  for (const stage of network.stages.map((place) => data.stages[place]!)) {
    for (const [block, place] of stage.blocks) {
      const paths: string[] = [];
      for (const [id, branch, inputs, paper, notes] of data.blockTable[place]!.layers) {
        const layer = data.layers[id]!;
        const path = block ? `${block}.${layer.name}` : layer.name;
        const sources = inputs.map((one) => (one < 0 ? before : paths[one]!));
        const from = signals.get(sources[0]!)!;
        let after = from;
        if (problem === null) {
          try {
            after = through(layer, from);
          } catch (error) {
            if (!(error instanceof ShapeError)) {
              throw error;
            }
            const where = `at ${path}, ${error.message}`;
            if (stage.name !== "head") {
              throw new WalkError(
                `the input ${shapeText(input)} is too small for ${network.name}: ${where}`,
              );
            }
            problem =
              `the head cannot process ${shapeText(lastMap)}: ${where} ` +
              "(head_pool global accepts any size)";
          }
        }
        if (layer.kind === "add") {
          const other = signals.get(sources[1]!)!;
          if (shapeText(after.shape) !== shapeText(other.shape)) {
            throw new WalkError(
              `the input ${shapeText(input)} does not fit ${network.name}: at ${path}, ` +
                `the main path gives ${shapeText(after.shape)} and the shortcut ` +
                `${shapeText(other.shape)}; use sides that are multiples of ${network.multiple}`,
            );
          }
          const start = Math.min(after.start, other.start);
          after = { ...after, field: Math.max(after.field, other.field), start };
        }
        signals.set(path, after);
        paths.push(path);
        if (after.shape.length === 3) {
          lastMap = after.shape;
        }
        if (paper === 1) counted.paper += 1;
        if (notes === 1) counted.notes += 1;
        const reached = problem === null;
        rows.push({
          path,
          stage: stage.name,
          block,
          branch,
          layer,
          inputs: sources,
          input: reached ? from.shape : null,
          output: reached ? after.shape : null,
          field: after.field,
          stride: after.stride,
          start: after.start,
          macs: 0,
          activations: 0,
          formula: reached ? formula(layer, from.shape) : "",
          macsFormula: "",
          ...(reached ? costs(layer, from.shape, after.shape) : {}),
          paper: paper ? counted.paper : 0,
          notes: notes ? counted.notes : 0,
        });
      }
      before = paths.at(-1) ?? before;
    }
  }
  return { network, input, rows, output: rows.at(-1)?.output ?? lastMap, problem };
}
