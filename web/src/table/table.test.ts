import { describe, expect, test, vi } from "vitest";
import type { NodeView } from "../api/types";
import { arrange, type Asked, duration, note, queued } from "./arrange";
import { parseOpen, toggled } from "./open";
import { nextOf, stepped } from "./steps";

vi.mock("../app/keys", () => ({ useKeys: () => undefined })); // it listens to a window

const plain: Asked = { sort: null, descending: false, text: "", statuses: new Set(), open: new Set() };
const nodes = (...views: NodeView[]) => new Map(views.map((view) => [view.id, view]));
const all = nodes(
  { id: "b", type: "code_job", status: "completed", started_at: 1, ended_at: 4 },
  {
    id: "m",
    type: "code_job",
    status: "running",
    started_at: 2,
    group: { kind: "map", total: 3, counts: { failed: 1, completed: 2 } },
  },
  {
    id: "a",
    type: "sleep",
    status: "failed",
    started_at: 1,
    ended_at: 2,
    error: { type: "OSError", message: "disk full" },
  },
);
const inside = nodes(...all.values(), { id: "m[10]", status: "failed" }, { id: "m[9]", status: "completed" });
const paths = (asked: Partial<Asked>, of = all) =>
  arrange(of, { ...plain, ...asked }, 10).rows.map((row) => row.path);

describe("the table", () => {
  test("finds by what people call a node", () => {
    expect(paths({ text: "weekly", labels: (path) => (path === "b" ? "Weekly sums" : null) })).toEqual(["b"]);
  });
  test("says no time of what nobody performs any more", () => {
    expect(duration({ id: "r", status: "running", started_at: 2 }, null)).toBeNull();
  });
  test("has the nodes as they come, and a group closed", () => {
    expect(arrange(all, plain, 10).rows.map((row) => [row.path, row.group, row.open])).toEqual([
      ["b", false, false],
      ["m", true, false],
      ["a", false, false],
    ]);
  });
  test("has the items of an open group below it, by number", () => {
    expect(paths({ open: new Set(["m"]) }, inside)).toEqual(["b", "m", "m[9]", "m[10]", "a"]);
    expect(paths({ open: parseOpen("*") }, inside)).toHaveLength(5);
  });
  test("is sorted either way; what has no value comes last", () => {
    expect(paths({ sort: "duration" })).toEqual(["a", "b", "m"]);
    expect(paths({ sort: "duration", descending: true })).toEqual(["m", "b", "a"]);
    expect(paths({ sort: "status" })).toEqual(["a", "m", "b"]);
    expect(paths({ sort: "node", descending: true })).toEqual(["m", "b", "a"]);
    const none = nodes({ id: "x", status: "pending" }, ...all.values());
    expect(paths({ sort: "started", descending: true }, none).at(-1)).toBe("x");
  });
  test("finds words anywhere, all of them", () => {
    expect(paths({ text: "DISK sleep" })).toEqual(["a"]);
    expect(paths({ text: "disk code" })).toEqual([]);
  });
  test("tells of what is so in closed groups, and not twice", () => {
    expect(arrange(all, { ...plain, statuses: new Set(["failed"]) }, 10)).toMatchObject({
      rows: [{ path: "a" }],
      hidden: 1,
    });
    expect(arrange(inside, { ...plain, statuses: new Set(["failed"]) }, 10)).toMatchObject({
      rows: [{ path: "a" }, { path: "m[10]" }],
      hidden: 0,
    });
  });
});

test("times and notes of a row", () => {
  const view: NodeView = { id: "x", status: "running", scheduled_at: 1, started_at: 3 };
  expect([duration(view, 10), queued(view, 10), duration({ ...view, status: "cancelled" }, 10)]).toEqual([
    7,
    2,
    null,
  ]);
  expect(queued({ id: "x", status: "scheduled", scheduled_at: 4 }, 10)).toBe(6);
  expect(note({ id: "x", status: "failed", error: { type: "E", message: "m" } })).toBe("E: m");
  expect(note({ id: "x", status: "suspended", request: { kind: "answer", prompt: "Go?" } })).toBe("Go?");
  expect([
    note({ id: "x", status: "completed", port: "true" }),
    note({ id: "x", status: "completed", port: "default" }),
  ]).toEqual(["port true", ""]);
});

describe("open groups", () => {
  test("open with those around them, and close alone", () => {
    expect(toggled(null, "a[1]/b", [])).toBe("a,a[1],a[1]/b");
    expect(toggled("a,a[1]", "a[1]", [])).toBe("a");
    expect(toggled("a", "a", [])).toBe(null);
  });
  test("of all groups one can be closed", () => expect(toggled("*", "b", ["a", "b", "c"])).toBe("a,c"));
});

test("steps stay within the list, and errors go round", () => {
  const list = ["a", "b", "c"];
  expect([
    stepped(list, null, 1),
    stepped(list, null, -1),
    stepped(list, "a", -1),
    stepped(list, "b", 1),
    stepped(list, "z", 1),
    stepped([], "a", 1),
  ]).toEqual(["a", "c", "a", "c", "a", null]);
  const failed = (path: string) => path !== "b";
  expect([
    nextOf(list, null, failed),
    nextOf(list, "a", failed),
    nextOf(list, "c", failed),
    nextOf(list, "a", () => false),
  ]).toEqual(["a", "c", "a", null]);
});
