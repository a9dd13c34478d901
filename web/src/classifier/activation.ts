// The class activation map of one class, as an image to lay over the picture.

import type { Maps } from "./messages.ts";

/** From dark to light, so that it also reads without colour. */
const STOPS = [
  [26, 16, 66],
  [106, 28, 129],
  [189, 55, 84],
  [245, 125, 21],
  [252, 255, 164],
] as const;

function colour(share: number): [number, number, number] {
  const at = Math.min(0.999999, Math.max(0, share)) * (STOPS.length - 1);
  const [from, to] = [STOPS[Math.floor(at)]!, STOPS[Math.floor(at) + 1]!];
  return [0, 1, 2].map((c) => from[c]! + (to[c]! - from[c]!) * (at % 1)) as [number, number, number];
}

/** Shares of the class's map, 0 to 1 of its largest positive value, row by row. */
export function shares(maps: Maps, index: number): Float32Array {
  const area = maps.height * maps.width;
  const values = maps.values.slice(index * area, (index + 1) * area);
  const largest = values.reduce((a, b) => Math.max(a, b), 0);
  return values.map((value) => (largest > 0 ? Math.max(0, value) / largest : 0));
}

/** RGBA of the map, more transparent where it is small. */
export function image(maps: Maps, index: number): ImageData {
  const found = new ImageData(maps.width, maps.height);
  shares(maps, index).forEach((share, at) => {
    found.data.set([...colour(share), Math.round(255 * (0.25 + 0.5 * share))], at * 4);
  });
  return found;
}

/** Where the map is largest, in words. */
export function place(maps: Maps, index: number): string {
  const found = shares(maps, index);
  const at = found.indexOf(Math.max(...found));
  if (found[at] === 0) return "nowhere";
  const third = (position: number, count: number) => Math.min(2, Math.floor(((position + 0.5) / count) * 3));
  const row = ["top", "middle", "bottom"][third(Math.floor(at / maps.width), maps.height)]!;
  const column = ["left", "centre", "right"][third(at % maps.width, maps.width)]!;
  return `${row} ${column}`;
}
