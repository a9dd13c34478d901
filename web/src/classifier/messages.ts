// What the page and its worker say to each other.

export type Ask =
  | { readonly kind: "open"; readonly glue: ArrayBuffer; readonly runtime: ArrayBuffer; readonly model: ArrayBuffer }
  | {
      readonly kind: "classify";
      readonly id: number;
      readonly size: number;
      readonly channels: number;
      readonly pixels: Uint8Array;
    };

/** Maps of all classes, `(classes, height, width)`. */
export interface Maps {
  readonly height: number;
  readonly width: number;
  readonly values: Float32Array;
}

export interface Answer {
  readonly kind: "answer";
  readonly id: number;
  readonly logits: Float32Array;
  readonly maps: Maps | null;
  readonly milliseconds: number;
}

export type Said =
  | { readonly kind: "ready" }
  | Answer
  | { readonly kind: "failed"; readonly id: number | null; readonly reason: string };
