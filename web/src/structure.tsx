// The network opened at one place: path, figure, table, and what one unit sees.

import { useLayoutEffect, useRef } from "preact/hooks";
import { BlockGraph } from "./block_graph";
import { Differences } from "./differences";
import { Field } from "./field";
import { LayerView } from "./layer_view";
import { NetworkFigure } from "./network_figure";
import { StageFigure } from "./stage_figure";
import { Table } from "./table";
import { hasLayers, nearest, neighbours, pathWords, type Place, type Tree } from "./tree";
import { stageClass, useHref, useView } from "./view";
import { Words } from "./words";

export function Structure({ shown, other }: { shown: Tree; other: Tree | null }) {
  const { state, mark } = useView();
  const place = nearest(shown, state.at);
  const second = other && nearest(other, state.at);
  const figure = useRef<HTMLDivElement>(null);
  useFocus(figure, place);
  useKeys(figure, shown, place);
  const marked = mark !== null ? shown.places.get(mark) : undefined;
  return (
    <div class={`structure at-${hasLayers(place) ? "block" : place.level}`}>
      <Crumbs shown={shown} other={other} place={place} />
      <div class="work">
        <div class={other ? "figures-two" : "figure-one"} ref={figure}>
          <Figure tree={shown} place={place} label={other ? "A" : ""} />
          {other && second && (
            <Figure tree={other} place={second} label="B" wanted={place.path} />
          )}
        </div>
        <div class="side-by">
          {other && second ? (
            <Differences first={place} second={second} />
          ) : (
            <Table place={place} />
          )}
          <div class="fields">
            <Field tree={shown} place={marked ?? place} label={other ? "A" : ""} />
            {other && second && (
              <Field tree={other} place={(mark !== null && other.places.get(mark)) || second} label="B" />
            )}
          </div>
        </div>
      </div>
      <Words />
    </div>
  );
}

function Figure({
  tree,
  place,
  label,
  wanted,
}: {
  tree: Tree;
  place: Place;
  label: string;
  wanted?: string;
}) {
  return (
    <section
      class={`figure ${stageClass(place.stage)}`}
      aria-label={`figure of ${place.path || place.name}${label && `, network ${label}`}`}
    >
      {label && (
        <p class={`side side-${label}`}>
          <strong>{label}</strong> {tree.walk.network.title}
        </p>
      )}
      {wanted !== undefined && wanted !== place.path && (
        <p class="note">There is no {wanted} in this network.</p>
      )}
      {place.level === "layer" ? (
        <LayerView tree={tree} place={place} key={place.path} />
      ) : place.level === "network" ? (
        <NetworkFigure tree={tree} explained={label !== "B"} />
      ) : hasLayers(place) ? (
        <>
          <BlockGraph place={place} />
          {place.level === "block" && <p class="note">{pathWords(place)}</p>}
        </>
      ) : (
        <StageFigure place={place} />
      )}
    </section>
  );
}

function Crumbs({ shown, other, place }: { shown: Tree; other: Tree | null; place: Place }) {
  const href = useHref();
  const [before, after] = neighbours(shown, place);
  const above: Place[] = [];
  for (let one: Place | null = place; one; one = one.parent) above.unshift(one);
  return (
    <div class="crumbs">
      <nav aria-label="Place">
        <ol>
          {above.map((one) => (
            <li key={one.path}>
              {one === place ? (
                <h2 aria-current="location" tabIndex={-1}>
                  {one.name}
                  {other && one.level === "network" && ` and ${other.root.name}`}
                </h2>
              ) : (
                <a href={href({ at: one.path })}>
                  {one.name}
                  {other && one.level === "network" && ` and ${other.root.name}`}
                </a>
              )}
            </li>
          ))}
        </ol>
      </nav>
      {place.level !== "network" && (
        <p class="beside">
          <Beside place={before} words="previous" />
          <a href={href({ at: place.parent?.path ?? "" })} class="plain">
            {"\u2191"} up
          </a>
          <Beside place={after} words="next" />
        </p>
      )}
    </div>
  );
}

function Beside({ place, words }: { place: Place | null; words: "previous" | "next" }) {
  const href = useHref();
  if (!place) return null;
  const arrow = words === "next" ? "\u2192" : "\u2190";
  const name = place.level === "stage" ? place.name : place.path;
  return (
    <a class="plain" href={href({ at: place.path })} aria-label={`${words}: ${name}`}>
      {words === "previous" && `${arrow} `}
      {name}
      {words === "next" && ` ${arrow}`}
    </a>
  );
}

/** After a place is opened, the focus is on its first item, or on the place that was left. */
function useFocus(figure: { current: HTMLElement | null }, place: Place): void {
  const last = useRef(place.path);
  useLayoutEffect(() => {
    const left = last.current;
    last.current = place.path;
    if (left === place.path) return;
    const active = document.activeElement;
    if (active && active !== document.body && !active.closest(".structure")) return;
    const items = [...(figure.current?.querySelectorAll<HTMLElement>("[data-item]") ?? [])];
    const target =
      items.find((item) => item.dataset["item"] === left || left.startsWith(`${item.dataset["item"]}.`)) ??
      items[0] ??
      document.querySelector<HTMLElement>(".crumbs h2");
    target?.focus({ preventScroll: true });
  }, [place.path]);
}

/** Arrow keys go between items or neighbours, Escape and Backspace go up. */
function useKeys(figure: { current: HTMLElement | null }, shown: Tree, place: Place): void {
  const { go } = useView();
  useLayoutEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
      if (target.closest("input, select, textarea, button")) return;
      const step = STEPS[event.key];
      if (step && target.matches(".scroll")) return; // a table that is too wide scrolls
      if (event.key === "Escape" || event.key === "Backspace") {
        if (!place.parent) return;
        go({ at: place.parent.path });
      } else if (step) {
        const group = target.closest<HTMLElement>(".figure, table") ?? figure.current;
        const items = [...(group?.querySelectorAll<HTMLElement>("[data-item]") ?? [])];
        const at = items.indexOf(target.closest("[data-item]") as HTMLElement);
        if (at >= 0) {
          items[(at + step + items.length) % items.length]!.focus();
        } else if (place.level === "layer" && !event.key.endsWith("Up") && !event.key.endsWith("Down")) {
          const next = neighbours(shown, place)[step < 0 ? 0 : 1];
          if (!next) return;
          go({ at: next.path });
        } else if (target === document.body || target.closest(".crumbs, main") === target) {
          if (event.key.endsWith("Up") || event.key.endsWith("Down") || !items[0]) return;
          items[step > 0 ? 0 : items.length - 1]!.focus();
        } else {
          return;
        }
      } else {
        return;
      }
      event.preventDefault();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  });
}

const STEPS: Record<string, number> = {
  ArrowRight: 1,
  ArrowDown: 1,
  ArrowLeft: -1,
  ArrowUp: -1,
};
