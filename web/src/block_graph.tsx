// The layers of a block as a graph: the main path, the gate and the shortcut, and where they join.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Place } from "./tree";
import { Differs, pretty, short, times, useHref, useMarks, useView, useWidth, zoom } from "./view";

const [GAP, TOP] = [24, 34];

interface Node {
  place: Place;
  column: number;
  rank: number;
}

/** The column of each layer by its branch, and its row by its longest way from the input. */
function laidOut(block: Place): { nodes: Node[]; columns: number; ranks: number } {
  const branches = new Set(block.rows.map((row) => row.branch));
  const columns = ["main", "gate", "shortcut"].filter((name) => branches.has(name as "main"));
  if (branches.has("junction") && !branches.has("shortcut")) columns.push("shortcut");
  const ranks = new Map<string, number>();
  const nodes = block.children.map((place) => {
    const row = place.rows[0]!;
    const rank = Math.max(0, ...row.inputs.map((input) => (ranks.get(input) ?? -1) + 1));
    ranks.set(place.path, rank);
    return { place, rank, column: Math.max(0, columns.indexOf(row.branch)) };
  });
  const last = Math.max(...nodes.map((node) => node.rank));
  const beside = nodes.filter((node) => columns[node.column] === "shortcut");
  const lower = Math.floor((last - 1 - beside.length) / 2);
  beside.forEach((node) => (node.rank += Math.max(0, lower)));
  return { nodes, columns: columns.length, ranks: last + 1 };
}

export function BlockGraph({ place, still = false }: { place: Place; still?: boolean }) {
  const { mark } = useView();
  const href = useHref();
  const marks = useMarks();
  const [ref, full] = useWidth<HTMLDivElement>(700);
  const { nodes, columns, ranks } = laidOut(place);
  const scale = zoom();
  const width = Math.min(full, scale * (columns === 1 ? 460 : columns === 2 ? 780 : 980));
  const main = columns === 1 ? width : columns === 2 ? width * 0.58 : width * 0.42;
  const rest = columns > 1 ? (width - main) / (columns - 1) : 0;
  const [graph, talls] = useTalls(ranks, `${place.path} ${place.what} ${width}`);
  const left = (column: number) => (column === 0 ? 0 : main + (column - 1) * rest + 14);
  const wide = (column: number) => (column === 0 ? main : rest - 14);
  const middle = (column: number) => left(column) + wide(column) / 2;
  const tall = (rank: number) => talls[rank] ?? 42 * scale;
  const top = (rank: number): number =>
    rank === 0 ? TOP : top(rank - 1) + tall(rank - 1) + GAP;
  const height = top(ranks) + 8;
  const at = new Map(nodes.map((node) => [node.place.path, node]));
  const kinds = place.rows.map((row) => row.layer.kind);
  const identity = kinds.includes("add") && !place.rows.some((row) => row.branch === "shortcut");

  return (
    <div class="graph-box" ref={ref}>
      <p class="lead">{pretty(still ? sentence(place) : `${place.what}. ${sentence(place)}`)}</p>
      <div
        ref={graph}
        class={`graph ${main < 300 * scale ? "narrow" : ""}`}
        style={{ width: `${width}px`, height: `${height}px` }}>
        <svg class="wires" width={width} height={height} aria-hidden="true">
          <text x={middle(0) - 8} y="22" text-anchor="end" class="shape">
            {times(place.input)}
          </text>
          <path class="wire" d={`M${middle(0)},0V${TOP}`} />
          {nodes.flatMap((node) =>
            node.place.rows[0]!.inputs.map((input, index) => {
              const from = at.get(input);
              const role = index > 0 || node.place.rows[0]!.branch === "shortcut" ? "shortcut" : "main";
              return (
                <Wire
                  key={`${node.place.path}${index}`}
                  from={from ? [middle(from.column), top(from.rank) + tall(from.rank)] : [middle(0), 12]}
                  to={[middle(node.column), top(node.rank)]}
                  side={index > 0 ? [left(node.column) + wide(node.column), top(node.rank) + tall(node.rank) / 2] : null}
                  line={index > 0 && !from ? middle(columns - 1) : null}
                  role={from?.place.rows[0]!.branch === "gate" ? "gate" : role}
                />
              );
            }),
          )}
        </svg>
        {identity && (
          <span
            class="identity"
            style={{ left: `${left(columns - 1)}px`, width: `${wide(columns - 1)}px`, top: `${top(Math.max(0, Math.floor(ranks / 2) - 1))}px` }}
          >
            identity: the input itself, unchanged
          </span>
        )}
        {nodes.map(({ place: layer, column, rank }) => {
          const { kind } = layer.rows[0]!.layer;
          const style = {
            left: `${left(column)}px`,
            width: `${wide(column)}px`,
            top: `${top(rank)}px`,
            height: `${tall(rank)}px`,
          };
          const inside = (
            <>
              <span class="node-name">
                <strong>
                  {!still && <Differs path={layer.path} />}
                  {layer.name}
                </strong>
                <span class="shape">{times(layer.output)}</span>
              </span>
              <span class="what">
                {pretty(layer.what)}
                {layer.macs > 0 && <span class="cost"> {short(layer.macs)} MACs</span>}
              </span>
            </>
          );
          return still ? (
            <div class={`node kind-${kind}`} data-rank={rank} style={style} key={layer.path}>
              {inside}
            </div>
          ) : (
            <a
              class={`node kind-${kind} ${mark === layer.path ? "marked" : ""}`}
              href={href({ at: layer.path })}
              data-item={layer.path}
              data-rank={rank}
              style={style}
              key={layer.path}
              {...marks(layer)}
            >
              {inside}
            </a>
          );
        })}
      </div>
    </div>
  );
}

