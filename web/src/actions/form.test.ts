import { describe, expect, it } from "vitest";
import type { Json, Schema } from "../api/types";
import { type Draft, draftOf, kindOf, LEFT_OUT, readDraft, type Wrong } from "./form";

function read(schema: Schema, draft: Draft, required = true): [Json, Wrong] {
  const wrong: Wrong = {};
  const value = readDraft(schema, draft, required, wrong);
  return [value, wrong];
}

describe("a form from a schema", () => {
  it("knows which field is for what", () => {
    expect(kindOf({ enum: ["yes", "no"] })).toBe("enum");
    expect(kindOf({ type: ["integer", "null"] })).toBe("number");
    expect(kindOf({ type: "array", items: { type: "string" } })).toBe("array");
    expect(kindOf({ type: "array" })).toBe("json");
    expect(kindOf({ type: "object" })).toBe("json");
    expect(kindOf({})).toBe("json");
  });

  it("gives back a value that it began with", () => {
    const schema = {
      type: "object",
      required: ["name", "n"],
      properties: {
        name: { type: "string" }, n: { type: "integer" }, ok: { type: "boolean" }, kind: { enum: [1, "a", null] },
        tags: { type: "array", items: { type: "string" } }, more: {},
      },
    };
    const value = { name: "x", n: 3, ok: true, kind: null, tags: ["a", "b"], more: { deep: [1] } };
    expect(read(schema, draftOf(schema, value))).toEqual([value, {}]);
  });

  it("takes the schema's defaults", () => {
    const schema = { type: "object", properties: { n: { type: "integer", default: 4 }, s: { type: "string" } } };
    expect(read(schema, draftOf(schema))).toEqual([{ n: 4 }, {}]);
  });

  it("says what is missing or not a number, and where", () => {
    const schema = { type: "object", required: ["n", "k"], properties: { n: { type: "integer" }, k: { enum: ["a", "b"] } } };
    expect(read(schema, { n: "", k: "" })[1]).toEqual({ "/n": "This is needed.", "/k": "This is needed." });
    expect(read(schema, { n: "1.5", k: "0" })[1]).toEqual({ "/n": "This has to be a whole number." });
    expect(read({ type: "number", maximum: 5 }, "7")[1]).toEqual({ "": "At most 5." });
    expect(read({ type: "number" }, "many")[1]).toEqual({ "": "This is not a number." });
  });

  it("leaves out what need not be there and was left as it was, whatever it would have to hold", () => {
    const street = { type: "object", required: ["street"], properties: { street: { type: "string" }, land: { default: "de", type: "string" } } };
    const schema = { type: "object", properties: { home: street, tags: { type: "array", minItems: 1, items: { type: "string" } } } };
    const draft = draftOf(schema) as Record<string, Draft>;
    expect(read(schema, draft)).toEqual([{}, {}]);
    expect(read(schema, { ...draft, home: { street: "", land: "fr" } })[1]).toEqual({ "/home/street": "This is needed." });
    expect(read({ ...schema, required: ["home", "tags"] }, draft)[1]).toEqual({ "/home/street": "This is needed.", "/tags": "At least 1." });
  });

  it("takes a default that was taken out as an empty text", () => {
    expect(read({ type: "string", default: "Weekly" }, "", false)).toEqual(["", {}]);
    expect(read({ type: "array", items: { type: "string" }, default: ["a"] }, [], false)).toEqual([[], {}]);
  });

  it("takes an empty text as none", () => {
    expect(read({ type: "string" }, "")[1]).toEqual({ "": "This is needed." });
    expect(read({ type: "string" }, "", false)).toEqual([LEFT_OUT, {}]);
  });

  it("reads JSON where the schema says nothing, and says that text has quotes", () => {
    expect(read({}, '{"a": [1]}')).toEqual([{ a: [1] }, {}]);
    expect(read({}, "hello")[1][""]).toContain('"quotes"');
    expect(draftOf({}, "hello")).toBe('"hello"');
  });
});
