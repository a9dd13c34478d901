// One layer: its arithmetic, its window on the borders, its costs, and its name.

import { Axis, describe } from "./axis";
import { Slider } from "./field";
import { Kernel } from "./kernel";
import { pathWords, stageName, type Place, type Tree } from "./tree";
import { partOf, pretty, times, unitOf, useView } from "./view";
import { extent, grouped, type Row } from "./walk";

const KINDS: Record<string, string> = {
  conv: "Each output is the sum of products of a window over all input channels with the weights of its output channel.",
  norm: "Each channel is shifted and scaled to mean 0 and variance 1, then multiplied by its weight and shifted by its bias. The size stays.",
  activation: "A function of each element alone. ReLU sets what is negative to 0; the sigmoid maps to 0 to 1. The size stays.",
  pool: "Each channel by itself. There are no weights.",
  flatten: "The map becomes one vector, channel after channel.",
  linear: "Each output is the sum of products of all inputs with its weights, and its bias.",
  add: "The main path and the shortcut, element by element. Both must have the same shape.",
  scale: "Each channel of the main path times its gate.",
  subsample: "Every so many pixels, and channels of zeros: a shortcut without weights.",
  blur: "Each channel by itself, with fixed weights (1, 2, 1), so that nothing aliases when it is subsampled.",
  conv1d: "A convolution along the channels of one pixel.",
};

const POOLED = [
  ["max", "The maximum of each window."],
  ["global", "The mean of the whole map."],
  ["average", "The mean of each window."],
] as const;

export function LayerView({ tree, place }: { tree: Tree; place: Place }) {
  const row = place.rows[0]!;
  const { layer } = row;
  return (
    <div class="layer">
      <p class="lead">
        <strong>{pretty(layer.text)}</strong>, {times(row.input)} {"\u2192"} {times(row.output)}.{" "}
        {layer.kind === "pool" && POOLED.find(([words]) => layer.text.includes(words))?.[1]}{" "}
        {KINDS[layer.kind]}
      </p>
      {row.output && row.input && layer.window && <Sliding row={row} />}
      <dl class="facts">
        {row.formula && !layer.window && <Fact name="size" value={row.formula} />}
        <Fact
          name="parameters"
          value={layer.parametersFormula ?? "none"}
          small={parameterWords(row)}
        />
        <Fact name="MACs" value={row.macsFormula || "none"} small={macWords(row)} />
        <FieldFact tree={tree} row={row} />
        <Fact name="counted" value={countWords(row)} />
        <NameFact place={place} />
      </dl>
    </div>
  );
}

function Fact({ name, value, small }: { name: string; value: string; small?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <code>{value}</code>
        {small && <small>{small}</small>}
      </dd>
    </div>
  );
}

function Sliding({ row }: { row: Row }) {
  const { state, pointed, go } = useView();
  const window = row.layer.window!;
  const [height, width] = [row.input![1]!, row.input![2]!];
  const unit = unitOf(pointed ?? state.unit, row.output!);
  const [rows, columns] = [row.output![1]!, row.output![2]!];
  const move = (axis: 0 | 1, index: number) => {
    const next = [...state.unit] as [number, number];
    next[axis] = partOf(index, axis ? columns : rows);
    go({ unit: next }, true);
  };
  return (
    <>
      <h3>The size, along the width</h3>
      <Arithmetic row={row} size={width} />
      {height !== width && <p class="note">Height and width: {row.formula}</p>}
      <h3>The window on the borders</h3>
      <div class="sliders">
        <Slider name="column of the window" index={unit[1]} count={columns} change={(at) => move(1, at)} />
        <Slider name="row of the window" index={unit[0]} count={rows} change={(at) => move(0, at)} />
      </div>
      <Axis window={window} size={width} position={unit[1]} name="a row" />
      <div class="kernel-two">
        <Kernel window={window} size={[height, width]} unit={unit} columns={columns} />
        <div>
          <p>{describe(window, width, unit[1], "a row")}</p>
          <p>{kernelWords(row, unit)}</p>
        </div>
      </div>
    </>
  );
}

