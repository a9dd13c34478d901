// What Python wrote (inspect/page/view_data.py): networks as data, in tables of unique parts.
import type { Look } from "./pictures/look.ts";

export interface Window {
  kernel: number;
  stride: number;
  padding: number;
  dilation: number;
  end_padding: number;
  rounding: "floor" | "ceil";
  starts_inside: boolean;
}

/** A layer; what is absent is 0 or empty. */
export interface Layer {
  name: string;
  kind: string;
  text: string;
  parameters?: number;
  parametersFormula?: string;
  buffers?: number;
  window?: Window;
  /** Output channels, where they are not those of the input. */
  channels?: number;
  inputs?: number;
  groups?: number;
  /** Multiply-adds of one output element. */
  perOutput?: number;
  perOutputFormula?: string;
  /** Multiply-adds that do not depend on the size of the map. */
  macs?: number;
  macsFormula?: string;
  kernel?: number;
  function?: string;
  /** The least side of the map. */
  least?: number;
  /** Its name in a sentence. */
  called?: string;
}

export type Branch = "main" | "gate" | "shortcut" | "junction";

/** Layer, branch, inputs (places in the block, -1: the block's input), and whether it counts by
 * the paper and by the notes: 1 it has the next number, 2 the same as the one before. */
export type BlockRow = [number, Branch, number[], number, number];

export interface Block {
  what: string;
  layers: BlockRow[];
}

export interface Stage {
  name: string;
  what: string;
  /** Name and index; the layers of a stem or head are one block without a name. */
  blocks: [string, number][];
}

export interface Network {
  name: string;
  title: string;
  about: string;
  source: string;
  size: number;
  channels: number;
  multiple: number;
  stages: number[];
}

export interface Choice {
  name: string;
  label: string;
  asked: number;
  values: { value: string; label: string }[];
}

export interface Data {
  asked: number;
  input: number[];
  choices: Choice[];
  /** The network of each combination, the last choice changing fastest; -1 - n: refused for
   * reason n. */
  combinations: number[];
  refused: string[];
  notes: number[];
  blocks: { network: number; path: string }[];
  layers: Layer[];
  blockTable: Block[];
  stages: Stage[];
  networks: Network[];
  /** Pictures that went through the asked network. */
  looks: Look[];
  /** Whether a server answers more pictures. */
  live: boolean;
}

/** Decodes base64 of a raw deflate stream of JSON. */
export async function decode(text: string): Promise<Data> {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return (await new Response(stream).json()) as Data;
}
