// Pillow's resize of 8-bit pixels, to the same numbers: two passes with antialiasing filters, in
// fixed point. Only the pixels of the crop are computed.

export type Interpolation = "nearest" | "bilinear" | "bicubic";

/** Pixels in rows, `channels` bytes each. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array | Uint8ClampedArray;
}

/** Part of an axis of a resized picture: `count` pixels from `first`, of `size`. */
export interface Span {
  readonly size: number;
  readonly first: number;
  readonly count: number;
}

/** Bits after the point of a weight. */
const BITS = 22;
const SUPPORT = { bilinear: 1, bicubic: 2 };
/** Of the bicubic filter. */
const A = -0.5;

function filter(kind: "bilinear" | "bicubic", at: number): number {
  const x = Math.abs(at);
  if (kind === "bilinear") return x < 1 ? 1 - x : 0;
  if (x < 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * A : 0;
}

/** The pixels that each output pixel is made of. */
interface Weights {
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly weights: Int32Array;
  readonly most: number;
}

function weightsOf(side: number, span: Span, kind: "bilinear" | "bicubic"): Weights {
  const scale = side / span.size;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT[kind] * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(span.count);
  const count = new Int32Array(span.count);
  const weights = new Int32Array(span.count * most);
  for (let index = 0; index < span.count; index++) {
    const centre = (span.first + index + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(side, Math.trunc(centre + support + 0.5));
    const real: number[] = [];
    let total = 0;
    for (let x = begin; x < end; x++) {
      const weight = filter(kind, (x - centre + 0.5) * (1 / stretch));
      real.push(weight);
      total += weight;
    }
    real.forEach((weight, x) => {
      const share = (total === 0 ? weight : weight / total) * 2 ** BITS;
      weights[index * most + x] = Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    first[index] = begin;
    count[index] = real.length;
  }
  return { first, count, weights, most };
}

const clipped = (sum: number): number => Math.min(255, Math.max(0, sum >> BITS));

/** Resize the columns of the rows from `top` to `bottom`, which become all rows. */
function columns(pixels: Pixels, across: Weights, top: number, bottom: number): Pixels {
  const { width, channels, data } = pixels;
  const count = across.first.length;
  const out = new Uint8Array((bottom - top) * count * channels);
  for (let y = top; y < bottom; y++) {
    for (let x = 0; x < count; x++) {
      const used = across.count[x]!;
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        let at = (y * width + across.first[x]!) * channels + c;
        for (let k = 0; k < used; k++, at += channels) sum += data[at]! * across.weights[x * across.most + k]!;
        out[((y - top) * count + x) * channels + c] = clipped(sum);
      }
    }
  }
  return { width: count, height: bottom - top, channels, data: out };
}

/** Resize the rows of pixels whose first row is row `top` of the picture. */
function rows(pixels: Pixels, down: Weights, top: number): Pixels {
  const { width, channels, data } = pixels;
  const count = down.first.length;
  const line = width * channels;
  const out = new Uint8Array(count * line);
  for (let y = 0; y < count; y++) {
    const begin = (down.first[y]! - top) * line;
    for (let x = 0; x < line; x++) {
      let sum = 1 << (BITS - 1);
      for (let k = 0; k < down.count[y]!; k++) sum += data[begin + k * line + x]! * down.weights[y * down.most + k]!;
      out[y * line + x] = clipped(sum);
    }
  }
  return { width, height: count, channels, data: out };
}

/** The nearest pixels of a span; Pillow adds up steps, whose rounding decides between two. */
function positions(side: number, span: Span): Int32Array {
  const step = side / span.size;
  const found = new Int32Array(span.count);
  for (let index = 0, at = step / 2; index < span.first + span.count; index++, at += step) {
    if (index >= span.first) found[index - span.first] = Math.min(side - 1, Math.trunc(at));
  }
  return found;
}

function nearest(pixels: Pixels, across: Span, down: Span): Pixels {
  const { width, height, channels, data } = pixels;
  const out = new Uint8Array(across.count * down.count * channels);
  const [xs, ys] = [positions(width, across), positions(height, down)];
  for (let y = 0; y < down.count; y++) {
    for (let x = 0; x < across.count; x++) {
      const from = (ys[y]! * width + xs[x]!) * channels;
      for (let c = 0; c < channels; c++) out[(y * across.count + x) * channels + c] = data[from + c]!;
    }
  }
  return { width: across.count, height: down.count, channels, data: out };
}

/** The crop `across` x `down` of the picture resized to `across.size` x `down.size`. */
export function resize(pixels: Pixels, across: Span, down: Span, kind: Interpolation): Pixels {
  if (kind === "nearest") return nearest(pixels, across, down);
  const horizontal = weightsOf(pixels.width, across, kind);
  const vertical = weightsOf(pixels.height, down, kind);
  // As in Pillow: the fewest pixels between the passes.
  if (down.size < pixels.height && across.size > pixels.width) {
    return columns(rows(pixels, vertical, 0), horizontal, 0, down.count);
  }
  const top = vertical.first[0]!;
  const bottom = vertical.first.at(-1)! + vertical.count.at(-1)!;
  return rows(columns(pixels, horizontal, top, bottom), vertical, top);
}
