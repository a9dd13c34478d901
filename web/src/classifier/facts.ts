// What the page knows of its network besides the graph.

import type { Preprocess } from "./preprocess.ts";

export interface Facts {
  readonly name: string;
  readonly network: string;
  readonly precision: string;
  readonly classes: readonly string[];
  readonly preprocess: Preprocess;
  /** Share of images, 0 to 1, with the same class as the bundle in float32, and their number. */
  readonly agreement: number;
  readonly images: number;
  /** Measured on the bundle's test images; null if unknown. */
  readonly accuracy: number | null;
  readonly runtime: string;
}

export const facts = (): Facts => JSON.parse(document.getElementById("facts")!.textContent!) as Facts;
