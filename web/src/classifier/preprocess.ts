// From an upright picture to the pixels that the network takes, as the bundle specifies.

import { resize, type Interpolation, type Pixels } from "./resize.ts";

/** The part of a bundle's preprocessing that is not in the graph. */
export interface Preprocess {
  readonly size: number;
  readonly resize: "shortest" | "squash";
  readonly resize_to: number | null;
  readonly interpolation: Interpolation;
  readonly centre: "even" | "floor";
  readonly channels: "RGB" | "BGR" | "L";
}

/** Resize to `width` x `height`, then crop the square at `left`, `top`. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly top: number;
}

/** Half of a margin, rounded to even or down. */
function half(margin: number, centre: "even" | "floor"): number {
  const down = Math.floor(margin / 2);
  return centre === "even" && margin % 2 !== 0 && down % 2 !== 0 ? down + 1 : down;
}

export function frame(width: number, height: number, how: Preprocess): Frame {
  const { size, resize_to: shorter } = how;
  if (how.resize === "squash" || shorter === null) return { width: size, height: size, left: 0, top: 0 };
  const wide = width <= height ? shorter : Math.floor((shorter * width) / height);
  const tall = width <= height ? Math.floor((shorter * height) / width) : shorter;
  return { width: wide, height: tall, left: half(wide - size, how.centre), top: half(tall - size, how.centre) };
}

/** Red, green and blue of RGBA pixels, on white. */
export function onWhite(rgba: Pixels): Pixels {
  const count = rgba.width * rgba.height;
  const data = new Uint8Array(count * 3);
  for (let index = 0; index < count; index++) {
    const alpha = rgba.data[index * 4 + 3]!;
    for (let c = 0; c < 3; c++) {
      const value = rgba.data[index * 4 + c]!;
      data[index * 3 + c] = alpha === 255 ? value : Math.round((value * alpha + 255 * (255 - alpha)) / 255);
    }
  }
  return { width: rgba.width, height: rgba.height, channels: 3, data };
}

/** Luma as Pillow computes it (ITU-R 601-2). */
export function grey(rgb: Pixels): Pixels {
  const count = rgb.width * rgb.height;
  const data = new Uint8Array(count);
  for (let index = 0; index < count; index++) {
    const [red, green, blue] = [0, 1, 2].map((c) => rgb.data[index * 3 + c]!) as [number, number, number];
    data[index] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return { width: rgb.width, height: rgb.height, channels: 1, data };
}

/** The square of a picture in RGBA, `size` x `size` x C. */
export function square(rgba: Pixels, how: Preprocess): Pixels {
  const upright = how.channels === "L" ? grey(onWhite(rgba)) : onWhite(rgba);
  const where = frame(rgba.width, rgba.height, how);
  return resize(
    upright,
    { size: where.width, first: where.left, count: how.size },
    { size: where.height, first: where.top, count: how.size },
    how.interpolation,
  );
}

/** Left, top, width and height of the part of the picture that the network sees. */
export function cropOf(width: number, height: number, how: Preprocess): [number, number, number, number] {
  const where = frame(width, height, how);
  const [x, y] = [width / where.width, height / where.height];
  return [where.left * x, where.top * y, how.size * x, how.size * y];
}
