// Bundles src/ into the package; with --check, fails where the committed bundle is another one.
import { build } from "esbuild";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const target = fileURLToPath(
  new URL("../src/resnetkit/report/pages/static/", import.meta.url),
);
const check = process.argv.includes("--check");
const made = await build({
  absWorkingDir: here,
  entryPoints: { view: "src/main.tsx" },
  outdir: target,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  charset: "utf8",
  legalComments: "inline",
  jsx: "automatic",
  jsxImportSource: "preact",
  banner: { js: await readFile(`${here}notice.txt`, "utf8") },
  write: !check,
});
if (check) {
  for (const file of made.outputFiles) {
    const committed = await readFile(file.path, "utf8").catch(() => "");
    if (committed !== file.text) {
      console.error(`${file.path} is not what web/ builds; run: make bundle`);
      process.exitCode = 1;
    }
  }
}
