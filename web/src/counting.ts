// The two ways in which the layers of a network are counted.

import type { Row, Walk } from "./walk";

export type Way = "paper" | "notes";
export const WAYS: Way[] = ["paper", "notes"];

export interface Counted {
  number: number;
  /** The layers that share the number, e.g. the three of a deep stem. */
  rows: Row[];
}

/** The counted layers in order of their numbers. */
export function counted(walk: Walk, way: Way): Counted[] {
  const found: Counted[] = [];
  for (const row of walk.rows) {
    const number = row[way];
    if (!number) continue;
    const last = found.at(-1);
    if (last?.number === number) {
      last.rows.push(row);
    } else {
      found.push({ number, rows: [row] });
    }
  }
  return found;
}

/** How many of them each stage has, e.g. 1 + 9 + 12 + 18 + 9 + 1. */
export function sums(list: Counted[]): { stage: string; count: number }[] {
  const found: { stage: string; count: number }[] = [];
  for (const { rows } of list) {
    const stage = rows[0]!.stage;
    const last = found.at(-1);
    if (last?.stage === stage) {
      last.count += 1;
    } else {
      found.push({ stage, count: 1 });
    }
  }
  return found;
}
