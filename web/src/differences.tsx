// Two networks side by side: the children of the same place of both.

import { inside, listed } from "./table";
import type { Place } from "./tree";
import { pretty, stageClass, times, useHref, useMarks, useView } from "./view";
import { grouped } from "./walk";

const COLUMNS: [string, (place: Place) => string][] = [
  ["output", (place) => times(place.output)],
  ["parameters", (place) => grouped(place.parameters)],
  ["MACs", (place) => grouped(place.macs)],
  ["field", (place) => grouped(place.field)],
];

export function Differences({ first, second }: { first: Place; second: Place }) {
  const { mark } = useView();
  const href = useHref();
  const marks = useMarks();
  const [one, other] = [listed(first), listed(second)];
  const sides = [one, other].map((place) => new Map(place.children.map((c) => [c.path, c])));
  const paths = [...new Set([...sides[0]!.keys(), ...sides[1]!.keys()])];
  const rows = paths.map((path) => {
    const [a, b] = [sides[0]!.get(path), sides[1]!.get(path)];
    const pairs = COLUMNS.map(([name, value]) => {
      const [left, right] = [a ? value(a) : "\u2013", b ? value(b) : "\u2013"];
      return { name, left, right, differs: left !== right };
    });
    const what = a?.what !== b?.what;
    return { path, a, b, pairs, what, differs: what || pairs.some((pair) => pair.differs) };
  });
  const count = rows.filter((row) => row.differs).length;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="table of both networks">
      <table class="two">
        <caption>
          <span class="titled">
            {inside(one)}: {count} of {rows.length} rows differ
            <span class="legend">{"\u2260"} and bold: A (above) and B (below) differ</span>
          </span>
        </caption>
        <thead>
          <tr>
            <th scope="col">place</th>
            {COLUMNS.map(([name]) => (
              <th scope="col" class="number" key={name}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ path, a, b, pairs, what, differs }) => {
            const place = (a ?? b)!;
            return (
              <tr
                key={path}
                class={`${stageClass(place.stage)} ${mark === path ? "marked" : ""} ${place.path === first.path ? "open" : ""}`}
                {...marks(place)}
              >
                <th scope="row">
                  {differs && <span class="sign">{"\u2260"} </span>}
                  <a href={href({ at: path })} data-item={path}>
                    {place.name}
                  </a>
                  {what ? (
                    <>
                      <span class="what">A: {a ? pretty(a.what) : "not in A"}</span>
                      <span class="what">B: {b ? pretty(b.what) : "not in B"}</span>
                    </>
                  ) : (
                    <span class="what">{pretty(place.what)}</span>
                  )}
                </th>
                {pairs.map(({ name, left, right, differs: cell }) => (
                  <td class={`number ${cell ? "differs" : ""}`} key={name}>
                    {cell ? (
                      <>
                        <span>
                          <span class="sign">{"\u2260"}</span>
                          {left}
                        </span>
                        <span>{right}</span>
                      </>
                    ) : (
                      left
                    )}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">all, A and B</th>
            {COLUMNS.map(([name, value]) => (
              <td class={`number ${value(one) === value(other) ? "" : "differs"}`} key={name}>
                <span>{value(one)}</span>
                <span>{value(other)}</span>
              </td>
            ))}
          </tr>
        </tfoot>
      </table>
    </div>
  );
}