/** The heights of the rows of a graph: each holds the words of its layers, whatever the letters. */
function useTalls(ranks: number, key: string) {
  const ref = useRef<HTMLDivElement>(null);
  const [talls, setTalls] = useState<number[]>([]);
  useLayoutEffect(() => {
    const needed: number[] = new Array(ranks).fill(42 * zoom());
    for (const node of ref.current?.querySelectorAll<HTMLElement>("[data-rank]") ?? []) {
      const words = [...node.children].reduce((all, child) => all + (child as HTMLElement).offsetHeight, 0);
      const rank = Number(node.dataset["rank"]);
      needed[rank] = Math.max(needed[rank]!, words + 10);
    }
    setTalls((before) => (before.join() === needed.join() ? before : needed));
  }, [ranks, key]);
  return [ref, talls] as const;
}

function Wire({
  from,
  to,
  side,
  line,
  role,
}: {
  from: [number, number];
  to: [number, number];
  side: [number, number] | null;
  line: number | null;
  role: string;
}) {
  const [x, y] = from;
  let path: string;
  let tip: [number, number];
  if (side) {
    const down = line ?? x;
    path = `M${x},${y}H${down}V${side[1]}H${side[0] + 7}`;
    tip = side;
  } else if (x === to[0]) {
    path = `M${x},${y}V${to[1] - 6}`;
    tip = to;
  } else {
    path = `M${x},${y}v${from[1] > 20 ? GAP / 2 - 4 : 0}H${to[0]}V${to[1] - 6}`;
    tip = to;
  }
  const arrow = side
    ? `M${tip[0]},${tip[1]}l8,-4v8z`
    : `M${tip[0]},${tip[1]}l-4,-8h8z`;
  return (
    <>
      <path class={`wire ${role}`} d={path} />
      <path class={`tip ${role}`} d={arrow} />
    </>
  );
}

function sentence(place: Place): string {
  const branches = new Set(place.rows.map((row) => row.branch));
  if (!branches.has("junction")) {
    return `${place.children.length} layers, one after the other.`;
  }
  const beside = place.rows.filter((row) => row.branch === "shortcut");
  const main = place.rows.filter((row) => row.branch === "main" && row.layer.perOutput).length;
  const carried = beside.length
    ? `the shortcut carries the input through ${beside.map((row) => row.layer.text).join(", then ")}, because the shape changes`
    : "the shortcut carries the input itself, because the shape does not change";
  return `The main path has ${main} convolutions; ${carried}. Both are added, then ReLU.`;
}
