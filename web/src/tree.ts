// A walk as network -> stage -> block -> layer, each with the sums of its layers.

import type { Data } from "./data";
import type { Row, Walk } from "./walk";

export type Level = "network" | "stage" | "block" | "layer";

export interface Place {
  /** "" for the network, "stage1", "layer1.0", "layer1.0.conv1". */
  path: string;
  level: Level;
  /** As it is called inside its parent. */
  name: string;
  what: string;
  stage: string;
  parent: Place | null;
  children: Place[];
  rows: Row[];
  input: number[] | null;
  output: number[] | null;
  parameters: number;
  macs: number;
  activations: number;
  field: number;
  stride: number;
  start: number;
}

export interface Tree {
  walk: Walk;
  root: Place;
  places: Map<string, Place>;
}

/** "stage 1", "stem", "head", or the path. */
export function stageName(stage: string): string {
  return stage.startsWith("stage") ? `stage ${stage.slice(5)}` : stage;
}

/** "stage 3", "the head", or the path. */
export const spoken = (place: Place): string =>
  place.path === "head" ? "the head" : place.level === "stage" ? place.name : place.path;

/** Why the first block of stage 1 is layer1.0. */
export function pathWords(block: Place): string {
  const siblings = block.parent?.children ?? [];
  const [module] = block.path.split(".");
  const last = siblings.at(-1)?.path;
  return (
    `${module} is torch's name of ${stageName(block.stage)}: a list of its blocks, counted from 0: ` +
    (siblings.length > 1 ? `${siblings[0]!.path} to ${last}.` : `only ${last}.`)
  );
}

function summed(
  place: Pick<Place, "path" | "level" | "name" | "what" | "stage" | "rows">,
): Place {
  const last = place.rows.at(-1)!;
  const sum = (value: (row: Row) => number) => place.rows.reduce((all, r) => all + value(r), 0);
  return {
    ...place,
    parent: null,
    children: [],
    input: place.rows[0]!.input,
    output: last.output,
    parameters: sum((row) => row.layer.parameters ?? 0),
    macs: sum((row) => row.macs),
    activations: sum((row) => row.activations),
    field: last.field,
    stride: last.stride,
    start: last.start,
  };
}

export function tree(data: Data, walk: Walk): Tree {
  const places = new Map<string, Place>();
  const add = (parent: Place | null, place: Place): Place => {
    place.parent = parent;
    parent?.children.push(place);
    places.set(place.path, place);
    return place;
  };
  const { network, rows } = walk;
  const root = add(
    null,
    summed({ path: "", level: "network", name: network.title, what: network.about, stage: "", rows }),
  );
  root.output = walk.output;
  let done = 0;
  for (const index of network.stages) {
    const described = data.stages[index]!;
    const inStage = rows.slice(done).filter((row) => row.stage === described.name);
    const stage = add(
      root,
      summed({
        path: described.name,
        level: "stage",
        name: stageName(described.name),
        what: described.what,
        stage: described.name,
        rows: inStage,
      }),
    );
    if (described.name === "head") {
      stage.output = inStage.some((row) => row.output) ? walk.output : null;
    }
    for (const [name, place] of described.blocks) {
      const block = data.blockTable[place]!;
      const inBlock = rows.slice(done, done + block.layers.length);
      done += block.layers.length;
      const parent = name
        ? add(
            stage,
            summed({
              path: name,
              level: "block",
              name,
              what: block.what,
              stage: described.name,
              rows: inBlock,
            }),
          )
        : stage;
      for (const row of inBlock) {
        const { name: called, text } = row.layer;
        add(
          parent,
          summed({
            path: row.path,
            level: "layer",
            name: called,
            what: text,
            stage: described.name,
            rows: [row],
          }),
        );
      }
    }
  }
  return { walk, root, places };
}

/** The place, or the nearest one above it that this network has. */
export function nearest(found: Tree, path: string): Place {
  for (let rest = path; rest; rest = rest.replace(/\.?[^.]*$/, "")) {
    const place = found.places.get(rest);
    if (place) return place;
  }
  return found.root;
}

/** Whether a place's children are layers in a graph of two paths. */
export const hasLayers = (place: Place): boolean => place.children[0]?.level === "layer";

/** The neighbours of a place at its level, over the borders of its parent. */
export function neighbours(found: Tree, place: Place): [Place | null, Place | null] {
  const siblings = [...found.places.values()].filter((one) => one.level === place.level);
  const at = siblings.indexOf(place);
  return [siblings[at - 1] ?? null, siblings[at + 1] ?? null];
}

/** Whether two places have the same layers, shapes and costs. */
export function alike(one: Place | undefined, other: Place | undefined): boolean {
  if (!one || !other) return false;
  const facts = (place: Place) =>
    [place.what, place.output?.join("x"), place.parameters, place.macs].join();
  return facts(one) === facts(other);
}
