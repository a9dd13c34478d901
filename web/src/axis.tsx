// A window sliding along an axis: pixels, padding, the windows, and what they leave out.

import type { Window } from "./data";
import { signed, useWidth, zoom } from "./view";
import { extent, positions } from "./walk";

export interface Line {
  /** The first and last cell, with padding and what hangs over. */
  low: number;
  high: number;
  /** The first cell after the padding at the end. */
  end: number;
  count: number;
  starts: (position: number) => number;
  /** Whether any window reads the cell. */
  read: (cell: number) => boolean;
}

export function line(window: Window, size: number): Line {
  const count = positions(window, size);
  const starts = (position: number) => position * window.stride - window.padding;
  const end = size + window.padding + window.end_padding;
  const last = starts(count - 1) + extent(window) - 1;
  const read = (cell: number) => {
    for (let tap = 0; tap < window.kernel; tap += 1) {
      const offset = cell + window.padding - tap * window.dilation;
      if (offset >= 0 && offset % window.stride === 0 && offset / window.stride < count) return true;
    }
    return false;
  };
  return { low: -window.padding, high: Math.max(end - 1, last), end, count, starts, read };
}

/** What is drawn of the cells from `low` to `high`: all, or both ends and around `center`. */
export function segments(
  low: number,
  high: number,
  center: number,
  room: number,
): [number, number][] {
  if (high - low + 1 <= room) return [[low, high]];
  const half = Math.floor(room / 2);
  const part = Math.floor(room / 3);
  const middle = center - Math.floor(part / 2);
  if (middle + part <= low + half || middle > high - half) {
    return [
      [low, low + half - 1],
      [high - half + 1, high],
    ];
  }
  const [first, last] = [low + part - 1, high - part + 1];
  const end = middle + part - 1;
  if (middle <= first + 1) return [[low, end], [last, high]];
  if (end >= last - 1) return [[low, first], [middle, high]];
  return [[low, first], [middle, end], [last, high]];
}

