// Pictures through the network: what each place made of them.

import { useEffect, useRef, useState } from "preact/hooks";
import { stageName, type Tree } from "../tree";
import { times, useView } from "../view";
import { Give } from "./give.tsx";
import {
  colours,
  cutOf,
  mapOf,
  placeOf,
  seen,
  type ByteMap,
  type Field,
  type Look,
  type LookPlace,
  type Overlay,
  type Part,
} from "./look";
import { Mistake } from "./mistake";

/** A unit that is pointed at, on the map of a place. */
interface Pointed {
  path: string;
  row: number;
  column: number;
}

/** The last part of a path. */
const called = (name: string): string => name.split(/[\\/]/).at(-1) || name;

const number = (value: number): string => value.toPrecision(3).replace("e", "\u00d710^");

function styled({ left, top, width, height }: Part): Record<string, string> {
  const share = (value: number) => `${100 * value}%`;
  return { left: share(left), top: share(top), width: share(width), height: share(height) };
}

function MapCanvas({ map, clear = false }: { map: ByteMap; clear?: boolean }) {
  const ref = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const data = new ImageData(map.width, map.height);
    data.data.set(colours(map, clear));
    ref.current?.getContext("2d")?.putImageData(data, 0, 0);
  }, [map, clear]);
  return <canvas ref={ref} width={map.width} height={map.height} aria-hidden="true" />;
}

/** The picture, the crop, what is laid over it, and the square of the pointed unit. */
function Photo({ look, map, square = null, caption = true }: {
  look: Look;
  map: ByteMap | undefined;
  square?: Part | null;
  caption?: boolean;
}) {
  const cut = styled(cutOf(look));
  return (
    <figure class="look-photo">
      <div class="look-frame">
        <img src={look.photo} alt={called(look.name)} />
        {map && (
          <div class="look-over" style={cut}>
            <MapCanvas map={map} clear />
          </div>
        )}
        <div class="look-cut" style={cut} />
        {square && <div class="look-seen" style={styled(square)} />}
      </div>
      {caption && (
        <figcaption>
          {called(look.name)}, {look.width}&times;{look.height}. The frame is what the network got,
          as {look.size}&times;{look.size} pixels.
        </figcaption>
      )}
    </figure>
  );
}

function Classes({ look, overlay, lay }: { look: Look; overlay: Overlay; lay: (o: Overlay) => void }) {
  return (
    <ol class="look-classes">
      {look.top.map(({ class: index, label, probability }) => {
        const cam = look.cams.find((one) => one.class === index);
        return (
          <li key={index}>
            <button
              type="button"
              disabled={!cam}
              aria-pressed={overlay.kind === "cam" && overlay.class === index}
              onClick={() => lay({ kind: "cam", class: index })}
            >
              <i style={{ width: `${100 * probability}%` }} />
              <span>{label}</span>
              <span class="number">{(100 * probability).toFixed(1)} %</span>
              {cam && <span class="hidden">, seen most at the {placeOf(cam)}</span>}
            </button>
          </li>
        );
      })}
    </ol>
  );
}

interface MapsProps {
  place: LookPlace;
  overlay: Overlay;
  lay: (overlay: Overlay) => void;
  point: (unit: Pointed | null) => void;
}

function MapButton({ map, path, one, name, overlay, lay, point }: {
  map: ByteMap;
  path: string;
  one: Overlay;
  name: string;
  overlay: Overlay;
  lay: (overlay: Overlay) => void;
  point: (unit: Pointed | null) => void;
}) {
  const pointer = (event: PointerEvent): void => {
    const box = (event.currentTarget as HTMLElement).querySelector("canvas")!.getBoundingClientRect();
    const unit = (at: number, side: number, count: number) =>
      Math.max(0, Math.min(count - 1, Math.floor((at / side) * count)));
    const scale = map.averaged ?? 1;
    point({
      path,
      row: unit(event.clientY - box.top, box.height, map.height) * scale,
      column: unit(event.clientX - box.left, box.width, map.width) * scale,
    });
  };
  return (
    <button
      type="button"
      class="look-thumb"
      aria-pressed={JSON.stringify(overlay) === JSON.stringify(one)}
      onClick={() => lay(one)}
      onPointerMove={pointer}
      onPointerLeave={() => point(null)}
    >
      <MapCanvas map={map} />
      <span>{name}</span>
      <span class="hidden">
        , strongest at the {placeOf(map)}, {number(map.low)} to {number(map.high)}
      </span>
    </button>
  );
}

function Maps({ place, overlay, lay, point }: MapsProps) {
  const { path } = place;
  const shared = { path, overlay, lay, point };
  return (
    <div class="look-maps">
      {place.channels.map((channel) => (
        <MapButton
          key={channel.index}
          map={channel}
          one={{ kind: "channel", path, index: channel.index }}
          name={`${channel.index}`}
          {...shared}
        />
      ))}
      {place.main && place.shortcut && (
        <div class="look-branches">
          {(["shortcut", "main"] as const).map((kind) => (
            <MapButton
              key={kind}
              map={place[kind]!.map}
              one={{ kind, path }}
              name={kind === "main" ? "added" : "carried"}
              {...shared}
            />
          ))}
          <p>
            The shortcut ({place.kind}) carried {number(place.shortcut.rms)}, the block added{" "}
            {number(place.main.rms)}: root mean squares.
            <Share main={place.main.rms} shortcut={place.shortcut.rms} />
          </p>
        </div>
      )}
      <p class="hidden">Shape {times(place.shape)}</p>
    </div>
  );
}

