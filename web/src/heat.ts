// The colours of maps, and where a map is largest in words.

/** From dark to light, so that it also reads without colour. */
const STOPS = [
  [12, 10, 40],
  [87, 21, 110],
  [188, 55, 84],
  [249, 142, 9],
  [252, 255, 164],
] as const;

/** Red, green and blue of a share from 0 to 1. */
export function colour(share: number): [number, number, number] {
  const place = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const first = Math.min(STOPS.length - 2, Math.floor(place));
  const [from, to] = [STOPS[first]!, STOPS[first + 1]!];
  return [0, 1, 2].map((c) => from[c]! + (to[c]! - from[c]!) * (place - first)) as [
    number,
    number,
    number,
  ];
}

/** Where the largest of values, row by row, is: `top left`, `centre`. */
export function strongest(values: ArrayLike<number>, height: number, width: number): string {
  let at = 0;
  for (let index = 1; index < values.length; index++) if (values[index]! > values[at]!) at = index;
  const third = (index: number, count: number) =>
    Math.min(2, Math.floor(((index + 0.5) / count) * 3));
  const row = ["top", "middle", "bottom"][third(Math.floor(at / width), height)];
  const column = ["left", "centre", "right"][third(at % width, width)];
  return row === "middle" && column === "centre" ? "centre" : `${row} ${column}`;
}
