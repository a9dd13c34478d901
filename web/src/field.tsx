// What one unit sees: its square of input pixels, with its position.

import { lastMap } from "./network_figure";
import { spoken, type Place, type Tree } from "./tree";
import { partOf, signed, stageClass, times, unitOf, useView, zoom } from "./view";
import { grouped } from "./walk";

interface Seen {
  tree: Tree;
  place: Place;
  label: string;
}

export function Field({ tree, place, label }: Seen) {
  const { state, pointed, setPointed, go } = useView();
  const seen = place.level === "network" ? lastMap(tree) : place;
  const shape = seen.output;
  if (!shape) return null;
  const [, height, width] = tree.walk.input as [number, number, number];
  const map = shape.length === 3;
  const [row, column] = unitOf(pointed ?? state.unit, shape);
  const [rows, columns] = map ? [shape[1]!, shape[2]!] : [1, 1];
  const first = [row, column].map((index) => seen.start + index * seen.stride);
  const last = first.map((start) => start + seen.field - 1);
  const inside = [height, width].map((side, axis) =>
    Math.max(0, Math.min(side - 1, last[axis]!) - Math.max(0, first[axis]!) + 1),
  );
  const whole = inside[0] === height && inside[1] === width;
  const name = spoken(seen);
  const padded = first.some((start) => start < 0) || last.some((end, axis) => end >= [height, width][axis]!);
  const choose = (axis: 0 | 1, index: number) => {
    const unit = [...state.unit] as [number, number];
    unit[axis] = partOf(index, axis ? columns : rows);
    go({ unit }, true);
  };
  return (
    <section class={`field ${stageClass(seen.stage)}`} aria-label={`what one unit sees ${label}`}>
      <h3>
        What one unit of {name} sees{label && ` in ${label}`}
      </h3>
      <div class="field-two">
        {map && (
          <figure>
            <Map
              rows={rows}
              columns={columns}
              unit={[row, column]}
              point={setPointed}
              choose={(unit) => go({ unit }, true)}
            />
            <figcaption>
              the map of {name}, {times(shape)}
            </figcaption>
          </figure>
        )}
        <figure>
          <Image
            size={[height, width]}
            square={[first[0]!, first[1]!, seen.field]}
            stride={map && rows > 1 ? seen.stride : 0}
          />
          <figcaption>
            the input, {height}
            {"\u00d7"}
            {width}
            {padded && "; hatched: padding"}
          </figcaption>
        </figure>
      </div>
      <p aria-live="polite">
        {map ? `The unit in row ${row} (of 0 to ${rows - 1}) and column ${column}` : `Each of the ${grouped(shape[0]!)} outputs`}{" "}
        sees{" "}
        <strong>
          {seen.field}
          {"\u00d7"}
          {seen.field}
        </strong>{" "}
        input pixels: rows {signed(first[0]!)} to {signed(last[0]!)}, columns {signed(first[1]!)} to{" "}
        {signed(last[1]!)}.{" "}
        {whole
          ? `That is the whole image${padded ? ", and padding around it" : ""}.`
          : `${inside[0]}\u00d7${inside[1]} of them lie in the image.`}{" "}
        {map && rows > 1 && `Its neighbour sees the same, ${seen.stride} pixels further.`}
      </p>
      {map && rows * columns > 1 && (
        <div class="sliders">
          <Slider name="row" index={row} count={rows} change={(index) => choose(0, index)} />
          <Slider name="column" index={column} count={columns} change={(index) => choose(1, index)} />
        </div>
      )}
    </section>
  );
}

export function Slider({
  name,
  index,
  count,
  change,
}: {
  name: string;
  index: number;
  count: number;
  change: (index: number) => void;
}) {
  return (
    <label class="slider">
      <span>
        {name} <b>{index}</b>
      </span>
      <input
        type="range"
        min={0}
        max={count - 1}
        value={index}
        disabled={count < 2}
        onInput={(event) => change(Number(event.currentTarget.value))}
      />
    </label>
  );
}

