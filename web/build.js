// Bundles src/ into the package; with --check, fails where the committed bundle is another one.
import { build } from "esbuild";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const inPackage = (folder) => fileURLToPath(new URL(`../src/resnetkit/${folder}/`, import.meta.url));
const check = process.argv.includes("--check");
const notice = await readFile(`${here}notice.txt`, "utf8");

const bundles = [
  [inPackage("inspect/page/static"), { view: "src/main.tsx" }, notice],
  [
    inPackage("exporters/static"),
    { classifier: "src/classifier/main.tsx", classifier_style: "src/classifier/style.css" },
    notice,
  ],
  [inPackage("exporters/static"), { classifier_worker: "src/classifier/worker.ts" }, ""],
  [
    inPackage("report/pages/static"),
    { curves: "src/curves/main.ts", runs: "src/curves/runs.ts" },
    "",
  ],
];

for (const [outdir, entryPoints, banner] of bundles) {
  const made = await build({
    absWorkingDir: here,
    entryPoints,
    outdir,
    bundle: true,
    minify: true,
    format: "iife",
    target: ["es2022"],
    charset: "utf8",
    legalComments: "inline",
    jsx: "automatic",
    jsxImportSource: "preact",
    banner: { js: banner },
    write: !check,
  });
  for (const file of check ? made.outputFiles : []) {
    const committed = await readFile(file.path, "utf8").catch(() => "");
    if (committed !== file.text) {
      console.error(`${file.path} is not what web/ builds; run: make bundle`);
      process.exitCode = 1;
    }
  }
}
