// Draws src/api/schema.ts from the description of the API. Its first line has the digest of what it was drawn from:
// tests/monitor/test_static_build.py holds it to the description, and `npm run build` draws it anew.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = dirname(fileURLToPath(import.meta.url));
const text = readFileSync(join(web, "../src/treadle/monitor/openapi.json"));
const { schemas } = JSON.parse(text).components;
const WIDE = 110;

const isName = (text) => /^[A-Za-z_$][\w$]*$/.test(text);
const unique = (texts) => [...new Set(texts)];

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const some = schema.anyOf ?? schema.oneOf;
  if (some) return unique(some.map(typeOf)).join(" | ");
  if (schema.type === "array") {
    if (schema.prefixItems) return `[${schema.prefixItems.map(typeOf).join(", ")}]`;
    const item = typeOf(schema.items ?? {});
    return item.includes(" | ") ? `(${item})[]` : `${item}[]`;
  }
  if (schema.type === "object") {
    const rest = schema.additionalProperties;
    return `Record<string, ${rest && typeof rest === "object" ? typeOf(rest) : "Json"}>`;
  }
  return { string: "string", integer: "number", number: "number", boolean: "boolean", null: "null" }[schema.type] ?? "Json";
}

function comment(text, indent = "") {
  if (!text) return "";
  const lines = [""];
  for (const word of text.replaceAll("*/", "* /").split(/\s+/)) {
    if (lines.at(-1).length + word.length > WIDE) lines.push("");
    lines.push(`${lines.pop()} ${word}`);
  }
  return lines.length === 1 ? `${indent}/**${lines[0]} */\n` : `${indent}/**\n${lines.map((line) => `${indent} *${line}\n`).join("")}${indent} */\n`;
}

function declared([name, schema]) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([key, one]) => {
    const field = isName(key) ? key : JSON.stringify(key);
    return `${comment(one.description, "  ")}  ${field}${required.has(key) ? "" : "?"}: ${typeOf(one)};\n`;
  });
  const body = schema.properties ? `export interface ${name} {\n${fields.join("")}}` : `export type ${name} = ${typeOf(schema)};`;
  return `\n${comment(schema.description)}${body}\n`;
}

const head = `// openapi.json sha256 ${createHash("sha256").update(text).digest("hex")}
// Drawn by web/types.mjs: not for hands.

// biome-ignore lint/suspicious/noExplicitAny: JSON
export type Json = any;
`;
writeFileSync(join(web, "src/api/schema.ts"), head + Object.entries(schemas).map(declared).join(""));
