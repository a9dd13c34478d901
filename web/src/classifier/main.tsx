// The page: pictures in, classes out, and where in the picture the class was seen.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { DropZone } from "../drop_zone.tsx";
import { image, place } from "./activation.ts";
import { facts, type Facts } from "./facts.ts";
import type { Answer } from "./messages.ts";
import { Network } from "./network.ts";
import { type Picture, pixelsOf, read } from "./picture.ts";
import { cropOf, square } from "./preprocess.ts";
import type { Pixels } from "./resize.ts";
import { percent, top } from "./scores.ts";

const SHOWN = 5;

type Result = { answer: Answer } | { problem: string } | null;

interface Entry {
  readonly id: number;
  readonly name: string;
  readonly url: string | null;
  readonly rgba: Pixels | null;
  readonly reduced: boolean;
  readonly result: Result;
}

/** Draws the map of a class over the part of the picture that the network saw. */
function Activation({ rgba, answer, index }: { rgba: Pixels; answer: Answer; index: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const about = facts().preprocess;
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !answer.maps) return;
    const small = new OffscreenCanvas(answer.maps.width, answer.maps.height);
    small.getContext("2d")!.putImageData(image(answer.maps, index), 0, 0);
    const [left, top_, width, height] = cropOf(rgba.width, rgba.height, about);
    const { width: across, height: down } = context.canvas;
    const [x, y] = [across / rgba.width, down / rgba.height];
    context.clearRect(0, 0, across, down);
    context.drawImage(small, left * x, top_ * y, width * x, height * y);
  }, [rgba, answer, index]);
  const scale = Math.min(1, 640 / Math.max(rgba.width, rgba.height));
  return (
    <canvas
      ref={canvas}
      aria-hidden="true"
      width={Math.max(1, Math.round(rgba.width * scale))}
      height={Math.max(1, Math.round(rgba.height * scale))}
    />
  );
}

function Scores({ answer, about, chosen, choose }: {
  answer: Answer;
  about: Facts;
  chosen: number | null;
  choose: (index: number | null) => void;
}) {
  const found = top(answer.logits, Math.min(SHOWN, about.classes.length));
  return (
    <ol class="scores">
      {found.map(({ index, probability }) => {
        const inside = (
          <>
            <i style={{ width: `${100 * probability}%` }} />
            <span class="label">{about.classes[index]}</span>
            <span class="number">{percent(probability)}</span>
          </>
        );
        const pressed = chosen === index;
        return (
          <li key={index}>
            {answer.maps ? (
              <button type="button" aria-pressed={pressed} onClick={() => choose(pressed ? null : index)}>
                {inside}
              </button>
            ) : (
              <div>{inside}</div>
            )}
          </li>
        );
      })}
    </ol>
  );
}

function Card({ entry, about, remove }: { entry: Entry; about: Facts; remove?: () => void }) {
  const answer = entry.result && "answer" in entry.result ? entry.result.answer : null;
  const [chosen, choose] = useState<number | null | undefined>(undefined);
  const first = answer ? top(answer.logits, 1)[0]!.index : null;
  const index = chosen === undefined ? first : chosen;
  const crop = entry.rgba && cropOf(entry.rgba.width, entry.rgba.height, about.preprocess);
  const share = (part: number, whole: number) => `${(100 * part) / whole}%`;
  return (
    <article aria-label={entry.name}>
      {entry.url && entry.rgba && (
        <figure>
          <div class="picture">
            <img src={entry.url} alt={entry.name} />
            {answer && index !== null && answer.maps && <Activation rgba={entry.rgba} answer={answer} index={index} />}
            {crop && (
              <span
                class="crop"
                style={{
                  left: share(crop[0], entry.rgba.width),
                  top: share(crop[1], entry.rgba.height),
                  width: share(crop[2], entry.rgba.width),
                  height: share(crop[3], entry.rgba.height),
                }}
              />
            )}
          </div>
          <figcaption>
            {entry.name}
            {entry.reduced && " (reduced by the browser first)"}
          </figcaption>
        </figure>
      )}
      <div class="result">
        {entry.result === null && <p class="wait">Computing…</p>}
        {entry.result && "problem" in entry.result && (
          <p class="problem">
            {entry.name}: {entry.result.problem}
          </p>
        )}
        {answer && (
          <>
            <Scores answer={answer} about={about} chosen={index} choose={choose} />
            <p class="note">
              {answer.maps && index !== null &&
                `“${about.classes[index]}” is seen ${place(answer.maps, index)} the frame. `}
              {answer.milliseconds.toFixed(0)} ms
            </p>
          </>
        )}
        {remove && (
          <button type="button" class="plain" onClick={remove}>
            Remove
          </button>
        )}
      </div>
    </article>
  );
}

