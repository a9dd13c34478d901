// Walks networks of a page, by the page's own script and data, and prints the rows.
// node view_walk.mjs PAGE INPUTS: the index of each network, and its inputs, as JSON.

import { readFileSync } from "node:fs";
import { runInThisContext } from "node:vm";

const [page, given] = process.argv.slice(2);
const inputs = JSON.parse(given);
const html = readFileSync(page, "utf8");
const data = /<script type="text\/plain" id="data">([^<]*)</.exec(html)[1];
runInThisContext(html.slice(html.lastIndexOf("<script>") + 8, html.lastIndexOf("</script>")));
const { decode, walk, WalkError } = globalThis.resnetkitView;

const decoded = await decode(data);
const walks = inputs.map(([index, all]) =>
  all.map((sides) => {
    try {
      const found = walk(decoded, index, [decoded.networks[index].channels, ...sides]);
      const rows = found.rows.map((row) => [
        row.stage,
        row.path,
        row.branch,
        row.layer.text,
        row.output,
        row.layer.parameters ?? 0,
        row.layer.buffers ?? 0,
        row.macs,
        row.activations,
        row.field,
        row.stride,
        row.formula,
        row.layer.parametersFormula ?? "",
        row.macsFormula,
        row.paper,
        row.notes,
        row.start,
      ]);
      return { output: found.output, problem: found.problem, rows };
    } catch (error) {
      if (!(error instanceof WalkError)) throw error;
      return { error: error.message };
    }
  }),
);
process.stdout.write(JSON.stringify(walks));
