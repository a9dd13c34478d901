// Lines over a part of the epochs, as SVG: where things are, without the page.

export interface Line {
  /** CSS classes. */
  readonly name: string;
  readonly label: string;
  /** Written at its end. */
  readonly end: string;
  /** Drawn by Python. */
  readonly shown: boolean;
  /** From epoch 1 on. */
  readonly values: readonly (number | null)[];
}

/** What Python writes beside its drawing (`report/pages/charts.py`). */
export interface Chart {
  readonly epochs: number;
  /** Left, top, right and bottom of the lines in the drawing. */
  readonly area: readonly [number, number, number, number];
  readonly form: "number" | "percent";
  readonly log: boolean;
  /** The least end of the axis over all epochs. */
  readonly most: number | null;
  /** Epoch and value of a point to mark. */
  readonly best: readonly [number, number] | null;
  readonly lines: readonly Line[];
}

/** The first and the last shown epoch. */
export type Range = readonly [number, number];

interface Axis {
  low: number;
  high: number;
  log: boolean;
}

const APART = 11;

export const isWhole = (chart: Chart, [from, to]: Range): boolean => from <= 1 && to >= chart.epochs;

const shownValues = (lines: readonly Line[], [from, to]: Range): number[] =>
  lines.flatMap((line) => line.values.slice(from - 1, to)).filter((value) => value !== null);

/** The range of the values: as Python's over all epochs, else that of the shown part. */
export function axisOf(chart: Chart, lines: readonly Line[], range: Range): Axis {
  const values = shownValues(lines, range);
  let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0.1, 1];
  const log = chart.log && low > 0;
  if (log) return { low: low / 1.1, high: high * 1.1, log };
  if (isWhole(chart, range)) {
    return { low: Math.min(0, low), high: Math.max(high, chart.most ?? 0) || 1, log };
  }
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  low = low < 0 ? low - room : Math.max(0, low - room);
  high += room;
  return { low, high: chart.most !== null ? Math.min(high, Math.max(chart.most, high - room)) : high, log };
}

/** Round steps, at most `most`, which lie between the ends. */
export function linear(low: number, high: number, most: number): number[] {
  const rough = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 2.5, 5, 10].find((one) => one * unit >= rough * (1 - 1e-9))!;
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

export function ticks({ low, high, log }: Axis): number[] {
  if (!log || high / low <= 8) return linear(low, high, 5);
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const part of high / low < 100 ? [1, 2, 5] : [1]) found.push(part * 10 ** power);
  }
  return found.filter((tick) => low <= tick && tick <= high);
}

/** A value of an axis: no more digits than it has. */
export const tickText = (chart: Chart, value: number): string =>
  chart.form === "percent" ? `${+(100 * value).toPrecision(5)}%` : shortest(value);

/** A value in a sentence. */
export const valueText = (chart: Chart, value: number): string =>
  chart.form === "percent" ? `${(100 * value).toFixed(2)} %` : shortest(value, 4);

function shortest(value: number, digits = 6): string {
  const size = Math.abs(value);
  return size && (size < 1e-4 || size >= 1e6)
    ? (+value.toPrecision(digits)).toExponential()
    : String(+value.toPrecision(digits));
}

export function across(chart: Chart, [from, to]: Range, epoch: number): number {
  const [left, , right] = chart.area;
  return left + (right - left) * (to > from ? (epoch - from) / (to - from) : 0.5);
}

/** The nearest epoch at a place of the drawing. */
export function epochAt(chart: Chart, [from, to]: Range, x: number): number {
  const [left, , right] = chart.area;
  return Math.max(from, Math.min(to, Math.round(from + ((x - left) / (right - left)) * (to - from))));
}

export function up(chart: Chart, { low, high, log }: Axis, value: number): number {
  const [, top, , bottom] = chart.area;
  const share = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return bottom - share * (bottom - top);
}

/** Ascending heights, moved so that labels there do not overlap: down, then back up. */
export function apart(heights: readonly number[], bottom: number): number[] {
  const found: number[] = [];
  for (const height of heights) found.push(Math.max(height, (found.at(-1) ?? -Infinity) + APART));
  let limit = bottom;
  for (let at = found.length - 1; at >= 0; at--) {
    found[at] = Math.min(found[at]!, limit);
    limit = found[at]! - APART;
  }
  return found;
}

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

const text = (words: string, x: number, y: number, anchor: string): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escaped(words)}</text>`;

const dot = (name: string, x: number, y: number): string =>
  `<circle class="${escaped(name)}" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3.5"/>`;

/** The content of the drawing: `lines` of the chart over a part of its epochs. */
export function drawn(chart: Chart, lines: readonly Line[], range: Range): string {
  const [left, , right, bottom] = chart.area;
  const axis = axisOf(chart, lines, range);
  const x = (epoch: number) => across(chart, range, epoch);
  const parts = [];
  for (const tick of ticks(axis)) {
    const y = up(chart, axis, tick);
    const [a, b] = [y.toFixed(1), right.toFixed(1)];
    parts.push(`<line class="grid" x1="${left.toFixed(1)}" y1="${a}" x2="${b}" y2="${a}"/>`);
    parts.push(text(tickText(chart, tick), left - 6, y + 4, "end"));
  }
  for (const tick of linear(range[0], Math.max(range[1], range[0] + 1), 6)) {
    if (Number.isInteger(tick) && tick <= range[1]) parts.push(text(`${tick}`, x(tick), bottom + 18, "middle"));
  }
  const ends: { y: number; x: number; words: string }[] = [];
  for (const line of lines) {
    let piece: string[] = [];
    let last: [number, number] | null = null;
    for (let epoch = range[0]; epoch <= range[1] + 1; epoch++) {
      const value = epoch > range[1] ? null : (line.values[epoch - 1] ?? null);
      if (value !== null) {
        last = [x(epoch), up(chart, axis, value)];
        piece.push(`${last[0].toFixed(1)},${last[1].toFixed(1)}`);
      } else if (piece.length) {
        parts.push(`<polyline class="${escaped(line.name)}" points="${piece.join(" ")}"/>`);
        if (piece.length === 1) parts.push(dot(line.name, ...last!));
        piece = [];
      }
    }
    if (line.end && last) ends.push({ y: last[1], x: last[0], words: line.end });
  }
  ends.sort((one, two) => one.y - two.y);
  apart(ends.map((end) => end.y), bottom).forEach((y, at) => {
    parts.push(text(ends[at]!.words, ends[at]!.x + 5, y + 4, "start"));
  });
  if (chart.best && range[0] <= chart.best[0] && chart.best[0] <= range[1]) {
    parts.push(dot("held", x(chart.best[0]), up(chart, axis, chart.best[1])));
  }
  return parts.join("");
}
