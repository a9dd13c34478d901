// The shown part of the epochs, and how it changes.

import type { Range } from "./chart.ts";

/** The least number of steps between the first and the last shown epoch. */
const LEAST = 1;

/** A range of `steps` within the epochs, near `from`. */
function within(from: number, steps: number, epochs: number): Range {
  const length = Math.max(Math.min(LEAST, epochs - 1), Math.min(Math.round(steps), epochs - 1));
  const first = Math.max(1, Math.min(Math.round(from), epochs - length));
  return [first, first + length];
}

/** The range between two epochs in any order. */
export const between = (one: number, two: number, epochs: number): Range =>
  within(Math.min(one, two), Math.abs(one - two), epochs);

/** `factor` times as many epochs, with `at` at the same place. */
export function zoomed([from, to]: Range, factor: number, at: number, epochs: number): Range {
  let steps = (to - from) * factor;
  if (factor < 1) steps = Math.floor(steps);
  else steps = Math.max(to - from + 1, steps);
  return within(at - ((at - from) / (to - from || 1)) * steps, steps, epochs);
}

/** As many epochs, `by` later. */
export const moved = ([from, to]: Range, by: number, epochs: number): Range =>
  within(from + by, to - from, epochs);

/** As many epochs, so that `at` is one of them. */
export function showing([from, to]: Range, at: number, epochs: number): Range {
  if (at < from) return within(at, to - from, epochs);
  return at > to ? within(at - (to - from), to - from, epochs) : [from, to];
}

/** What was kept, if it is a range of these epochs. */
export function kept(text: string | null, epochs: number): Range {
  const [from, to] = (text ?? "").split("-").map(Number);
  const sound = Number.isInteger(from) && Number.isInteger(to) && 1 <= from! && from! < to!;
  return sound && to! <= epochs ? [from!, to!] : [1, epochs];
}
