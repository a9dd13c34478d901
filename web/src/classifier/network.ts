// The network in its worker, made from what is stored in the page.

import type { Answer, Ask, Said } from "./messages.ts";
import type { Pixels } from "./resize.ts";

/** The bytes of an element with text in base64, compressed by gzip; the element is emptied. */
export async function stored(id: string): Promise<ArrayBuffer> {
  const element = document.getElementById(id)!;
  const text = element.textContent!;
  element.textContent = "";
  const packed = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export class Network {
  #waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  #next = 0;
  readonly #worker: Worker;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<Said>) => this.#hear(data);
  }

  #hear(said: Said): void {
    if (said.kind === "ready" || said.id === null) return;
    const waiting = this.#waiting.get(said.id);
    this.#waiting.delete(said.id);
    if (said.kind === "answer") waiting?.resolve(said);
    else waiting?.reject(new Error(said.reason));
  }

  /** Unpack the runtime and the network, and open it. */
  static async open(): Promise<Network> {
    const [script, worker, glue, runtime, model] = await Promise.all(
      ["ort-script", "worker-script", "ort-glue", "ort-wasm", "model"].map(stored),
    );
    const url = URL.createObjectURL(new Blob([script!, "\n", worker!], { type: "text/javascript" }));
    const made = new Worker(url);
    await new Promise<void>((resolve, reject) => {
      made.onerror = (event) => reject(new Error(event.message || "the worker did not start"));
      made.onmessage = ({ data }: MessageEvent<Said>) =>
        data.kind === "failed" ? reject(new Error(data.reason)) : resolve();
      const ask: Ask = { kind: "open", glue: glue!, runtime: runtime!, model: model! };
      made.postMessage(ask, [glue!, runtime!, model!]);
    });
    return new Network(made);
  }

  /** Logits and maps of the pixels that `square` made. */
  classify(pixels: Pixels): Promise<Answer> {
    const id = this.#next++;
    const data = new Uint8Array(pixels.data);
    const ask: Ask = { kind: "classify", id, size: pixels.width, channels: pixels.channels, pixels: data };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage(ask, [data.buffer]);
    });
  }
}
