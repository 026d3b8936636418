// A form from a JSON Schema. What a person types is a draft; `readDraft` makes the value of it, or says by path what is
// wrong. The server checks the whole schema; here are only the mistakes one makes while typing.

import { digitsOf, integer, parse } from "../api/exact";
import type { Json, Schema } from "../api/types";

export type Kind = "enum" | "boolean" | "number" | "text" | "object" | "array" | "json";
export type Draft = string | boolean | Draft[] | { [key: string]: Draft };
export type Wrong = Record<string, string>;
export const LEFT_OUT = Symbol("left out");

export function typeOf(schema: Schema): string | null {
  const type = schema.type;
  if (Array.isArray(type)) return type.find((each) => each !== "null") ?? null;
  return typeof type === "string" ? type : null;
}

export function kindOf(schema: Schema): Kind {
  if (Array.isArray(schema.enum) && schema.enum.length > 0) return "enum";
  if ("const" in schema) return "enum";
  switch (typeOf(schema)) {
    case "boolean":
      return "boolean";
    case "integer":
    case "number":
      return "number";
    case "string":
      return "text";
    case "object":
      return Object.keys(schema.properties ?? {}).length > 0 ? "object" : "json";
    case "array":
      return isPlain(schema.items) ? "array" : "json";
  }
  return "json";
}

function isPlain(items: unknown): items is Schema {
  return typeof items === "object" && items !== null && !Array.isArray(items) && kindOf(items as Schema) !== "json";
}

export function choices(schema: Schema): Json[] {
  return "const" in schema ? [schema.const] : schema.enum;
}

/** What the form begins with; `value` undefined: the schema's default. */
export function draftOf(schema: Schema, value: Json = schema.default): Draft {
  switch (kindOf(schema)) {
    case "enum": {
      const all = choices(schema);
      const at = all.findIndex((each) => JSON.stringify(each) === JSON.stringify(value));
      return at >= 0 ? String(at) : all.length === 1 ? "0" : "";
    }
    case "boolean":
      return value === true;
    case "number":
      return typeof value === "number" ? String(value) : digitsOf(value) ?? "";
    case "text":
      return typeof value === "string" ? value : "";
    case "object":
      return Object.fromEntries(Object.entries<Schema>(schema.properties).map(
        ([key, each]) => [key, draftOf(each, isObject(value) && key in value ? value[key] : each.default)]));
    case "array":
      return Array.isArray(value) ? value.map((each) => draftOf(schema.items, each)) : [];
    case "json":
      return value === undefined ? "" : shortJson(value);
  }
}

const LINE = 60;

function shortJson(value: Json): string {
  const line = JSON.stringify(value);
  return line.length <= LINE ? line : JSON.stringify(value, null, 2);
}

function isObject(value: Json): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value of a draft; `LEFT_OUT` for what was left empty and need not be there. */
export function readDraft(schema: Schema, draft: Draft, required: boolean, wrong: Wrong, path = ""): Json | typeof LEFT_OUT {
  const missing = (): typeof LEFT_OUT => {
    if (required) wrong[path] = "This is needed.";
    return LEFT_OUT;
  };
  switch (kindOf(schema)) {
    case "enum":
      return draft === "" ? missing() : choices(schema)[Number(draft)];
    case "boolean":
      return draft === true;
    case "number":
      return readNumber(schema, String(draft), missing, wrong, path);
    case "text":
      return readText(schema, String(draft), required, missing, wrong, path);
    case "object": {
      const found: Wrong = {};
      const value = readObject(schema, draft as Record<string, Draft>, found, path);
      // what need not be there and was left as it was is not there, whatever it would have to hold
      const left = !required && JSON.stringify(draft) === JSON.stringify(draftOf(schema));
      if (left && (isBlank(draft) || Object.keys(found).length > 0)) return LEFT_OUT;
      Object.assign(wrong, found);
      return value;
    }
    case "array":
      if (!required && schema.default === undefined && isBlank(draft)) return LEFT_OUT;
      return readArray(schema, draft as Draft[], wrong, path);
    case "json":
      if (String(draft).trim() === "") return missing();
      try {
        return parse(String(draft));
      } catch (error) {
        wrong[path] = `This is not JSON: ${error instanceof Error ? error.message : error}. Text stands in "quotes".`;
        return LEFT_OUT;
      }
  }
}

function readObject(schema: Schema, draft: Record<string, Draft>, wrong: Wrong, path: string): Record<string, Json> {
  const out: Record<string, Json> = {};
  const needed: string[] = Array.isArray(schema.required) ? schema.required : [];
  for (const [key, each] of Object.entries<Schema>(schema.properties)) {
    const value = readDraft(each, draft[key] ?? draftOf(each), needed.includes(key), wrong, `${path}/${key}`);
    if (value !== LEFT_OUT) out[key] = value;
  }
  return out;
}

/** Nothing was written into it. */
function isBlank(draft: Draft): boolean {
  if (Array.isArray(draft)) return draft.length === 0;
  return typeof draft === "object" ? Object.values(draft).every(isBlank) : draft === "" || draft === false;
}

function readNumber(schema: Schema, draft: string, missing: () => typeof LEFT_OUT, wrong: Wrong, path: string): Json {
  if (draft.trim() === "") return missing();
  const n = Number(draft.trim());
  if (!Number.isFinite(n)) wrong[path] = "This is not a number.";
  else if (typeOf(schema) === "integer" && !Number.isInteger(n)) wrong[path] = "This has to be a whole number.";
  else if (typeof schema.minimum === "number" && n < schema.minimum) wrong[path] = `At least ${schema.minimum}.`;
  else if (typeof schema.maximum === "number" && n > schema.maximum) wrong[path] = `At most ${schema.maximum}.`;
  else if (INTEGER.test(draft.trim())) return exactly(draft.trim(), wrong, path);
  return n;
}

const INTEGER = /^-?\d+$/;

function exactly(digits: string, wrong: Wrong, path: string): Json {
  const value = integer(digits);
  if (value === null) wrong[path] = "This browser would round it: too many digits.";
  return value;
}

function readText(schema: Schema, draft: string, required: boolean, missing: () => typeof LEFT_OUT, wrong: Wrong, path: string): Json {
  if (draft === "" && !required && schema.default) return ""; // it was taken out
  if (draft === "") return missing(); // one that is meant to be empty is rarer than one that was forgotten
  if (draft.length < (schema.minLength ?? 0)) wrong[path] = `At least ${schema.minLength} characters.`;
  if (draft.length > (schema.maxLength ?? Number.POSITIVE_INFINITY)) wrong[path] = `At most ${schema.maxLength} characters.`;
  return draft;
}

function readArray(schema: Schema, draft: Draft[], wrong: Wrong, path: string): Json {
  if (draft.length < (schema.minItems ?? 0)) wrong[path] = `At least ${schema.minItems}.`;
  if (draft.length > (schema.maxItems ?? Number.POSITIVE_INFINITY)) wrong[path] = `At most ${schema.maxItems}.`;
  return draft.map((each, k) => {
    const value = readDraft(schema.items, each, true, wrong, `${path}/${k}`);
    return value === LEFT_OUT ? null : value;
  });
}
