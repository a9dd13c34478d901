import { useEffect, useState } from "preact/hooks";
import type { Network } from "./data";
import type { Tree } from "./tree";
import { short, times, useHref, useView } from "./view";
import { counted } from "./counting";
import { grouped } from "./walk";

interface Heading {
  shown: Tree | null;
  /** The second network, if two are compared. */
  other: Tree | null;
  title: Network;
}

export function Header({ shown, other, title }: Heading) {
  return (
    <header class="top">
      <div class="heading">
        <h1>
          {title.title}
          {other && <span class="against"> and {other.walk.network.title}</span>}
        </h1>
        <Theme />
      </div>
      {title.about && !other && <p class="about">{title.about}</p>}
      {shown && <Figures shown={shown} other={other} />}
      {shown?.walk.problem && (
        <p class="problem" role="note">
          {shown.walk.problem}
        </p>
      )}
    </header>
  );
}

function Figures({ shown, other }: { shown: Tree; other: Tree | null }) {
  const { asked } = useView();
  const href = useHref();
  const of = (tree: Tree) => {
    const root = tree.root;
    const numbers = (["paper", "notes"] as const).map(
      (way) => counted(tree.walk, way).at(-1)?.number ?? 0,
    );
    return [
      ["input", times(tree.walk.input), ""],
      ["output", times(tree.walk.output), tree.walk.problem ? "last map reached" : ""],
      ["parameters", short(root.parameters), grouped(root.parameters)],
      ["MACs", short(root.macs), grouped(root.macs)],
      ["activations", short(root.activations), grouped(root.activations)],
      ["layers", `${numbers[0]} / ${numbers[1]}`, "by the paper / by the notes"],
    ] as const;
  };
  const [before, words] = other ? [of(other), "B"] : [asked && of(asked), "as asked"];
  return (
    <dl class="figures">
      {of(shown).map(([name, value, small], place) => {
        const was = before?.[place];
        const differs = was !== undefined && was !== null && (was[1] !== value || was[2] !== small);
        return (
          <div key={name} class={differs ? "differs" : ""}>
            <dt>{name}</dt>
            <dd>
              {differs && <span class="sign">{"\u2260"}</span>}
              <strong>{value}</strong>
              {small && <small>{name === "layers" ? <a href={href({ tab: "count" })}>{small}</a> : small}</small>}
              {differs && <small>{words}: {was[1]}</small>}
            </dd>
          </div>
        );
      })}
    </dl>
  );
}

const THEMES = ["auto", "light", "dark"] as const;
type ThemeName = (typeof THEMES)[number];

function remembered(): ThemeName {
  try {
    return (localStorage.getItem("resnetkit-theme") as ThemeName | null) ?? "auto";
  } catch {
    return "auto"; // a page of a mail may have no storage
  }
}

function Theme() {
  const [theme, setTheme] = useState<ThemeName>(remembered);
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
    try {
      localStorage.setItem("resnetkit-theme", theme);
    } catch {
      // the choice is not remembered
    }
  }, [theme]);
  return (
    <div class="segments" role="group" aria-label="Colours">
      {THEMES.map((name) => (
        <button
          type="button"
          key={name}
          aria-pressed={theme === name}
          onClick={() => setTheme(name)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}
