// Starts the page. Outside a browser only the arithmetic is offered, to the tests.

import { render } from "preact";
import { App } from "./app";
import { decode } from "./data";
import "./pictures/mistake.css";
import "./pictures/pictures.css";
import "./view.css";
import { walk, WalkError } from "./walk";

async function start(): Promise<void> {
  const root = document.getElementById("view")!;
  const colors = CSS.supports("color", "color-mix(in srgb, red, blue)");
  if (typeof DecompressionStream === "undefined" || !colors) {
    root.textContent =
      "This browser is too old for this page: it needs Chrome or Edge 111, Firefox 113, " +
      "Safari 16.4, or a later one.";
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