/** floor((in + 2*padding - window) / stride) + 1, step by step. */
function Arithmetic({ row, size }: { row: Row; size: number }) {
  const window = row.layer.window!;
  const span = extent(window);
  const padded = size + 2 * window.padding + window.end_padding;
  const rest = padded - span;
  const quotient = rest / window.stride;
  const exact = Number.isInteger(quotient);
  const steps = window.rounding === "floor" ? Math.floor(quotient) : Math.ceil(quotient);
  const left = rest - Math.floor(quotient) * window.stride;
  const rounding = exact
    ? "exactly"
    : window.rounding === "floor"
      ? `rounded down to ${steps}: ${left} cell${left === 1 ? "" : "s"} at the end ${left === 1 ? "is" : "are"} cut off`
      : `rounded up to ${steps}: the last window hangs over by ${steps * window.stride - rest}`;
  const end = window.end_padding ? ` + ${window.end_padding}` : "";
  const spans =
    window.dilation > 1
      ? `${window.dilation}\u00b7(${window.kernel} \u2212 1) + 1 = ${span}`
      : `${span}`;
  return (
    <div class="arithmetic">
      <p class="formula">
        <code>
          {window.rounding}((in + 2{"\u00b7"}padding{end} {"\u2212"} window) / stride) + 1
        </code>
      </p>
      <ol>
        <li>
          <code>
            {size} + 2{"\u00b7"}
            {window.padding}
            {end} = <b>{padded}</b>
          </code>{" "}
          cells with the padding
        </li>
        <li>
          <code>
            {padded} {"\u2212"} {span} = <b>{rest}</b>
          </code>{" "}
          left for sliding; the window covers {spans}
        </li>
        <li>
          <code>
            {rest} / {window.stride} = <b>{+quotient.toFixed(4)}</b>
          </code>{" "}
          steps of {window.stride}, {rounding}
        </li>
        <li>
          <code>
            {steps} + 1 = <b>{steps + 1}</b>
          </code>{" "}
          positions, as the first needs no step
        </li>
      </ol>
      {row.formula && (
        <p class="formula">
          <code>{row.formula}</code>
        </p>
      )}
    </div>
  );
}

function kernelWords(row: Row, unit: [number, number]): string {
  const { layer } = row;
  const at = `Output row ${unit[0]}, column ${unit[1]}`;
  if (layer.perOutput) {
    const channels = row.output![0]!;
    return (
      `${at}: ${layer.perOutputFormula} = ${grouped(layer.perOutput)} products for each of ` +
      `${grouped(channels)} output channels. Dots: the pixels that are read; dashed: the next window.`
    );
  }
  return `${at}, in each of ${grouped(row.output![0]!)} channels. Dots: the pixels that are read; dashed: the next window.`;
}

function parameterWords(row: Row): string {
  const { kind } = row.layer;
  if (kind === "conv") return "output channels * input channels * window * window";
  if (kind === "norm") return "a weight and a bias for each channel";
  return kind === "linear" ? "inputs * outputs + a bias for each output" : "";
}

const macWords = (row: Row): string =>
  row.layer.perOutput ? "output elements * products of each" : "";

function FieldFact({ tree, row }: { tree: Tree; row: Row }) {
  const source = tree.places.get(row.inputs[0]!);
  const [field, stride] = source ? [source.field, source.stride] : [1, 1];
  const { window } = row.layer;
  if (window) {
    return (
      <>
        <Fact
          name="receptive field"
          value={`${field} + (${extent(window)} - 1) * ${stride} = ${grouped(row.field)}`}
          small="that of the input + (window - 1) * stride of the input"
        />
        <Fact
          name="stride"
          value={`${stride} * ${window.stride} = ${row.stride}`}
          small="input pixels between neighbouring outputs"
        />
      </>
    );
  }
  const words = row.inputs.length > 1 && row.layer.kind === "add" ? "the larger of both paths" : "";
  return (
    <>
      <Fact name="receptive field" value={grouped(row.field)} small={words} />
      <Fact name="stride" value={grouped(row.stride)} />
    </>
  );
}

function countWords(row: Row): string {
  if (!row.paper && !row.notes) return "in neither way";
  const paper = row.paper ? `number ${row.paper} by the paper` : "not by the paper";
  const notes = row.notes ? `number ${row.notes} by the notes` : "not by the notes";
  return `${paper}, ${notes}`;
}

/** Why stage 1's first block is layer1.0. */
function NameFact({ place }: { place: Place }) {
  const block = place.parent;
  if (block?.level !== "block") {
    return <Fact name="name in torch" value={place.path} small={`a layer of the ${stageName(place.stage) === "stage 0" ? "stem, stage 0, which" : "head, which"} has no module of its own`} />;
  }
  return (
    <Fact
      name="name in torch"
      value={place.path}
      small={`${pathWords(block)} ${place.name} is a layer of ${block.path}.`}
    />
  );
}
