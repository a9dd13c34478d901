// The window on the map, in two dimensions, at a position.

import type { Window } from "./data";
import { zoom } from "./view";
import { extent } from "./walk";

export function Kernel({
  window,
  size,
  unit,
  columns,
}: {
  window: Window;
  size: [number, number];
  unit: [number, number];
  columns: number;
}) {
  const span = extent(window);
  const around = 2;
  const shown = span + 2 * around + (window.stride > 1 && span < 9 ? window.stride : 0);
  const cell = zoom() * Math.min(18, Math.floor(230 / shown));
  const starts = unit.map((index) => index * window.stride - window.padding);
  const ends = size.map((side) => side + window.padding + window.end_padding);
  const cells = [];
  for (let row = 0; row < shown; row += 1) {
    for (let column = 0; column < shown; column += 1) {
      const at = [starts[0]! - around + row, starts[1]! - around + column];
      if (at.some((value) => value < -window.padding)) continue;
      const outside = at.some((value, axis) => value >= ends[axis]!);
      const offset = [row - around, column - around];
      const inWindow = offset.every((value) => value >= 0 && value < span);
      if (outside && !inWindow) continue;
      const kind = outside
        ? "hanging"
        : at.some((value, axis) => value < 0 || value >= size[axis]!)
          ? "padded"
          : "pixel";
      const tap = inWindow && offset.every((value) => value % window.dilation === 0);
      cells.push(
        <g key={`${row},${column}`}>
          <rect
            class={`cell ${kind} ${tap ? "tapped" : ""}`}
            x={column * cell}
            y={row * cell}
            width={cell}
            height={cell}
          />
          {tap && (
            <circle
              class="tap"
              cx={(column + 0.5) * cell}
              cy={(row + 0.5) * cell}
              r={Math.max(1.5, cell / 6)}
            />
          )}
        </g>,
      );
    }
  }
  const side = shown * cell;
  return (
    <svg
      class="kernel"
      width={side + 4}
      height={side + 4}
      viewBox={`-2 -2 ${side + 4} ${side + 4}`}
      role="img"
      aria-label={
        `The ${window.kernel}x${window.kernel} window for output row ${unit[0]}, column ${unit[1]}: ` +
        `rows from ${starts[0]}, columns from ${starts[1]}, ${span}x${span} pixels`
      }
    >
      {cells}
      {unit[1] + 1 < columns && (
        <rect
          class="neighbour"
          x={(around + window.stride) * cell}
          y={around * cell}
          width={Math.max(0, Math.min(span, shown - around - window.stride)) * cell}
          height={span * cell}
        />
      )}
      <rect
        class="window"
        x={around * cell}
        y={around * cell}
        width={span * cell}
        height={span * cell}
        rx="2"
      />
    </svg>
  );
}
