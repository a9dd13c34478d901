// The class activation map of one class, as an image to lay over the picture.

import { colour, strongest } from "../heat.ts";
import type { Maps } from "./messages.ts";

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

/** Where the class is seen most, in words. */
export function place(maps: Maps, index: number): string {
  const found = shares(maps, index);
  return Math.max(...found) === 0 ? "nowhere in" : `most at the ${strongest(found, maps.height, maps.width)} of`;
}
