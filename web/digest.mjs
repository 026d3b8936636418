// Writes the digest of the sources into the build: tests/monitor/test_static_build.py computes it again.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const web = dirname(fileURLToPath(import.meta.url));
const single = ["biome.json", "digest.mjs", "index.html", "package.json", "tsconfig.json", "types.mjs", "vite.config.ts"];

function below(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? below(path) : [path];
  });
}

const files = [...single.map((name) => join(web, name)), ...below(join(web, "src")), ...below(join(web, "public"))]
  .filter((path) => !path.includes(".test."))
  .map((path) => [relative(web, path).split(sep).join("/"), path])
  .sort(([a], [b]) => (a < b ? -1 : 1));
const whole = createHash("sha256");
for (const [name, path] of files) {
  whole.update(`${name}\n${createHash("sha256").update(readFileSync(path)).digest("hex")}\n`);
}
writeFileSync(join(web, "../src/treadle/monitor/static/sources.sha256"), `${whole.digest("hex")}\n`);
