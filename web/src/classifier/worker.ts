// Runs the network in a worker, so that the page stays responsive. The script of onnxruntime-web
// stands before this one.

import type { InferenceSession, Tensor } from "onnxruntime-web/wasm";
import type { Ask, Said } from "./messages.ts";

declare const ort: typeof import("onnxruntime-web/wasm");

const say = (said: Said, transfer: Transferable[] = []): void => self.postMessage(said, { transfer });

let session: InferenceSession | null = null;

async function open(glue: ArrayBuffer, runtime: ArrayBuffer, model: ArrayBuffer): Promise<void> {
  const { wasm } = ort.env;
  // More threads would need an isolated page, which a file cannot be.
  wasm.numThreads = 1;
  wasm.wasmBinary = runtime;
  wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
  session = await ort.InferenceSession.create(model);
  say({ kind: "ready" });
}

async function classify(id: number, pixels: Uint8Array, size: number, channels: number): Promise<void> {
  if (session === null) throw new Error("the network is not open");
  const began = performance.now();
  const given = new ort.Tensor("uint8", pixels, [1, size, size, channels]);
  const found = await session.run({ [session.inputNames[0]!]: given });
  const logits = (found["logits"] as Tensor).data as Float32Array;
  const cams = found["cams"] as Tensor | undefined;
  const [height, width] = cams ? (cams.dims.slice(2) as [number, number]) : [0, 0];
  const maps = cams ? { height, width, values: cams.data as Float32Array } : null;
  const milliseconds = performance.now() - began;
  say({ kind: "answer", id, logits, maps, milliseconds });
}

self.onmessage = async ({ data }: MessageEvent<Ask>) => {
  try {
    if (data.kind === "open") await open(data.glue, data.runtime, data.model);
    else await classify(data.id, data.pixels, data.size, data.channels);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    say({ kind: "failed", id: data.kind === "open" ? null : data.id, reason });
  }
};
