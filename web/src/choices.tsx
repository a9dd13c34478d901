import { useEffect, useState } from "preact/hooks";
import type { Choice } from "./data";
import {
  initial,
  inputText,
  MOST_INPUT,
  nearestWith,
  networkOf,
  parseInput,
  same,
  type Selection,
} from "./state";
import { useView } from "./view";

/** The choices of the network, of the second one if two are compared, and the input. */
export function Choices() {
  const { data, state, go } = useView();
  const start = initial(data);
  const changed = !same(state.selection, start.selection) || !same(state.input, start.input);
  const comparing = state.versus !== null;
  const [open, setOpen] = useState(() => innerWidth >= 560);
  return (
    <details class="choices" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>Choices</summary>
      <Selector
        label={comparing ? "A" : ""}
        selection={state.selection}
        choose={(selection) => go({ selection })}
      />
      {state.versus !== null && (
        <Selector
          label="B"
          selection={state.versus}
          choose={(versus) => go({ versus, tab: "structure" })}
        />
      )}
      <div class="row">
        <Input />
        <button
          type="button"
          class="plain"
          aria-pressed={comparing}
          onClick={() =>
            go({ versus: comparing ? null : start.selection, tab: "structure" })
          }
        >
          compare two networks
        </button>
        {changed && (
          <button
            type="button"
            class="plain"
            onClick={() => go({ selection: start.selection, input: start.input })}
          >
            back to {data.networks[data.asked]!.title} at {inputText(start.input)}
          </button>
        )}
      </div>
    </details>
  );
}

interface Chooser {
  label: string;
  selection: Selection;
  choose: (selection: Selection) => void;
}

function Selector({ label, selection, choose }: Chooser) {
  const { data } = useView();
  const [refused, setRefused] = useState<{ choice: number; value: number } | null>(null);
  const start = initial(data).selection as number[];
  const values = typeof selection === "string" ? start : selection;
  const pick = (choice: number, value: number) => {
    const wanted = values.map((one, place) => (place === choice ? value : one));
    if (networkOf(data, wanted) < 0) {
      setRefused({ choice, value });
    } else {
      setRefused(null);
      choose(wanted);
    }
  };
  useEffect(() => setRefused(null), [JSON.stringify(selection)]);
  return (
    <div class="row selector" role="group" aria-label={label ? `network ${label}` : "network"}>
      {label && <strong class={`side side-${label}`}>{label}</strong>}
      {data.choices.map((choice, place) => (
        <Segments
          key={choice.name}
          choice={choice}
          chosen={typeof selection === "string" ? null : values[place]!}
          refusal={(value) => {
            const wanted = values.map((one, other) => (other === place ? value : one));
            const network = networkOf(data, wanted);
            return network < 0 ? data.refused[-1 - network]! : "";
          }}
          pick={(value) => pick(place, value)}
        />
      ))}
      <div class="choice" role="group" aria-label="the notes">
        <span title="two networks of study notes on ResNet-50: their arithmetic, and their code">
          the notes
        </span>
        <div class="segments">
          {data.notes.map((index) => {
            const { name } = data.networks[index]!;
            return (
              <button
                type="button"
                key={name}
                aria-pressed={selection === name}
                onClick={() => choose(selection === name ? start : name)}
              >
                {name}
              </button>
            );
          })}
        </div>
      </div>
      <div class="reason" role="status">
        {refused && <Reason values={values} refused={refused} choose={choose} />}
      </div>
    </div>
  );
}

function Segments({
  choice,
  chosen,
  refusal,
  pick,
}: {
  choice: Choice;
  chosen: number | null;
  refusal: (value: number) => string;
  pick: (value: number) => void;
}) {
  return (
    <div class="choice" role="group" aria-label={choice.label}>
      <span>{choice.label}</span>
      <div class="segments">
        {choice.values.map(({ value, label }, place) => {
          const reason = refusal(place);
          return (
            <button
              type="button"
              key={value}
              class={reason ? "refused" : place === choice.asked ? "asked" : ""}
              aria-pressed={place === chosen}
              title={reason || (place === choice.asked ? "as asked" : "")}
              onClick={() => pick(place)}
            >
              {label}
              {reason && <span class="hidden"> (contradicts the other choices)</span>}
            </button>
          );
        })}
      </div>
    </div>
  );
}

function Reason({
  values,
  refused,
  choose,
}: {
  values: number[];
  refused: { choice: number; value: number };
  choose: (selection: Selection) => void;
}) {
  const { data } = useView();
  const wanted = values.map((one, place) => (place === refused.choice ? refused.value : one));
  const network = networkOf(data, wanted);
  if (network >= 0) return null;
  const nearest = nearestWith(data, values, refused.choice, refused.value);
  const words = nearest
    ?.map((value, place) =>
      value === values[place]
        ? ""
        : `${data.choices[place]!.label} ${data.choices[place]!.values[value]!.label}`,
    )
    .filter(Boolean)
    .join(", ");
  return (
    <>
      <span>{data.refused[-1 - network]}</span>
      {nearest && (
        <button type="button" class="plain" onClick={() => choose(nearest)}>
          use {words}
        </button>
      )}
    </>
  );
}

function Input() {
  const { state, go } = useView();
  const current = inputText(state.input);
  // What is typed, as long as the input is still that of when it was typed.
  const [typed, setTyped] = useState({ text: current, of: current });
  const text = typed.of === current ? typed.text : current;
  const wrong = parseInput(text) === null;
  const given = (written: string) => {
    const input = parseInput(written);
    setTyped({ text: written, of: input ? inputText(input) : current });
    if (input) go({ input }, true);
  };
  return (
    <div class="choice input">
      <label for="input">input</label>
      <input
        id="input"
        type="text"
        inputMode="numeric"
        size={7}
        value={text}
        aria-invalid={wrong}
        onInput={(event) => given(event.currentTarget.value)}
      />
      <input
        type="range"
        min={32}
        max={640}
        aria-label="input side"
        value={Math.min(640, Math.max(32, state.input[1]))}
        onInput={(event) => given(event.currentTarget.value)}
      />
      {[224, 473].map((side) => (
        <button type="button" class="plain" key={side} onClick={() => go({ input: [side, side] })}>
          {side}
        </button>
      ))}
      {wrong && (
        <span class="reason" role="alert">
          give a side from 1 to {MOST_INPUT}, or height x width, e.g. 473 or 240x320
        </span>
      )}
    </div>
  );
}
