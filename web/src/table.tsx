// The same as the figure, as a table.

import { spoken, type Place } from "./tree";
import { pretty, stageClass, times, useHref, useMarks, useView } from "./view";
import { grouped } from "./walk";

type Cell = [name: string, value: string];

function cells(place: Place): Cell[] {
  return [
    ["output", times(place.output)],
    ["parameters", grouped(place.parameters)],
    ["MACs", grouped(place.macs)],
    ["field", grouped(place.field)],
    ["stride", grouped(place.stride)],
  ];
}

/** The children of a place; at a layer, the layers beside it. */
export const listed = (place: Place): Place =>
  place.level === "layer" ? (place.parent ?? place) : place;

/** What a table lists. */
export function inside(parent: Place): string {
  if (parent.level === "network") return "Its stages";
  const children = parent.children[0]?.level === "block" ? "Blocks" : "Layers";
  return `${children} of ${spoken(parent)}`;
}

export function Table({ place }: { place: Place }) {
  const { asked, mark } = useView();
  const href = useHref();
  const marks = useMarks();
  const parent = listed(place);
  const names = cells(parent).map(([name]) => name);
  let differing = 0;
  const rows = parent.children.map((child) => {
    const before = asked?.places.get(child.path);
    const was = before && cells(before);
    const values = cells(child).map(([name, value], index) => {
      const other = was?.[index]?.[1];
      const differs = before !== undefined && other !== value;
      differing += differs ? 1 : 0;
      return { name, value, differs, other };
    });
    return { child, values, isNew: asked !== null && !before };
  });
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="table of the figure">
      <table>
        <caption>
          <span class="titled">
            {inside(parent)} {differing > 0 && <Legend />}
          </span>
        </caption>
        <thead>
          <tr>
            <th scope="col">place</th>
            {names.map((name) => (
              <th scope="col" class="number" key={name}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ child, values, isNew }) => (
            <tr
              key={child.path}
              class={`${stageClass(child.stage)} ${mark === child.path ? "marked" : ""} ${child === place ? "open" : ""}`}
              {...marks(child)}
            >
              <th scope="row">
                <a
                  href={href({ at: child.path })}
                  data-item={child.path}
                  aria-current={child === place ? "location" : undefined}
                >
                  {child.name}
                </a>
                {isNew && <span class="sign"> new</span>}
                <span class="what">{pretty(child.what)}</span>
              </th>
              {values.map(({ name, value, differs, other }) => (
                <td
                  class={`number ${differs ? "differs" : ""}`}
                  key={name}
                  title={differs ? `as asked: ${other}` : ""}
                >
                  {differs && <span class="sign">{"\u2260"}</span>}
                  {value}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">{parent.level === "network" ? "total" : `all of ${spoken(parent)}`}</th>
            {cells(parent).map(([name, value]) => (
              <td class="number" key={name}>
                {parent.level === "network" && (name === "field" || name === "stride")
                  ? ""
                  : value}
              </td>
            ))}
          </tr>
        </tfoot>
      </table>
    </div>
  );
}

function Legend() {
  return <span class="legend">{"\u2260"} and bold: not as asked; point at it for what was</span>;
}
