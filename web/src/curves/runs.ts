// The script of the page that compares runs: its curves, their legend, and its table.

import { sortable } from "./sort.ts";
import { start, type Zoom } from "./zoom.ts";

/** The items of the legend become switches. */
function legend(zoom: Zoom): void {
  document.querySelectorAll<HTMLElement>("[data-line]").forEach((item) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...item.childNodes);
    item.append(button);
    const show = (on: boolean): void => button.setAttribute("aria-pressed", `${on}`);
    show(!item.classList.contains("off"));
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      show(on);
      item.classList.toggle("off", !on);
      zoom.toggle(Number(item.dataset.line), on);
    });
  });
}

const zoom = start();
if (zoom) legend(zoom);
document.querySelectorAll<HTMLTableElement>("table[data-sortable]").forEach(sortable);
