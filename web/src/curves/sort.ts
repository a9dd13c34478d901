// Tables that are sorted by a column's head.

/** Numbers by size, then words; what is missing is last in both directions. */
export function compared(one: string, two: string, direction: 1 | -1): number {
  if (!one || !two) return Number(!one) - Number(!two);
  const [a, b] = [Number(one), Number(two)];
  if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1;
  return direction * (Number.isNaN(a) ? one.localeCompare(two, "en", { numeric: true }) : a - b);
}

/** Makes buttons of the heads. A cell is sorted by its `data-value`, else by its words. */
export function sortable(table: HTMLTableElement): void {
  const heads = [...table.tHead!.rows[0]!.cells];
  const body = table.tBodies[0]!;
  const valueOf = (row: HTMLTableRowElement, column: number): string => {
    const cell = row.cells[column]!;
    return cell.dataset.value ?? cell.textContent?.trim() ?? "";
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...body.rows];
      rows.sort((a, b) => compared(valueOf(a, column), valueOf(b, column), descending ? -1 : 1));
      body.append(...rows);
    });
  });
}
