// What every part of the page knows: the data, the state, and how to change it.

import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import type { Data } from "./data";
import { toHash, type State } from "./state";
import type { Place, Tree } from "./tree";
import { grouped } from "./walk";

export interface View {
  data: Data;
  state: State;
  /** The asked network at the asked input; null while that is the shown one. */
  asked: Tree | null;
  /** Whether a place differs from that of the network it is compared with, or the asked one. */
  differs: (path: string) => boolean;
  /** The path that is pointed at, in the figure or the table. */
  mark: string | null;
  setMark: (path: string | null) => void;
  /** The unit that is pointed at. */
  pointed: [number, number] | null;
  setPointed: (unit: [number, number] | null) => void;
  /** Changes the state; a quiet change adds nothing to the history. */
  go: (change: Partial<State>, quiet?: boolean) => void;
}

export const ViewContext = createContext<View>(null as unknown as View);

export const useView = (): View => useContext(ViewContext);

export const useHref = (): ((change: Partial<State>) => string) => {
  const { data, state } = useView();
  return (change) => `#${toHash(data, { ...state, ...change })}`;
};

/** The width of an element, and its ref. */
export function useWidth<T extends HTMLElement>(
  first: number,
): [{ current: T | null }, number] {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(first);
  useEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    const measure = () => {
      if (element.clientWidth) setWidth(element.clientWidth);
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

/** Points of what is one point in a page of the usual size; large screens have larger letters. */
export const zoom = (): number =>
  parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;

export const times = (shape: number[] | null): string =>
  shape === null ? "not reached" : shape.join("\u00d7");

/** 25,557,032 as "25.56 M". */
export function short(value: number): string {
  for (const [size, unit] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (value >= size) return `${(value / size).toFixed(2)} ${unit}`;
  }
  return `${value}`;
}

export function percent(part: number, whole: number): string {
  const share = whole ? (100 * part) / whole : 0;
  if (share > 0 && share < 0.05) return "< 0.1 %";
  return `${share.toFixed(share > 0 && share < 10 ? 1 : 0)} %`;
}

/** 1 block, 3 blocks. */
export const plural = (count: number, word: string): string =>
  `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;

/** A minus sign in place of the hyphen. */
export const signed = (value: number): string =>
  value < 0 ? `\u2212${grouped(-value)}` : grouped(value);

/** The attributes with which a figure's item and a table's row mark each other. */
export function useMarks(): (place: Place) => {
  onMouseMove: () => void;
  onMouseLeave: () => void;
  onFocusCapture: () => void;
  onBlurCapture: () => void;
} {
  const { setMark } = useView();
  return (place) => ({
    // Not onMouseEnter, which scrolling by keys causes too.
    onMouseMove: () => setMark(place.path),
    onMouseLeave: () => setMark(focused()),
    onFocusCapture: () => setMark(place.path),
    onBlurCapture: () => setMark(null),
  });
}

/** The path of the item that has the focus. */
const focused = (): string | null =>
  document.activeElement?.closest<HTMLElement>("[data-item]")?.dataset["item"] ?? null;

export const stageClass = (stage: string): string => `in-${stage || "network"}`;

/** The row and column of the chosen or pointed unit on a map. */
export function unitOf(unit: [number, number], shape: number[]): [number, number] {
  const [rows, columns] = [shape[1] ?? 1, shape[2] ?? 1];
  return [
    Math.min(rows - 1, Math.floor(unit[0] * rows)),
    Math.min(columns - 1, Math.floor(unit[1] * columns)),
  ];
}

/** The unit in this row or column, as a part of the side. */
export const partOf = (index: number, size: number): number => (index + 0.5) / size;

/** A description with arrows and crosses in place of letters: conv 7\u00d77, 3 \u2192 64. */
export const pretty = (text: string): string =>
  text.replaceAll("->", "\u200a\u2192\u200a").replace(/(\d)x(?=\d)/g, "$1\u00d7");

/** The sign of a place that differs. */
export function Differs({ path }: { path: string }) {
  const { differs } = useView();
  return differs(path) ? <span class="sign">{"\u2260"}</span> : null;
}