/** What was carried and what was added, as parts of a bar. */
function Share({ main, shortcut }: { main: number; shortcut: number }) {
  const part = Math.round((100 * main) / (main + shortcut || 1));
  return (
    <span class="look-share">
      <span style={{ flexBasis: `${100 - part}%` }}>carried {100 - part} %</span>
      <span style={{ flexBasis: `${part}%` }}>added {part} %</span>
    </span>
  );
}

/** The input pixels that a unit sees: of the last row of a place. */
function fieldOf(shown: Tree, path: string, index: number): Field | null {
  const place = shown.places.get(path);
  return place ? { first: place.start + index * place.stride, side: place.field } : null;
}

/** What is laid over the picture. */
function overWords(look: Look, overlay: Overlay): string {
  if (overlay.kind === "cam") {
    const label = look.top.find((one) => one.class === overlay.class)?.label;
    return `Over the picture: where "${label}" was seen, brighter where more (class activation map).`;
  }
  if (overlay.path === "") return "";
  const place = stageName(overlay.path);
  if (overlay.kind === "channel") return `Over the picture: channel ${overlay.index} of ${place}.`;
  const what = overlay.kind === "main" ? "what the block added" : "what the shortcut carried";
  return `Over the picture: ${what} in ${place}.`;
}

function Column({ look, shown, level }: { look: Look; shown: Tree; level: "stage" | "block" }) {
  const { state, go } = useView();
  const first = look.cams.find((cam) => cam.class === state.seen) ?? look.cams[0];
  const [laid, setLaid] = useState<Overlay | null>(null);
  const overlay: Overlay =
    laid ?? (first ? { kind: "cam", class: first.class } : { kind: "channel", path: "", index: -1 });
  const lay = (one: Overlay): void => {
    setLaid(one.kind === "cam" ? null : one);
    if (one.kind === "cam") go({ seen: one.class }, true);
  };
  const [pointed, point] = useState<Pointed | null>(null);
  const rows = pointed && fieldOf(shown, pointed.path, pointed.row);
  const columns = pointed && fieldOf(shown, pointed.path, pointed.column);
  const square = rows && columns ? seen(look, rows, columns) : null;
  const places = look.places.filter((place) => place.level === level);
  const through = (
    <section class="look" aria-label={called(look.name)} style={{ "--places": places.length + 1 }}>
      <div class="look-given">
        <Photo look={look} map={mapOf(look, overlay)} square={square} />
        <Classes look={look} overlay={overlay} lay={lay} />
        <p class="look-quiet">{overWords(look, overlay)}</p>
        <p class="look-quiet" aria-live="polite">
          {pointed && rows
            ? `Row ${pointed.row}, column ${pointed.column} of ${stageName(pointed.path)} sees ${rows.side}\u00d7${rows.side} input pixels: the square.`
            : "Point at a map: the square shows what that unit sees. Choose a map, or a class, to lay it over the picture."}
        </p>
      </div>
      <ol class="look-through">
        {places.map((place) => (
          <li key={place.path}>
            <h3>
              {stageName(place.path)} <span class="look-quiet">{times(place.shape)}</span>
            </h3>
            <Maps place={place} overlay={overlay} lay={lay} point={point} />
          </li>
        ))}
      </ol>
    </section>
  );
  if (!look.mistake) return through;
  return (
    <div>
      <Mistake look={look} photo={(map) => <Photo look={look} map={map} caption={false} />} />
      <h2>Through the network</h2>
      {through}
    </div>
  );
}

export function Pictures({ shown }: { shown: Tree }) {
  const { asked, data, state, go } = useView();
  const [looks, setLooks] = useState(data.looks);
  const [level, setLevel] = useState<"stage" | "block">("stage");
  const chosen = state.pictures;
  const choose = (pictures: number[]): void => go({ pictures, seen: null });
  if (asked !== null) {
    return (
      <p class="problem" role="note">
        The pictures went through the network as it was asked for; take back the choices to see
        them.
      </p>
    );
  }
  const toggle = (index: number): void => {
    const rest = chosen.filter((one) => one !== index);
    choose(rest.length < chosen.length ? (rest.length ? rest : chosen) : [...chosen, index].slice(-2));
  };
  const add = (look: Look): void => {
    data.looks = [...data.looks, look]; // stays when another tab is opened
    setLooks(data.looks);
    choose([data.looks.length - 1]);
  };
  return (
    <div class="pictures">
      {data.live && <Give add={add} />}
      <div class="look-bar">
        {looks.length > 1 && (
          <div role="group" aria-label="Pictures, up to two">
            {looks.map((look, index) => (
              <button
                type="button"
                class="look-small"
                aria-pressed={chosen.includes(index)}
                onClick={() => toggle(index)}
                key={index}
              >
                <img src={look.photo} alt={called(look.name)} />
                {look.mistake && (
                  <span>
                    {look.mistake.truth.label} &rarr; {look.mistake.guess.label}
                  </span>
                )}
              </button>
            ))}
          </div>
        )}
        {looks.length > 0 && (
          <div class="segments" role="group" aria-label="Level">
            {(["stage", "block"] as const).map((one) => (
              <button type="button" aria-pressed={level === one} onClick={() => setLevel(one)} key={one}>
                {one === "stage" ? "Stages" : "Blocks, with their shortcuts"}
              </button>
            ))}
          </div>
        )}
        <p class="look-quiet">
          {looks.length
            ? "The strongest channels of each place, with their numbers; dark is weak, bright is strong."
            : "A picture goes through the network: its classes and where they were seen, the maps of " +
              "each stage, and what each shortcut carried."}
        </p>
      </div>
      <div class={chosen.length > 1 ? "look-columns two" : "look-columns"}>
        {chosen
          .filter((index) => index < looks.length)
          .map((index) => (
            <Column key={index} look={looks[index]!} shown={shown} level={level} />
          ))}
      </div>
    </div>
  );
}
