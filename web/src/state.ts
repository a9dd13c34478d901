// The whole state of the page, in the address after "#".

import type { Data } from "./data";

/** A value of each choice, or the name of a network that is no combination of them. */
export type Selection = number[] | string;

export const TABS = ["structure", "pictures", "blocks", "count", "notes"] as const;
export type Tab = (typeof TABS)[number];

export interface State {
  tab: Tab;
  /** The path of the open place, "" for the network. */
  at: string;
  selection: Selection;
  /** The second network, if two are compared. */
  versus: Selection | null;
  /** Height and width. */
  input: [number, number];
  /** The chosen unit of a map: its row and column as parts of the sides. */
  unit: [number, number];
  /** The number of the layer that is looked for. */
  count: number;
  /** The shown pictures, one or two: their places in the data. */
  pictures: number[];
  /** The class whose map is laid over them; null for the most probable one. */
  seen: number | null;
}

export const MOST_INPUT = 4096;

export function initial(data: Data): State {
  return {
    tab: data.looks.length || data.live ? "pictures" : "structure",
    at: "",
    selection: data.choices.map((choice) => choice.asked),
    versus: null,
    input: [data.input[1]!, data.input[2]!],
    unit: [0.5, 0.5],
    count: 37,
    pictures: [0],
    seen: null,
  };
}

function written(data: Data, selection: Selection): string {
  if (typeof selection === "string") return selection;
  return data.choices
    .map((choice, place) => {
      const value = selection[place]!;
      return value === choice.asked ? "" : `${choice.name}:${choice.values[value]!.value}`;
    })
    .filter(Boolean)
    .join(",");
}

function read(data: Data, text: string): Selection {
  const named = data.notes.map((index) => data.networks[index]!.name);
  if (named.includes(text)) return text;
  const given = new Map(text.split(",").map((part) => part.split(":") as [string, string]));
  const values = data.choices.map((choice) => {
    const value = choice.values.findIndex((one) => one.value === given.get(choice.name));
    return value < 0 ? choice.asked : value;
  });
  return networkOf(data, values) < 0 ? data.choices.map((choice) => choice.asked) : values;
}

/** The index of the selected network; below 0 where it is refused. */
export function networkOf(data: Data, selection: Selection): number {
  if (typeof selection === "string") {
    return data.notes.find((index) => data.networks[index]!.name === selection) ?? data.asked;
  }
  const place = selection.reduce(
    (all, value, choice) => all * data.choices[choice]!.values.length + value,
    0,
  );
  return data.combinations[place]!;
}

export const same = (one: Selection | null, other: Selection | null): boolean =>
  JSON.stringify(one) === JSON.stringify(other);

/** "473" or "240x320"; null for anything else. */
export function parseInput(text: string): [number, number] | null {
  const sides = text.trim().toLowerCase().replaceAll("×", "x").split("x").map(Number);
  const fits = sides.every((side) => Number.isInteger(side) && side >= 1 && side <= MOST_INPUT);
  if (!fits || sides.length > 2) return null;
  return [sides[0]!, sides[1] ?? sides[0]!];
}

export const inputText = ([height, width]: [number, number]): string =>
  height === width ? `${height}` : `${height}x${width}`;

/** The state as text; what is as it was asked is left out. */
export function toHash(data: Data, state: State): string {
  const start = initial(data);
  const parts: [string, string][] = [];
  if (state.tab !== start.tab) parts.push(["tab", state.tab]);
  if (state.at) parts.push(["at", state.at]);
  if (!same(state.selection, start.selection)) {
    parts.push(["net", written(data, state.selection)]);
  }
  if (state.versus !== null) parts.push(["vs", written(data, state.versus)]);
  if (!same(state.input, start.input)) parts.push(["input", inputText(state.input)]);
  if (!same(state.unit, start.unit)) {
    parts.push(["unit", state.unit.map((part) => +part.toFixed(5)).join(",")]);
  }
  if (state.count !== start.count) parts.push(["count", `${state.count}`]);
  if (`${state.pictures}` !== `${start.pictures}`) {
    parts.push(["picture", state.pictures.map((index) => index + 1).join(",")]);
  }
  if (state.seen !== null) parts.push(["class", `${state.seen}`]);
  return parts.map(([name, value]) => `${name}=${encodeURI(value)}`).join("&");
}

/** The state of such a text; what cannot be read is as it was asked. */
export function fromHash(data: Data, hash: string): State {
  const state = initial(data);
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const tab = given.get("tab") as Tab;
  if (TABS.includes(tab)) state.tab = tab;
  state.at = given.get("at") ?? "";
  state.selection = read(data, given.get("net") ?? "");
  const versus = given.get("vs");
  state.versus = versus === null ? null : read(data, versus);
  state.input = parseInput(given.get("input") ?? "") ?? state.input;
  const unit = (given.get("unit") ?? "").split(",").map(Number);
  if (unit.length === 2 && unit.every((part) => part >= 0 && part < 1)) {
    state.unit = unit as [number, number];
  }
  const count = Number(given.get("count") ?? "");
  if (Number.isInteger(count) && count > 0) state.count = count;
  const pictures = (given.get("picture") ?? "").split(",").map((part) => Number(part) - 1);
  const there = pictures.every((index) => Number.isInteger(index) && data.looks[index]);
  if (there && pictures.length <= 2 && new Set(pictures).size === pictures.length) {
    state.pictures = pictures;
  }
  const seen = given.get("class");
  if (seen !== null && /^\d+$/.test(seen)) state.seen = Number(seen);
  return state;
}

/** The values nearest to `selection` with this value of a choice that are not refused. */
export function nearestWith(
  data: Data,
  selection: number[],
  choice: number,
  value: number,
): number[] | null {
  let best: number[] | null = null;
  let fewest = Infinity;
  const sizes = data.choices.map((one) => one.values.length);
  data.combinations.forEach((network, place) => {
    if (network < 0) return;
    const values = sizes.map(() => 0);
    for (let i = sizes.length - 1, rest = place; i >= 0; i -= 1) {
      values[i] = rest % sizes[i]!;
      rest = Math.floor(rest / sizes[i]!);
    }
    if (values[choice] !== value) return;
    const changes = values.filter((one, i) => i !== choice && one !== selection[i]).length;
    if (changes < fewest) [best, fewest] = [values, changes];
  });
  return best;
}