function Map({
  rows,
  columns,
  unit,
  point,
  choose,
}: {
  rows: number;
  columns: number;
  unit: [number, number];
  point: (unit: [number, number] | null) => void;
  choose: (unit: [number, number]) => void;
}) {
  const size = 150 * zoom();
  const cell = size / Math.max(rows, columns);
  const [height, width] = [cell * rows, cell * columns];
  const at = (event: PointerEvent): [number, number] => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    const part = (value: number) => Math.min(0.99999, Math.max(0, value));
    return [
      part((event.clientY - box.top) / box.height),
      part((event.clientX - box.left) / box.width),
    ];
  };
  const lines =
    cell < 4
      ? ""
      : [
          ...Array.from({ length: columns - 1 }, (_, i) => `M${(i + 1) * cell},0V${height}`),
          ...Array.from({ length: rows - 1 }, (_, i) => `M0,${(i + 1) * cell}H${width}`),
        ].join("");
  const least = Math.max(cell, 4);
  return (
    <svg
      class="map"
      width={width + 2}
      height={height + 2}
      viewBox={`-1 -1 ${width + 2} ${height + 2}`}
      aria-hidden="true"
    >
      <rect
        class="face"
        width={width}
        height={height}
        onPointerMove={(event) => point(at(event))}
        onPointerLeave={() => point(null)}
        onPointerDown={(event) => choose(at(event))}
      />
      <path class="grid" d={lines} />
      <rect
        class="unit"
        x={(unit[1] + 0.5) * cell - least / 2}
        y={(unit[0] + 0.5) * cell - least / 2}
        width={least}
        height={least}
      />
    </svg>
  );
}

/** The input with a square of it, which may reach into the padding, and that of the neighbour. */
function Image({
  size,
  square,
  stride,
}: {
  size: [number, number];
  square: [number, number, number];
  stride: number;
}) {
  const [height, width] = size;
  const [row, column, side] = square;
  const [left, top] = [Math.min(0, column), Math.min(0, row)];
  const [right, bottom] = [Math.max(width, column + side), Math.max(height, row + side)];
  const scale = (220 * zoom()) / Math.max(right - left, bottom - top);
  const box = [(right - left) * scale, (bottom - top) * scale] as const;
  const x = (value: number) => (value - left) * scale;
  const y = (value: number) => (value - top) * scale;
  return (
    <svg
      class="image"
      width={box[0] + 4}
      height={box[1] + 4}
      viewBox={`-2 -2 ${box[0] + 4} ${box[1] + 4}`}
      aria-hidden="true"
    >
      <defs>
        <pattern id={`hatch${square.join("_")}`} width="6" height="6" patternUnits="userSpaceOnUse">
          <path class="hatch" d="M0,6L6,0" />
        </pattern>
      </defs>
      <rect x={x(column)} y={y(row)} width={side * scale} height={side * scale} fill={`url(#hatch${square.join("_")})`} />
      <rect class="picture" x={x(0)} y={y(0)} width={width * scale} height={height * scale} />
      <path class="grid" d={grid(width, height, scale, x(0), y(0))} />
      {stride > 0 && (
        <rect
          class="neighbour"
          x={x(column + stride)}
          y={y(row)}
          width={Math.max(0, Math.min(side, right - column - stride) * scale)}
          height={side * scale}
        />
      )}
      <rect
        class="seen"
        x={x(column)}
        y={y(row)}
        width={Math.max(2, side * scale)}
        height={Math.max(2, side * scale)}
      />
    </svg>
  );
}

/** Lines in eighths of the image. */
function grid(width: number, height: number, scale: number, x: number, y: number): string {
  const lines: string[] = [];
  for (let part = 1; part < 8; part += 1) {
    lines.push(`M${x + (part * width * scale) / 8},${y}v${height * scale}`);
    lines.push(`M${x},${y + (part * height * scale) / 8}h${width * scale}`);
  }
  return lines.join("");
}
