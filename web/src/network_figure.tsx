// The whole network: the image and the map after each stage, to one scale.

import { Slab, slabWidth, type Scale } from "./slab";
import { Differs, plural, percent, short, stageClass, times, unitOf, useHref, useMarks, useView, useWidth, zoom } from "./view";
import { spoken, type Place, type Tree } from "./tree";

/** The last place of a network that has a map, before its head. */
export const lastMap = (tree: Tree): Place =>
  tree.root.children.filter((one) => one.stage !== "head").at(-1) ?? tree.root;

export function NetworkFigure({ tree, explained }: { tree: Tree; explained: boolean }) {
  const { state, mark, pointed, setPointed, go } = useView();
  const href = useHref();
  const marks = useMarks();
  const [ref, width] = useWidth<HTMLOListElement>(1000);
  const { root, walk } = tree;
  const column = width < 560;
  const most = Math.max(...walk.rows.map((row) => row.output?.[0] ?? 0));
  const largest = Math.max(walk.input[1]!, walk.input[2]!);
  const shapes = [walk.input, ...root.children.map((stage) => stage.output ?? [1])];
  const scale = fitted(column ? 84 : width * 0.19, largest, column, width, shapes, most);
  const tall = scale.side * walk.input[1]! + 14;
  const focus = (mark !== null && tree.places.get(mark)) || lastMap(tree);
  const unit = pointed ?? state.unit;
  const square =
    focus.output?.length === 3
      ? (() => {
          const [row, at] = unitOf(unit, focus.output!);
          const first = (index: number) => focus.start + index * focus.stride;
          return [first(row), first(at), focus.field] as [number, number, number];
        })()
      : undefined;
  return (
    <>
      <ol
        class={`flow ${column ? "down" : "across"}`}
        ref={ref}
        style={{ "--tall": `${tall}px` }}
      >
        <li class="input" style={basis(walk.input, scale)}>
          <div class="item">
            <span class="drawn">
              <Slab shape={walk.input} scale={scale} stage="" square={square} />
            </span>
            <div class="words">
              <strong>input</strong>
              <span class="shape">{times(walk.input)}</span>
            </div>
          </div>
        </li>
        {root.children.map((stage) => (
          <li
            key={stage.path}
            class={stageClass(stage.stage)}
            style={basis(stage.output ?? [1], scale)}
          >
            <a
              class={`item ${mark === stage.path ? "marked" : ""}`}
              href={href({ at: stage.path })}
              data-item={stage.path}
              {...marks(stage)}
            >
              <span class="drawn">
              {stage.output && (
                <Slab
                  shape={stage.output}
                  scale={scale}
                  stage={stage.stage}
                  point={setPointed}
                  choose={(chosen) => go({ unit: chosen }, true)}
                  unit={focus === stage ? unit : undefined}
                />
              )}
              </span>
              <div class="words">
                <strong>
                  <Differs path={stage.path} />
                  {stage.name}
                </strong>
                <span class="shape">{times(stage.output)}</span>
                <span class="what">{stageWords(stage)}</span>
                <Shares place={stage} root={root} />
              </div>
            </a>
          </li>
        ))}
      </ol>
      {explained && (
        <p class="hint">
          Squares: the side of the map after each stage; depth: its channels; all to one scale. The
          outlined square on the input is what one unit of {spoken(focus)} sees; point at another map
          to see its. Open a stage with a click or Enter; arrow keys go from one to the next.
        </p>
      )}
    </>
  );
}

/** The largest scale at which all maps stand side by side, each with room for its words. */
function fitted(
  side: number,
  largest: number,
  column: boolean,
  width: number,
  shapes: number[][],
  most: number,
): Scale {
  const depth = (column ? 90 : Math.min(150 * zoom(), width * 0.085)) / most;
  const scale = { side: side / largest, depth };
  const needed = () => shapes.reduce((all, shape) => all + itemWidth(shape, scale) + 7, 0);
  while (!column && needed() > width && scale.side * largest > 40) {
    scale.side *= 0.96;
    scale.depth *= 0.98;
  }
  return scale;
}

const itemWidth = (shape: number[], scale: Scale): number =>
  Math.max(118 * zoom(), slabWidth(shape, scale) + 16);

const basis = (shape: number[], scale: Scale) => ({
  flexBasis: `${itemWidth(shape, scale)}px`,
});

function stageWords(stage: Place): string {
  const blocks = stage.children.filter((one) => one.level === "block").length;
  return blocks ? plural(blocks, "block") : plural(stage.children.length, "layer");
}

function Shares({ place, root }: { place: Place; root: Place }) {
  return (
    <span class="shares">
      <Share name="parameters" part={place.parameters} whole={root.parameters} />
      <Share name="MACs" part={place.macs} whole={root.macs} />
    </span>
  );
}

export function Share({ name, part, whole }: { name: string; part: number; whole: number }) {
  return (
    <span class="share" title={`${short(part)} of ${short(whole)} ${name}`}>
      <span class="bar" aria-hidden="true">
        <i style={{ width: `${whole ? (100 * part) / whole : 0}%` }} />
      </span>
      {percent(part, whole)} {name}
    </span>
  );
}
