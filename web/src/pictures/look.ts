// What Python wrote of one picture (inspect/picture.py): its crop, classes and maps.

import { colour, strongest } from "../heat.ts";

/** A map of bytes, row by row, which stand for values from `low` to `high`. */
export interface ByteMap {
  height: number;
  width: number;
  /** Base64. */
  values: string;
  low: number;
  high: number;
  /** The side of the square of units that were averaged, for maps that are larger. */
  averaged?: number;
}

export interface Channel extends ByteMap {
  index: number;
  mean: number;
}

/** One of the two branches of a block, before the addition. */
export interface Branch {
  /** Root mean square over all channels. */
  rms: number;
  /** The mean magnitude of the channels. */
  map: ByteMap;
}

export interface LookPlace {
  path: string;
  stage: string;
  level: "stage" | "block";
  shape: number[];
  /** The channels with the largest mean. */
  channels: Channel[];
  /** Of a block: what it added, and what its shortcut carried. */
  main: Branch | null;
  shortcut: Branch | null;
  /** Of the shortcut. */
  kind: string | null;
}

/** A training picture of a class that the network recognizes, the most similar of so many. */
export interface Near {
  name: string;
  photo: string;
  /** Cosine of the embeddings. */
  similarity: number;
  of: number;
}

/** One of the two classes of a mistake. */
export interface Side {
  class: number;
  label: string;
  probability: number;
  near: Near | null;
}

export interface Look {
  name: string;
  /** Data URLs of the picture and of the pixels that the network got. */
  photo: string;
  input: string;
  width: number;
  height: number;
  /** Left, top, width and height of the crop, in pixels of the picture. */
  cut: number[];
  size: number;
  top: { class: number; label: string; probability: number }[];
  cams: (ByteMap & { class: number })[];
  places: LookPlace[];
  /** Of a mistake: the true and the predicted class. */
  mistake?: { truth: Side; guess: Side };
}

/** What is laid over the picture. */
export type Overlay =
  | { kind: "cam"; class: number }
  | { kind: "channel"; path: string; index: number }
  | { kind: "main" | "shortcut"; path: string };

export const bytesOf = (map: ByteMap): Uint8Array =>
  Uint8Array.from(atob(map.values), (letter) => letter.charCodeAt(0));

/** The value of a unit. */
export function valueAt(map: ByteMap, row: number, column: number): number {
  const byte = bytesOf(map)[row * map.width + column] ?? 0;
  return map.low + ((map.high - map.low) * byte) / 255;
}

/** Maps as bytes of one scale, so that their colours can be compared. */
export function onOneScale(maps: readonly ByteMap[]): ByteMap[] {
  const low = Math.min(...maps.map((map) => map.low));
  const high = Math.max(...maps.map((map) => map.high));
  return maps.map((map) => {
    const bytes = bytesOf(map).map((byte) => {
      const value = map.low + ((map.high - map.low) * byte) / 255;
      return Math.round((255 * (value - low)) / (high - low || 1));
    });
    return { ...map, low, high, values: btoa(String.fromCharCode(...bytes)) };
  });
}

/** The map of an overlay, if this picture has it. */
export function mapOf(look: Look, overlay: Overlay): ByteMap | undefined {
  if (overlay.kind === "cam") return look.cams.find((cam) => cam.class === overlay.class);
  const place = look.places.find(({ path }) => path === overlay.path);
  if (overlay.kind !== "channel") return place?.[overlay.kind]?.map;
  return place?.channels.find(({ index }) => index === overlay.index);
}

/** A rectangle as parts of the picture's sides. */
export interface Part {
  left: number;
  top: number;
  width: number;
  height: number;
}

export const cutOf = ({ cut, width, height }: Look): Part => ({
  left: cut[0]! / width,
  top: cut[1]! / height,
  width: cut[2]! / width,
  height: cut[3]! / height,
});

/** Input pixels, from `first` on, that one unit sees. */
export interface Field {
  first: number;
  side: number;
}

/** The square that a unit sees, on the picture; the parts in the padding are outside the crop. */
export function seen(look: Look, rows: Field, columns: Field): Part {
  const cut = cutOf(look);
  return {
    left: cut.left + (columns.first / look.size) * cut.width,
    top: cut.top + (rows.first / look.size) * cut.height,
    width: (columns.side / look.size) * cut.width,
    height: (rows.side / look.size) * cut.height,
  };
}

/** RGBA of a map; `clear` makes small values transparent. */
export function colours(map: ByteMap, clear: boolean): Uint8ClampedArray {
  const bytes = bytesOf(map);
  const found = new Uint8ClampedArray(bytes.length * 4);
  bytes.forEach((byte, at) => {
    found.set([...colour(byte / 255), clear ? 64 + (byte / 255) * 128 : 255], at * 4);
  });
  return found;
}

/** Where a map is largest, in words. */
export const placeOf = (map: ByteMap): string => strongest(bytesOf(map), map.height, map.width);
