import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Choices } from "./choices";
import { Counting } from "./counting_view";
import type { Data } from "./data";
import { Header } from "./header";
import { Kinds } from "./kinds";
import { Notes } from "./notes";
import { Pictures } from "./pictures/pictures";
import { fromHash, initial, networkOf, same, TABS, toHash, type State, type Tab } from "./state";
import { Structure } from "./structure";
import { alike, type Tree } from "./tree";
import { treeOf } from "./walks";
import { useHref, useView, ViewContext, type View } from "./view";
import { WalkError } from "./walk";

const LABELS: Record<Tab, string> = {
  structure: "Structure",
  pictures: "Pictures",
  blocks: "The two blocks",
  count: "Counting layers",
  notes: "117 or 119?",
};

function attempt(made: () => Tree): Tree | string {
  try {
    return made();
  } catch (error) {
    if (error instanceof WalkError) return error.message;
    throw error;
  }
}

export function App({ data }: { data: Data }) {
  const [state, setState] = useState<State>(() => fromHash(data, location.hash));
  const [mark, setMark] = useState<string | null>(null);
  const [pointed, setPointed] = useState<[number, number] | null>(null);
  const later = useRef(0);
  // An answer of a server changes the state that there is then, not that of its question.
  const latest = useRef(state);
  latest.current = state;

  useEffect(() => {
    const changed = () => {
      clearTimeout(later.current);
      setMark(null);
      setPointed(null);
      setState(fromHash(data, location.hash));
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, [data]);

  const go: View["go"] = (change, quiet = false) => {
    const next = { ...latest.current, ...change };
    latest.current = next;
    const hash = `#${toHash(data, next)}`;
    setState(next);
    clearTimeout(later.current);
    if (quiet) {
      // Browsers refuse many changes a second.
      later.current = setTimeout(() => history.replaceState(null, "", hash), 250);
    } else {
      location.hash = hash;
    }
  };

  const start = useMemo(() => initial(data), [data]);
  const shapeOf = (index: number) => [data.networks[index]!.channels, ...state.input];
  const index = networkOf(data, state.selection);
  const shown = attempt(() => treeOf(data, index, shapeOf(index)));
  const other =
    state.versus === null
      ? null
      : attempt(() => {
          const second = networkOf(data, state.versus!);
          return treeOf(data, second, shapeOf(second));
        });
  const unchanged = same(state.selection, start.selection) && same(state.input, start.input);
  const base = unchanged ? null : attempt(() => treeOf(data, data.asked, data.input));
  const against = other ?? base;
  const view: View = {
    data,
    state,
    differs: (path) =>
      typeof shown !== "string" &&
      typeof against !== "string" &&
      against !== null &&
      !alike(shown.places.get(path), against.places.get(path)),
    asked: typeof base === "string" ? null : base,
    mark,
    setMark,
    pointed,
    setPointed,
    go,
  };

  return (
    <ViewContext.Provider value={view}>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the figure
      </a>
      <Header
        shown={typeof shown === "string" ? null : shown}
        other={typeof other === "string" ? null : other}
        title={data.networks[index]!}
      />
      <Choices />
      <Tabs />
      <main id="main" tabIndex={-1}>
        <Content shown={shown} other={other} />
      </main>
    </ViewContext.Provider>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Tabs() {
  const href = useHref();
  const { data, state } = useView();
  const current = state.tab;
  return (
    <nav class="tabs" aria-label="Views">
      {TABS.filter((tab) => tab !== "pictures" || data.looks.length || data.live).map((tab) => (
        <a href={href({ tab })} aria-current={tab === current ? "page" : undefined} key={tab}>
          {LABELS[tab]}
        </a>
      ))}
    </nav>
  );
}

/** The content of a tab: one line here for each. */
function Content({ shown, other }: { shown: Tree | string; other: Tree | string | null }) {
  const { data, state } = useView();
  if (state.tab === "blocks") return <Kinds />;
  if (state.tab === "notes") return <Notes />;
  if (typeof shown === "string") return <Refused text={shown} />;
  if (state.tab === "count") return <Counting shown={shown} />;
  if (state.tab === "pictures" && (data.looks.length || data.live)) {
    return <Pictures shown={shown} />;
  }
  if (typeof other === "string") return <Refused text={other} />;
  return <Structure shown={shown} other={other} />;
}

function Refused({ text }: { text: string }) {
  return (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}
