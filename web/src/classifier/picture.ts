// Decodes a picture in the browser: upright, its colours as stored.

import type { Pixels } from "./resize.ts";

/** Larger canvases fail in some browsers, on telephones first. */
const MOST_PIXELS = 16_000_000;

export interface Picture {
  readonly name: string;
  readonly url: string;
  readonly rgba: Pixels;
  /** Whether the browser reduced it before. */
  readonly reduced: boolean;
}

const AS_STORED: ImageBitmapOptions = { colorSpaceConversion: "none", imageOrientation: "from-image" };

export function pixelsOf(source: CanvasImageSource, width: number, height: number): Pixels {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(source, 0, 0, width, height);
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data };
}

/** Raises an error with a reason for what this browser cannot read. */
export async function read(file: File): Promise<Picture> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, AS_STORED);
  } catch {
    throw new Error("not a picture, or of a kind that this browser cannot read");
  }
  const share = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.floor(side * share)));
  const rgba = pixelsOf(bitmap, width!, height!);
  bitmap.close();
  return { name: file.name, url: URL.createObjectURL(file), rgba, reduced: share < 1 };
}
