// Makes the curves of a page zoom. All of them show the same epochs, and point at the same one.

import { across, axisOf, drawn, epochAt, isWhole, up, valueText, type Chart, type Line, type Range } from "./chart.ts";
import { between, kept, moved, showing, zoomed } from "./range.ts";

const SVG = "http://www.w3.org/2000/svg";

interface Shown {
  readonly chart: Chart;
  readonly svg: SVGSVGElement;
  /** What Python drew. */
  readonly first: string;
  readonly over: SVGGElement;
  readonly told: HTMLElement;
}

/** Storage may be forbidden. */
function storage(): Storage | null {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  given: Record<string, string>,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name: string, given: Record<string, number | string>): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(given)) made.setAttribute(key, `${value}`);
  return made;
}

export class Zoom {
  private readonly charts: Shown[] = [];
  private readonly epochs: number;
  private readonly last: number;
  private readonly status: HTMLElement;
  private readonly hidden = new Set<number>();
  private readonly place = `resnetkit curves ${location.pathname}`;
  private range: Range;
  private at: number;

  constructor(holders: readonly HTMLElement[]) {
    const found = holders.map((holder) => JSON.parse(holder.dataset.curves!) as Chart);
    this.epochs = Math.max(...found.map((chart) => chart.epochs));
    const lengths = found.flatMap((chart) => chart.lines.map((line) => line.values.length));
    this.last = Math.max(1, ...lengths);
    found[0]!.lines.forEach((line, index) => line.shown || this.hidden.add(index));
    this.range = kept(storage()?.getItem(this.place) ?? null, this.epochs);
    this.at = this.last;
    this.status = element("p", { role: "status", class: "quiet" });
    holders.forEach((holder, index) => this.prepare(holder, found[index]!));
    const parent = holders[0]!.parentElement!;
    parent.before(this.tools());
    this.draw();
    const focused = this.charts[Number(storage()?.getItem(`${this.place} focus`) ?? -1)];
    focused?.svg.focus({ preventScroll: true });
  }

  private prepare(holder: HTMLElement, chart: Chart): void {
    const svg = holder.querySelector("svg")!;
    const told = element("p", { class: "told" });
    const name = holder.querySelector("h3")?.textContent ?? "";
    svg.after(told);
    const over = shape("g", { class: "over" }) as SVGGElement;
    const one = { chart, svg, first: svg.innerHTML, over, told };
    const given = { role: "slider", tabindex: "0", "aria-label": `${name}: epoch`, "aria-valuemin": "1" };
    for (const [key, value] of Object.entries(given)) svg.setAttribute(key, value);
    this.charts.push(one);
    this.listen(one);
  }

