import { describe, expect, it } from "vitest";
import { commonFolder } from "../diagrams/folder";
import { merged, stands } from "../executions/merged";
import { ago, seconds, size } from "../common/format";
import { score } from "./score";
import { link, parse } from "./address";

describe("addresses", () => {
  it("come back as they were, whatever is in them", () => {
    const query = { node: "a/b c[3]", text: "50% & more", open: "m,~b" };
    expect(parse(link(["executions", "a/b?c"], query))).toEqual({ path: ["executions", "a/b?c"], query });
  });
  it("leave out what is not set", () => {
    expect(link(["executions"], { a: null, b: "", c: false, d: 0 })).toBe("#/executions?d=0");
  });
  it("survive what nobody wrote", () => {
    expect(parse("#/%E0%A4%A/x")).toEqual({ path: ["%E0%A4%A", "x"], query: {} });
    expect(parse("")).toEqual({ path: [], query: {} });
  });
});

describe("texts", () => {
  it("say durations, times and sizes", () => {
    expect([0.0000286, 0.0032, 4.71, 125, 12_000, 187_200].map(seconds)).toEqual(["29 µs", "3.2 ms", "4.71 s", "2 min 05 s", "3 h 20 min", "2 d 4 h"]);
    expect([ago(100, 105), ago(100, 4000), ago(100, 95)]).toEqual(["5 s ago", "1 h ago", "in 5 s"]);
    expect([812, 4200, 3_145_728].map(size)).toEqual(["812 B", "4.1 KB", "3 MB"]);
  });
  it("cut the folder that all files are in", () => {
    expect(commonFolder(["/a/b/c.yaml", "/a/b/d/e.yaml"])).toBe("/a/b/");
    expect(commonFolder(["/a/b/c.yaml", "/a/x.yaml"])).toBe("/a/");
    expect(commonFolder(["x.yaml", "a/y.yaml"])).toBe("");
    expect(commonFolder([])).toBe("");
  });
});

describe("the list", () => {
  const one = { id: "1", name: "a", status: "running" as const };
  it("takes fields, drops what was deleted, and knows when it has to ask", () => {
    expect(merged([one], { "1": { status: "failed" } })).toEqual({ items: [{ ...one, status: "failed" }], unknown: false });
    expect(merged([one], { "1": null })).toEqual({ items: [], unknown: false });
    expect(merged([one], { "2": { status: "running" } })).toEqual({ items: [one], unknown: true });
    expect(merged([one], { "2": null }).unknown).toBe(false);
    expect(merged([one], { "2": { done: 4 } }).unknown).toBe(false);
    expect([{ status: "completed" as const }, { status: "running" as const }, { done: 3 }, null].map((told) => stands({ "1": told })))
      .toEqual([true, false, false, false]);
  });
});

describe("the palette", () => {
  it("finds by letters in order, best where they stand together", () => {
    expect(score("Theme: dark", "dark")).toBeGreaterThan(score("Do a rock", "dark") ?? 0);
    expect(score("Diagrams", "dgm")).not.toBeNull();
    expect(score("Compare this execution with another", "rich")).toBeNull();
    expect(score("Diagrams", "xyz")).toBeNull();
  });
});
