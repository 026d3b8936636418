import { expect, test } from "vitest";
import { brief, type Difference, ratio, shown } from "./rows";

const found: Difference = {
  same: false,
  a: { execution_id: "a", name: "x", status: "failed", seconds: 1 },
  b: { execution_id: "b", name: "x", status: "completed", seconds: 2 },
  diagram: { added: [], removed: [], changed: { read: "its code", other: "properties" }, other: [] },
  nodes: [
    { node: "read", iteration: "1", output: { count: 1, places: [{ path: "", a: 1, b: 2 }] } },
    { node: "gone", iteration: "1", only: "a" },
    { node: "slow", iteration: "2", seconds: [1, 3], status: ["failed", "completed"] },
  ],
  alike: 7,
};

test("nodes tell in which ways they differ, code among them", () => {
  expect(shown(found, null).map(({ node, parts }) => [node.node, ...parts])).toEqual([
    ["read", "output", "code"],
    ["gone", "only"],
    ["slow", "status", "times"],
    ["other", "code"],
  ]);
  expect(shown(found, "times").map(({ node }) => node.node)).toEqual(["slow"]);
});

test("times are compared in words", () => {
  expect([ratio([1, 3]), ratio([3, 1]), ratio([0, 1]), ratio([60.8, 62.2])]).toEqual([
    "3.0× as long",
    "3.0× as fast",
    "",
    "",
  ]);
});

test("values are cut", () => {
  expect(brief({ a: [1, "b"] })).toBe('{"a":[1,"b"]}');
  expect(brief("x".repeat(500))).toHaveLength(161);
  expect(brief(undefined)).toBe("");
});