function Camera({ network, about, keep, stop }: {
  network: Network;
  about: Facts;
  keep: (rgba: Pixels, url: string, answer: Answer) => void;
  stop: (problem?: string) => void;
}) {
  const video = useRef<HTMLVideoElement>(null);
  const [live, setLive] = useState<{ answer: Answer; rgba: Pixels } | null>(null);
  useEffect(() => {
    let stream: MediaStream | null = null;
    let on = true;
    const run = async (): Promise<void> => {
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      } catch {
        stop("The camera cannot be used: allow it in the browser, or connect one.");
        return;
      }
      const element = video.current;
      if (!on || !element) return stream.getTracks().forEach((track) => track.stop());
      element.srcObject = stream;
      await element.play();
      while (on) {
        const rgba = pixelsOf(element, element.videoWidth, element.videoHeight);
        const answer = await network.classify(square(rgba, about.preprocess));
        if (on) setLive({ answer, rgba });
      }
    };
    run().catch((error: Error) => on && stop(error.message));
    return () => {
      on = false;
      stream?.getTracks().forEach((track) => track.stop());
    };
  }, []);
  const hold = (): void => {
    if (!live) return;
    const canvas = document.createElement("canvas");
    canvas.width = live.rgba.width;
    canvas.height = live.rgba.height;
    const data = new ImageData(new Uint8ClampedArray(live.rgba.data), live.rgba.width, live.rgba.height);
    canvas.getContext("2d")!.putImageData(data, 0, 0);
    canvas.toBlob((blob) => blob && keep(live.rgba, URL.createObjectURL(blob), live.answer));
  };
  return (
    <article aria-label="camera">
      <figure>
        <div class="picture">
          <video ref={video} muted playsInline />
          {live && live.answer.maps && (
            <Activation rgba={live.rgba} answer={live.answer} index={top(live.answer.logits, 1)[0]!.index} />
          )}
        </div>
      </figure>
      <div class="result">
        {live ? (
          <>
            <Scores answer={{ ...live.answer, maps: null }} about={about} chosen={null} choose={() => {}} />
            <p class="note">{live.answer.milliseconds.toFixed(0)} ms per picture</p>
          </>
        ) : (
          <p class="wait">Waiting for the camera…</p>
        )}
        <button type="button" onClick={hold} disabled={!live}>
          Keep this picture
        </button>{" "}
        <button type="button" class="plain" onClick={() => stop()}>
          Stop the camera
        </button>
      </div>
    </article>
  );
}

let next = 0;

function Page() {
  const about = facts();
  const [network, setNetwork] = useState<Network | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [entries, setEntries] = useState<readonly Entry[]>([]);
  const [camera, setCamera] = useState(false);

  useEffect(() => {
    Network.open().then(setNetwork, (error: Error) => setProblem(`The network cannot be opened: ${error.message}`));
  }, []);

  useEffect(() => {
    const entry = network && [...entries].reverse().find(({ result }) => result === null);
    if (!entry) return;
    const finish = (result: Result) =>
      setEntries((all) => all.map((each) => (each.id === entry.id ? { ...each, result } : each)));
    network.classify(square(entry.rgba!, about.preprocess)).then(
      (answer) => finish({ answer }),
      (error: Error) => finish({ problem: error.message }),
    );
  }, [network, entries]);

  const add = async (files: Iterable<File>): Promise<void> => {
    for (const file of files) {
      const id = next++;
      const made: Entry = await read(file).then(
        ({ name, url, rgba, reduced }: Picture) => ({ id, name, url, rgba, reduced, result: null }),
        (error: Error) => ({ id, name: file.name, url: null, rgba: null, reduced: false, result: { problem: error.message } }),
      );
      setEntries((all) => [made, ...all]);
    }
  };

  const keep = (rgba: Pixels, url: string, answer: Answer): void => {
    const id = next++;
    setEntries((all) => [{ id, name: `camera ${id + 1}`, url, rgba, reduced: false, result: { answer } }, ...all]);
  };

  const remove = (entry: Entry): void => {
    if (entry.url) URL.revokeObjectURL(entry.url);
    setEntries((all) => all.filter(({ id }) => id !== entry.id));
  };

  return (
    <>
      <header>
        <h1>{about.name}</h1>
        <p>
          {about.classes.length.toLocaleString("en")} classes, {about.network}, {about.precision}
          {about.accuracy !== null && `, test accuracy ${percent(about.accuracy)}`}. Everything is computed on this
          device; no picture leaves it.
        </p>
      </header>
      <section class="give">
        <DropZone take={(files) => void add(files)} />
        <button type="button" disabled={!network || camera} onClick={() => setCamera(true)}>
          Use the camera
        </button>
      </section>
      <p role="status">{problem ?? (network ? "" : "Opening the network…")}</p>
      <main aria-live="polite">
        {camera && network && (
          <Camera
            network={network}
            about={about}
            keep={keep}
            stop={(reason) => {
              setCamera(false);
              setProblem(reason ?? null);
            }}
          />
        )}
        {entries.map((entry) => (
          <Card key={entry.id} entry={entry} about={about} remove={() => remove(entry)} />
        ))}
      </main>
      <footer>
        <p>
          The frame is what the network saw of the picture; choose a class to see where it was seen (class activation
          map). The same class as the original model for {percent(about.agreement)} of {about.images.toLocaleString("en")}{" "}
          images. {about.runtime}.
        </p>
      </footer>
    </>
  );
}

render(<Page />, document.getElementById("page")!);
