// Starts the page. Outside a browser only the arithmetic is offered, to the tests.

import { render } from "preact";
import { App } from "./app";
import { decode } from "./data";
import "./pictures/pictures.css";
import "./view.css";
import { walk, WalkError } from "./walk";

async function start(): Promise<void> {
  const root = document.getElementById("view")!;
  if (typeof DecompressionStream === "undefined") {
    root.textContent =
      "This browser cannot unpack the page (it has no DecompressionStream). Open it in Chrome " +
      "or Edge 103, Firefox 113, Safari 16.4, or a later one.";
    return;
  }
  const data = await decode(document.getElementById("data")!.textContent ?? "");
  root.textContent = "";
  render(<App data={data} />, root);
}

if (typeof document === "undefined") {
  Object.assign(globalThis, { resnetkitView: { decode, walk, WalkError } });
} else {
  void start();
}
