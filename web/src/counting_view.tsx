// Both ways of counting the layers, each layer with its number.

import { useState } from "preact/hooks";
import { counted, sums, WAYS, type Counted, type Way } from "./counting";
import { stageName, type Tree } from "./tree";
import { plural, stageClass, useHref, useView } from "./view";
import { NotesWords } from "./words";

const RULES: Record<Way, { title: string; rule: string }> = {
  paper: {
    title: "by the paper",
    rule: "the stem as one, the convolutions of the main paths, the fully connected layer (double frame)",
  },
  notes: {
    title: "by the notes",
    rule: "the stem as one, its max-pool (dashed), the convolutions of the main paths; no fully connected layer",
  },
};

export function Counting({ shown }: { shown: Tree }) {
  const href = useHref();
  const lists = WAYS.map((way) => [way, counted(shown.walk, way)] as const);
  const most = Math.max(...lists.map(([, list]) => list.length));
  const { state, go } = useView();
  const [typed, setTyped] = useState({ text: `${state.count}`, of: state.count });
  const text = typed.of === state.count ? typed.text : `${state.count}`;
  const number = Number(text);
  const valid = Number.isInteger(number) && number >= 1 && number <= most;
  return (
    <div class="counting">
      <h2>How {shown.walk.network.name} comes to its number</h2>
      <p class="lead">
        Convolutions on the main path count; shortcuts, norms and activations do not. The stem counts
        as one layer, however many convolutions it has. For the two ends there are two ways: the paper
        (He et al. 2015) counts the fully connected layer; <NotesWords /> count the max-pool instead.
        For ResNet-50 both give 50.
      </p>
      <form class="row where" onSubmit={(event) => event.preventDefault()}>
        <label for="number">Where is layer</label>
        <input
          id="number"
          type="number"
          min={1}
          max={most}
          value={text}
          aria-invalid={!valid}
          onInput={(event) => {
            const { value } = event.currentTarget;
            const count = Number(value);
            const fits = Number.isInteger(count) && count >= 1;
            setTyped({ text: value, of: fits ? count : state.count });
            if (fits) go({ count }, true);
          }}
        />
        <span role="status" class="found">
          {valid ? (
            lists.map(([way, list]) => {
              const rows = list[number - 1]?.rows;
              return (
                <span key={way}>
                  {RULES[way].title}:{" "}
                  {rows
                    ? rows.map((row) => (
                        <a key={row.path} href={href({ tab: "structure", at: row.path })}>
                          {row.path}
                        </a>
                      ))
                    : `there are only ${list.length}`}
                </span>
              );
            })
          ) : (
            <span>give a number from 1 to {most}</span>
          )}
        </span>
      </form>
      {lists.map(([way, list]) => (
        <Way
          way={way}
          list={list}
          current={valid ? number : 0}
          stages={shown.root.children.map((stage) => stage.stage)}
          key={way}
        />
      ))}
    </div>
  );
}

interface WayProps {
  way: Way;
  list: Counted[];
  current: number;
  stages: string[];
}

function Way({ way, list, current, stages }: WayProps) {
  const href = useHref();
  const parts = sums(list);
  let done = 0;
  const { title, rule } = RULES[way];
  return (
    <section aria-label={title}>
      <h3>
        {list.length} {title}: {parts.map((part) => part.count).join(" + ")}
      </h3>
      <p class="note">{rule}</p>
      <div class="count-stages">
        {stages.map((stage) => {
          const count = parts.find((part) => part.stage === stage)?.count ?? 0;
          const inside = list.slice(done, done + count);
          done += count;
          return (
            <div class={stageClass(stage)} key={stage}>
              <h4>
                {stageName(stage)} <small>{plural(count, "layer")}</small>
              </h4>
              <ol class="chips">
                {inside.map(({ number, rows }) => (
                  <li key={number}>
                    <a
                      class={`chip kind-${rows[0]!.layer.kind} ${number === current ? "marked" : ""}`}
                      href={href({ tab: "structure", at: rows[0]!.path })}
                      title={rows.map((row) => `${row.path}: ${row.layer.text}`).join("; ")}
                      aria-label={`layer ${number} ${title}: ${rows.map((row) => row.path).join(", ")}`}
                    >
                      {number}
                    </a>
                  </li>
                ))}
              </ol>
            </div>
          );
        })}
      </div>
    </section>
  );
}
