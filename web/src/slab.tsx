// A map drawn to scale: its side as a square, its channels as the depth behind it.

import { stageClass, unitOf } from "./view";

export interface Scale {
  /** Points of an input pixel. */
  side: number;
  /** Points of a channel. */
  depth: number;
}

/** How wide a map is drawn, with the channels behind it. */
export function slabWidth(shape: number[], scale: Scale): number {
  const face = shape.length === 1 ? 3 : Math.max(2, (shape[2] ?? 1) * scale.side);
  return face + 0.8 * Math.max(2, (shape[0] ?? 1) * scale.depth) + 4;
}

interface Drawn {
  shape: number[];
  scale: Scale;
  stage: string;
  /** Called with the unit that is pointed at. */
  point?: (unit: [number, number] | null) => void;
  choose?: (unit: [number, number]) => void;
  /** A square in input pixels to draw on the face: first row, first column, side. */
  square?: [number, number, number] | undefined;
  /** Mark the unit. */
  unit?: [number, number] | undefined;
}

export function Slab({ shape, scale, stage, point, choose, square, unit }: Drawn) {
  const vector = shape.length === 1;
  const height = vector ? 3 : Math.max(2, (shape[1] ?? 1) * scale.side);
  const width = vector ? 3 : Math.max(2, (shape[2] ?? 1) * scale.side);
  const depth = Math.max(2, (shape[0] ?? 1) * scale.depth);
  const [dx, dy] = [depth * 0.8, depth * 0.32];
  const pad = 2;
  const [left, top] = [pad, pad + dy];
  const outer = [width + dx + 2 * pad, height + dy + 2 * pad] as const;
  const corner = (x: number, y: number) => `${(left + x).toFixed(1)},${(top + y).toFixed(1)}`;
  const at = (event: PointerEvent): [number, number] => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    const part = (value: number) => Math.min(0.99999, Math.max(0, value));
    return [
      part((event.clientY - box.top) / box.height),
      part((event.clientX - box.left) / box.width),
    ];
  };
  const mark = unit && !vector ? unitOf(unit, shape) : null;
  return (
    <svg
      class={`slab ${stageClass(stage)}`}
      width={outer[0]}
      height={outer[1]}
      viewBox={`0 0 ${outer[0]} ${outer[1]}`}
      aria-hidden="true"
    >
      <polygon
        class="top"
        points={[corner(0, 0), corner(dx, -dy), corner(width + dx, -dy), corner(width, 0)].join(" ")}
      />
      <polygon
        class="flank"
        points={[
          corner(width, 0),
          corner(width + dx, -dy),
          corner(width + dx, height - dy),
          corner(width, height),
        ].join(" ")}
      />
      <rect
        class="face"
        x={left}
        y={top}
        width={width}
        height={height}
        onPointerMove={point && ((event) => point(at(event)))}
        onPointerLeave={point && (() => point(null))}
        onPointerDown={choose && ((event) => choose(at(event)))}
      />
      {square && <Square box={[left, top, width, height]} square={square} scale={scale.side} />}
      {mark && (
        <rect
          class="unit"
          x={left + mark[1] * scale.side}
          y={top + mark[0] * scale.side}
          width={Math.max(2, scale.side)}
          height={Math.max(2, scale.side)}
        />
      )}
    </svg>
  );
}

/** The part of a square of input pixels that lies on the image. */
function Square({
  box,
  square,
  scale,
}: {
  box: [number, number, number, number];
  square: [number, number, number];
  scale: number;
}) {
  const [left, top, width, height] = box;
  const [row, column, side] = square.map((value) => value * scale) as [number, number, number];
  const x = Math.max(0, column);
  const y = Math.max(0, row);
  return (
    <rect
      class="seen"
      x={left + x}
      y={top + y}
      width={Math.max(1, Math.min(width, column + side) - x)}
      height={Math.max(1, Math.min(height, row + side) - y)}
    />
  );
}

