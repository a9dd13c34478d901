// A stage: its blocks in order, each with its main path and its shortcut.

import { alike, type Place } from "./tree";
import { Differs, pretty, short, times, useHref, useMarks, useView } from "./view";

export function StageFigure({ place }: { place: Place }) {
  const { mark } = useView();
  const href = useHref();
  const marks = useMarks();
  return (
    <>
      <p class="lead">
        {pretty(place.what)}. In: {times(place.input)}, out: {times(place.output)}.
      </p>
      <ol class="blocks">
        {place.children.map((block, index) => {
          const twin = place.children.slice(0, index).find((one) => alike(one, block));
          return (
            <li key={block.path}>
              <a
                class={`card ${mark === block.path ? "marked" : ""}`}
                href={href({ at: block.path })}
                data-item={block.path}
                {...marks(block)}
              >
                <strong class="path">
                  <Differs path={block.path} />
                  {block.path}
                </strong>
                <Sketch block={block} />
                <span class="what">{twin ? `same layers as ${twin.path}` : pretty(block.what)}</span>
                <span class="shape">{times(block.output)}</span>
                <span class="what">{short(block.macs)} MACs</span>
              </a>
            </li>
          );
        })}
      </ol>
    </>
  );
}

/** Layers with weights as bars as wide as their channels, on two paths that meet. */
function Sketch({ block }: { block: Place }) {
  const main = block.rows.filter((row) => row.branch === "main" && row.layer.perOutput);
  const beside = block.rows.filter((row) => row.branch === "shortcut" && row.layer.window);
  const most = Math.sqrt(Math.max(...main.map((row) => row.layer.channels ?? 1)));
  const [middle, line, gap] = [38, 92, 16];
  const bottom = 8 + main.length * gap + 6;
  return (
    <svg class="sketch" width="110" height={bottom + 16} viewBox={`0 0 110 ${bottom + 16}`} aria-hidden="true">
      <path class="wire" d={`M${middle},0V${bottom - 6}`} />
      <path class="wire shortcut" d={`M${middle},3H${line}V${bottom}H${middle + 8}`} />
      {main.map((row, index) => {
        const width = (62 * Math.sqrt(row.layer.channels ?? 1)) / most;
        return (
          <rect
            key={row.path}
            class="kind-conv"
            x={middle - width / 2}
            y={8 + index * gap}
            width={width}
            height="10"
            rx="2"
          />
        );
      })}
      {beside.length > 0 && (
        <rect class="kind-conv" x={line - 10} y={bottom / 2 - 5} width="20" height="10" rx="2" />
      )}
      <circle class="kind-add" cx={middle} cy={bottom} r="7" />
      <path class="wire" d={`M${middle - 4},${bottom}h8M${middle},${bottom - 4}v8`} />
    </svg>
  );
}