export function Axis({
  window,
  size,
  position,
  name,
}: {
  window: Window;
  size: number;
  position: number;
  name: string;
}) {
  const [ref, width] = useWidth<HTMLDivElement>(700);
  const { low, high, end, count, starts, read } = line(window, size);
  const cell = width < 520 ? 11 : Math.round(17 * zoom());
  const gap = 26;
  const span = extent(window);
  const room = Math.floor((width - 2 * gap - 8) / cell);
  const parts = segments(low, high, starts(position) + Math.floor(span / 2), room);
  let x = 4;
  const drawn = parts.map(([from, to]) => {
    const part = { from, to, x };
    x += (to - from + 1) * cell + gap;
    return part;
  });
  const full = x - gap + 4;
  const placed = (value: number): number | null => {
    const part = drawn.find(({ from, to }) => value >= from && value <= to);
    return part ? part.x + (value - part.from) * cell : null;
  };
  const whole = (at: number): [number, number] | null => {
    const from = placed(starts(at));
    const to = placed(starts(at) + span - 1);
    return from !== null && to !== null && to - from === (span - 1) * cell ? [from, to + cell] : null;
  };
  const [above, row, below] = [46, 46 + cell + 4, 46 + cell + 54];
  const shown = Array.from({ length: count }, (_, at) => at).filter((at) => whole(at));
  const current = whole(position);
  return (
    <div class="axis" ref={ref}>
      <svg
        width={full}
        height={below + cell + 22}
        viewBox={`0 0 ${full} ${below + cell + 22}`}
        role="img"
        aria-label={describe(window, size, position, name)}
      >
        {drawn.slice(1).map((part) => (
          <text key={part.from} x={part.x - gap / 2} y={above + cell * 0.75} class="dots">
            {"\u2026"}
          </text>
        ))}
        {drawn.flatMap(({ from, to }) =>
          Array.from({ length: to - from + 1 }, (_, index) => {
            const at = from + index;
            const kind =
              at >= end ? "hanging" : at < 0 || at >= size ? "padded" : "pixel";
            const left = placed(at)!;
            return (
              <g key={at}>
                <rect class={`cell ${kind}`} x={left} y={above} width={cell} height={cell} />
                {!read(at) && (
                  <path
                    class="unread"
                    d={`M${left + 2},${above + 2}l${cell - 4},${cell - 4}m0,-${cell - 4}l-${cell - 4},${cell - 4}`}
                  />
                )}
              </g>
            );
          }),
        )}
        {[0, size - 1].map((at) => {
          const left = placed(at);
          return left === null ? null : (
            <text key={at} x={left + cell / 2} y={row + 10} class="small">
              {at}
            </text>
          );
        })}
        {[0, count - 1].map((at) => {
          const box = whole(at);
          return (
            box &&
            at !== position && (
              <g key={at}>
                <path class="bracket" d={`M${box[0] + 1},${above - 4}v-6H${box[1] - 1}v6`} />
                <text x={(box[0] + box[1]) / 2} y={above - 14} class="small">
                  {at === 0 ? "first" : "last"}
                </text>
              </g>
            )
          );
        })}
        {shown.map((at) => {
          const box = whole(at)!;
          const middle = (box[0] + box[1]) / 2;
          const wide = Math.min(cell, cell * window.stride) - 2;
          return (
            <rect
              key={at}
              class={`result ${at === position ? "current" : ""}`}
              x={middle - wide / 2}
              y={below}
              width={wide}
              height={cell - 2}
            />
          );
        })}
        {current && (
          <g class="now">
            <path
              class="beam"
              d={`M${current[0]},${above + cell}L${(current[0] + current[1]) / 2 - cell / 2 + 1},${below}h${cell - 2}L${current[1]},${above + cell}z`}
            />
            <rect
              class="window"
              x={current[0]}
              y={above - 3}
              width={current[1] - current[0]}
              height={cell + 6}
              rx="2"
            />
            {Array.from({ length: window.kernel }, (_, tap) => (
              <circle
                key={tap}
                class="tap"
                cx={current[0] + (tap * window.dilation + 0.5) * cell}
                cy={above + cell / 2}
                r={cell / 5}
              />
            ))}
            <text x={(current[0] + current[1]) / 2} y={above - 26} class="small strong">
              window {position}
            </text>
            <text x={(current[0] + current[1]) / 2} y={below + cell + 12} class="small strong">
              {position}
            </text>
          </g>
        )}
      </svg>
      <p class="key">
        <Key kind="pixel" words="input pixel" />
        <Key kind="padded" words="padding" />
        {high >= end && <Key kind="hanging" words="hangs over the end" />}
        <Key kind="unread" words="read by no window" />
        <Key kind="result" words="output" />
      </p>
    </div>
  );
}

function Key({ kind, words }: { kind: string; words: string }) {
  return (
    <span>
      <i class={`swatch ${kind}`} /> {words}
    </span>
  );
}

/** The borders in words: the first and the last window, and what is left over. */
export function describe(window: Window, size: number, position: number, name: string): string {
  const { count, starts, end, high, low, read } = line(window, size);
  const span = (at: number) =>
    `${signed(starts(at))}${extent(window) > 1 ? ` to ${signed(starts(at) + extent(window) - 1)}` : ""}`;
  const unread: number[] = [];
  for (let cell = low; cell <= high; cell += 1) if (!read(cell)) unread.push(cell);
  const pixels = unread.filter((cell) => cell >= 0 && cell < size).length;
  const padding = unread.filter((cell) => cell < end).length - pixels;
  const words = [
    `Along ${name} of ${size} pixels: window ${position} of 0 to ${count - 1} covers ${span(position)}.`,
    `The first covers ${span(0)}, the last ${span(count - 1)}.`,
  ];
  if (high >= end) words.push(`The last hangs over the end by ${high - end + 1}.`);
  if (pixels) words.push(`No window reads ${pixels} of the pixels.`);
  if (padding) words.push(`No window reads ${padding} of the padding.`);
  return words.join(" ");
}
