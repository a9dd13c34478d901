// Walks that were made, so that going back and forth costs nothing.

import type { Data } from "./data";
import { tree, type Tree } from "./tree";
import { walk } from "./walk";

const walked = new Map<string, Tree>();

/** The tree of a network at an input; walks are kept. Throws WalkError. */
export function treeOf(data: Data, index: number, input: number[]): Tree {
  const key = `${index}@${input.join("x")}`;
  let found = walked.get(key);
  if (!found) {
    if (walked.size > 60) walked.clear();
    found = tree(data, walk(data, index, input));
    walked.set(key, found);
  }
  return found;
}
