import { describe, expect, test } from "vitest";
import { answerOf, type Recorded } from "./recorded";

const file: Recorded = {
  id: "x y",
  at: 0,
  snapshot: {},
  answers: { "executions/x%20y": { id: "x y" } },
  nodes: {
    a: [
      { id: "a", iteration: "1", attempt: 1 },
      { id: "a", iteration: "1", attempt: 2 },
    ],
  },
  logs: [
    { id: 1, node: "a", attempt: 1 },
    { id: 2, node: "ab", attempt: 1 },
    { id: 3, node: "a[0]/b", attempt: 2 },
  ],
};

describe("a page from a file", () => {
  const get = (address: string) => answerOf(file, "GET", address);
  test("answers as the server did", () => {
    expect(get("executions/x%20y?whatever=1").answer.id).toBe("x y");
    expect(get("executions/other").error?.message).toContain("not in the file");
  });
  test("knows the last attempt and each one", () => {
    expect(get("executions/x%20y/node?path=a").answer.attempt).toBe(2);
    expect(get("executions/x%20y/node?path=a&iteration=1&attempt=1").answer.attempt).toBe(1);
    expect(get("executions/x%20y/node?path=a&attempt=7").error).toBeDefined();
  });
  test("tells the lines of a node with what is in it, after the last", () => {
    const ids = (query: string) =>
      get(`executions/x%20y/logs?${query}`).answer.items.map((line: { id: number }) => line.id);
    expect([ids("node=a"), ids("node=a&after=1"), ids("node=a&attempt=1"), ids("limit=1")]).toEqual([
      [1, 3],
      [3],
      [1],
      [1],
    ]);
  });
  test("changes nothing", () =>
    expect(answerOf(file, "POST", "executions/x%20y/cancel").error?.message).toContain("recording"));
});
