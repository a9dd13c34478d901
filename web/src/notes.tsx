// The notes' arithmetic beside the code that they print, and why they part.

import type { Tree } from "./tree";
import { stageName } from "./tree";
import { pretty, stageClass, times, useHref, useView } from "./view";
import { extent, WalkError, type Row } from "./walk";
import { treeOf } from "./walks";
import { NotesWords } from "./words";

const SIDE = 473;

/** The layers that change the size of the map on the way from the input, of the first network. */
export function sized(tree: Tree): Row[] {
  return tree.walk.rows.filter(
    (row) =>
      row.branch === "main" &&
      row.layer.window &&
      (row.layer.window.stride > 1 || extent(row.layer.window) !== 2 * row.layer.window.padding + 1),
  );
}

/** A window's quotient, and how it is rounded. */
export function quotient(row: Row): string {
  const window = row.layer.window!;
  const size = row.input![2]!;
  const rest = size + 2 * window.padding + window.end_padding - extent(window);
  const exact = rest / window.stride;
  const end = window.end_padding ? ` + ${window.end_padding}` : "";
  const rounded = Number.isInteger(exact)
    ? `${exact}`
    : `${+exact.toFixed(2)}, rounded ${window.rounding === "floor" ? "down" : "up"} to ${Math[window.rounding](exact)}`;
  return `(${size} + 2*${window.padding}${end} - ${extent(window)}) / ${window.stride} = ${rounded}`;
}

/** Why two layers at the same path give other sizes; empty if they do not. */
export function reason(first: Row, second: Row): string {
  const [a, b] = [first.layer.window!, second.layer.window!];
  const [from, to] = [first.input![2]!, second.input![2]!];
  const words: string[] = [];
  if (a.padding !== b.padding) {
    words.push(`padding ${a.padding}, against ${b.padding}`);
  }
  const left = (row: Row) => {
    const window = row.layer.window!;
    return (row.input![2]! + 2 * window.padding + window.end_padding - extent(window)) % window.stride;
  };
  if (a.rounding !== b.rounding && (left(first) || left(second))) {
    const how = (row: Row) =>
      left(row) ? `rounded ${row.layer.window!.rounding === "floor" ? "down" : "up"}` : "exact";
    words.push(`${how(first)}, against ${how(second)}`);
  }
  if (from !== to) words.push(`the maps before are ${from} and ${to}`);
  if (first.output![2] === second.output![2]) {
    return words.length ? `equal again: ${words.join("; ")}` : "";
  }
  return words.join("; ");
}

function Quotient({ row }: { row: Row }) {
  return (
    <>
      <code class="block">{quotient(row)}</code>
      <code class="block">+ 1 = {row.output![2]}</code>
    </>
  );
}

export function Notes() {
  const { data, state } = useView();
  const href = useHref();
  const side = state.input[0] === state.input[1] ? state.input[1] : SIDE;
  const wanted = side === data.input[2] && side !== SIDE ? SIDE : side;
  let trees: Tree[];
  try {
    trees = data.notes.map((index) =>
      treeOf(data, index, [data.networks[index]!.channels, wanted, wanted]),
    );
  } catch (error) {
    if (!(error instanceof WalkError)) throw error;
    return (
      <p class="problem" role="alert">
        {error.message}
      </p>
    );
  }
  const [notes, code] = trees as [Tree, Tree];
  const names = [notes.walk.network.name, code.walk.network.name] as const;
  const paths = sized(notes).map((row) => row.path);
  const rows = paths.map((path) => [notes, code].map((tree) => tree.places.get(path)!.rows[0]!));
  const open = (path: string) =>
    href({
      tab: "structure",
      at: path,
      selection: names[0],
      versus: names[1],
      input: [wanted, wanted],
    });
  return (
    <div class="notes">
      <h2>
        The notes' arithmetic and their code at {wanted}
        {"\u00d7"}
        {wanted}
      </h2>
      <p class="lead">
        <NotesWords capital /> work through a ResNet-50 with a deep stem twice: by hand, and as
        code. The two do not agree. After the stem, the four stages and the pool, the side of the map is {sides(notes)} in the
        notes, and {sides(code)} in the code that they print. Both
        are networks: <code>{names[0]}</code> computes as the notes do, <code>{names[1]}</code> as
        their code. They differ in two points: <strong>padding in the stem</strong> and{" "}
        <strong>rounding</strong>.
        {wanted !== side && ` The image is theirs, ${SIDE}\u00d7${SIDE}; another input above changes it.`}
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="where both part">
        <table class="parting">
          <caption>
            <span class="titled">The side of the map after every layer that changes it</span>
          </caption>
          <thead>
            <tr>
              <th scope="col">layer</th>
              <th scope="col" class="number">
                notes
              </th>
              <th scope="col" class="number">
                code
              </th>
              <th scope="col">why</th>
              <th scope="col">{names[0]}</th>
              <th scope="col">{names[1]}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(([a, b]) => {
              if (!a?.output || !b?.output) return null;
              const differs = a.output[2] !== b.output[2];
              return (
                <tr key={a.path} class={stageClass(a.stage)}>
                  <th scope="row">
                    <a href={open(a.path)}>{a.path}</a>
                    <span class="what">
                      {stageName(a.stage)}, {pretty(a.layer.text)}
                    </span>
                  </th>
                  <td class={`number ${differs ? "differs" : ""}`}>{a.output[2]}</td>
                  <td class={`number ${differs ? "differs" : ""}`}>
                    {differs && <span class="sign">{"\u2260"}</span>}
                    {b.output[2]}
                  </td>
                  <td class="why">{reason(a, b)}</td>
                  <td>
                    <Quotient row={a} />
                  </td>
                  <td>
                    <Quotient row={b} />
                  </td>
                </tr>
              );
            })}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">output</th>
              <td class="number">{notes.walk.output?.[2]}</td>
              <td class="number">{code.walk.output?.[2]}</td>
              <td></td>
              <td>{times(notes.walk.output)}</td>
              <td>{times(code.walk.output)}</td>
            </tr>
          </tfoot>
        </table>
      </div>
      {code.walk.problem && <p class="problem">{code.walk.problem}</p>}
      <p>
        torch's convolutions round down: what does not fill a whole step at the end is left out.
        Rounding up needs zeros below and to the right, where the last window hangs over. A layer
        opens both networks side by side, with the windows on the borders.
      </p>
    </div>
  );
}

/** The sides of the map after each stage and the head's pool. */
const sides = (tree: Tree): string =>
  tree.root.children
    .map((stage) => (stage.stage === "head" ? stage.children[0]!.output : stage.output))
    .map((shape) => shape?.[2] ?? "nothing")
    .join(", ");