  private listen({ chart, svg, over }: Shown): void {
    let from: number | null = null;
    const epoch = (event: PointerEvent | MouseEvent): number => {
      const box = svg.getBoundingClientRect();
      return epochAt(chart, this.range, ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width);
    };
    const end = (): void => {
      from = null;
      over.querySelector("rect")?.remove();
    };
    svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      from = epoch(event);
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      const to = epoch(event);
      this.point(to);
      if (from === null) return;
      const [a, b] = [Math.min(from, to), Math.max(from, to)].map((one) => across(chart, this.range, one));
      const [, top, , bottom] = chart.area;
      over.append(shape("rect", { x: a!, y: top, width: b! - a!, height: bottom - top }));
    });
    svg.addEventListener("pointerup", (event) => {
      const to = epoch(event);
      if (from !== null && from !== to) this.show(between(from, to, this.epochs));
      end();
      this.point(to);
    });
    svg.addEventListener("pointercancel", end);
    svg.addEventListener("pointerleave", (event) => {
      if (from === null && event.pointerType === "mouse") this.point(this.last);
    });
    svg.addEventListener("dblclick", () => this.show([1, this.epochs]));
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const far = Math.max(2, Math.round((this.range[1] - this.range[0]) / 5));
      const steps: Record<string, number> = {
        ArrowLeft: -1,
        ArrowDown: -1,
        ArrowRight: 1,
        ArrowUp: 1,
        PageDown: -far,
        PageUp: far,
        Home: -Infinity,
        End: Infinity,
      };
      const step = steps[event.key];
      if (step !== undefined) {
        const at = Math.max(1, Math.min(this.last, this.at + step));
        this.show(showing(this.range, at, this.epochs));
        this.point(at);
      } else if (event.key === "+" || event.key === "=") this.scale(0.5);
      else if (event.key === "-") this.scale(2);
      else if (event.key === "0" || event.key === "Escape") this.show([1, this.epochs]);
      else return;
      event.preventDefault();
    });
    const focus = `${this.place} focus`;
    svg.addEventListener("focus", () => {
      storage()?.setItem(focus, `${this.charts.findIndex((one) => one.svg === svg)}`);
    });
    svg.addEventListener("blur", () => storage()?.removeItem(focus));
  }

  private tools(): HTMLElement {
    const step = () => Math.max(1, Math.round((this.range[1] - this.range[0]) / 2));
    const buttons: [string, string, () => void][] = [
      ["zoom in", "+", () => this.scale(0.5)],
      ["zoom out", "\u2212", () => this.scale(2)],
      ["earlier epochs", "\u2190", () => this.show(moved(this.range, -step(), this.epochs))],
      ["later epochs", "\u2192", () => this.show(moved(this.range, step(), this.epochs))],
      ["", "all epochs", () => this.show([1, this.epochs])],
    ];
    const made = buttons.map(([label, face, does]) => {
      const button = element("button", { type: "button", ...(label && { "aria-label": label, title: label }) }, face);
      button.addEventListener("click", does);
      return button;
    });
    const hint = "Drag over epochs to zoom. By keyboard, in a chart: arrow keys point, + and \u2212 zoom, 0 shows all.";
    return element(
      "div",
      { class: "tools", role: "group", "aria-label": "Zoom of the curves" },
      ...made,
      this.status,
      element("p", { class: "quiet hint" }, hint),
    );
  }

  /** Zooms around the pointed epoch, if it is in view. */
  private scale(factor: number): void {
    const [from, to] = this.range;
    const at = from <= this.at && this.at <= to ? this.at : (from + to) / 2;
    this.show(zoomed(this.range, factor, at, this.epochs));
  }

  private show(range: Range): void {
    if (range[0] === this.range[0] && range[1] === this.range[1]) return;
    this.range = range;
    if (isWhole({ epochs: this.epochs } as Chart, range)) storage()?.removeItem(this.place);
    else storage()?.setItem(this.place, range.join("-"));
    this.draw();
  }

  /** Shows or hides a line in all charts. */
  toggle(index: number, on: boolean): void {
    if (on) this.hidden.delete(index);
    else this.hidden.add(index);
    this.draw();
  }

  private lines(chart: Chart): Line[] {
    return chart.lines.filter((_, index) => !this.hidden.has(index));
  }

  private draw(): void {
    const [from, to] = this.range;
    for (const { chart, svg, first, over } of this.charts) {
      const asFirst = chart.lines.every((line, index) => line.shown !== this.hidden.has(index));
      const whole = asFirst && isWhole(chart, this.range);
      svg.innerHTML = whole ? first : drawn(chart, this.lines(chart), this.range);
      svg.append(over);
      svg.setAttribute("aria-valuemax", `${this.last}`);
    }
    this.status.textContent = `epochs ${from} to ${to} of ${this.epochs}`;
    this.point(this.at);
  }

  /** Reads out an epoch. */
  private point(at: number): void {
    this.at = Math.min(at, this.last);
    const inView = this.range[0] <= this.at && this.at <= this.range[1];
    for (const { chart, svg, over, told } of this.charts) {
      const lines = this.lines(chart);
      const axis = axisOf(chart, lines, this.range);
      const x = across(chart, this.range, this.at);
      const [, top, , bottom] = chart.area;
      const marks = [];
      const words: (Node | string)[] = [`epoch ${this.at}: `];
      if (inView) marks.push(shape("line", { x1: x, y1: top, x2: x, y2: bottom }));
      for (const line of lines) {
        const value = line.values[this.at - 1] ?? null;
        if (value === null) continue;
        const name = element("b", { class: line.name }, line.label);
        words.push(words.length > 1 ? ", " : "", name, ` ${valueText(chart, value)}`);
        if (inView) marks.push(shape("circle", { class: line.name, cx: x, cy: up(chart, axis, value), r: 3 }));
      }
      const selection = over.querySelector("rect");
      over.replaceChildren(...(selection ? [selection] : []), ...marks);
      told.replaceChildren(...words);
      svg.setAttribute("aria-valuenow", `${this.at}`);
      svg.setAttribute("aria-valuetext", told.textContent ?? "");
    }
  }
}

/** Makes the curves of the page zoom, if it has any that can. */
export function start(): Zoom | null {
  const holders = [...document.querySelectorAll<HTMLElement>("[data-curves]")];
  const [one] = holders;
  return one && (JSON.parse(one.dataset.curves!) as Chart).epochs > 1 ? new Zoom(holders) : null;
}
