import { describe, expect, test } from "vitest";
import type { NodeView } from "../api/types";
import { Cells, decode } from "../timeline/cells";
import { stateAt, statusAt, stepFrom, steps } from "./moment";

const FIELDS = [
  "node",
  "iteration",
  "attempt",
  "status",
  "scheduled_at",
  "started_at",
  "ended_at",
  "wake_at",
  "waits",
];
const cells = (...rows: unknown[][]) => new Cells(decode({ fields: FIELDS, rows }));
const views = (...all: NodeView[]) => new Map(all.map((view) => [view.id, view]));
const nobody = { nodes: views(), execution: null };

test("an attempt goes through its states", () => {
  const [cell] = cells(["a", "1", 1, "completed", 1, 2, 4, null, false]).of("a");
  expect([0, 1, 2, 3.9, 4, 9].map((at) => cell && statusAt(cell, undefined, at))).toEqual([
    null,
    "scheduled",
    "running",
    "running",
    "completed",
    "completed",
  ]);
});

test("between two attempts it was retrying, then scheduled, then running", () => {
  const all = cells(
    ["a", "1", 1, "failed", 1, 1, 2, null, false],
    ["a", "1", 2, "completed", 5, 6, 7, null, false],
  );
  const at = (t: number) => {
    const view = stateAt(all, t, nobody).nodes.get("a");
    return [view?.status, view?.attempt, view?.wake_at ?? null];
  };
  expect([at(0), at(1.5), at(3), at(5.5), at(6.5), at(8)]).toEqual([
    ["pending", undefined, null],
    ["running", 1, null],
    ["retrying", 1, 5],
    ["scheduled", 2, null],
    ["running", 2, null],
    ["completed", 2, null],
  ]);
});

test("what waited was suspended, what is suspended still is", () => {
  const all = cells(
    ["nap", "1", 1, "completed", 1, 1, 9, null, true],
    ["ask", "1", 1, "suspended", 2, 2, null, null, null],
  );
  const moment = stateAt(all, 3, {
    nodes: views(),
    execution: { id: "x", name: "x", status: "completed", started_at: 0, ended_at: 9 },
  });
  expect([...moment.nodes.values()].map((view) => view.status)).toEqual(["suspended", "suspended"]);
  expect(moment.execution?.status).toBe("suspended");
});

test("errors and outputs of later are not told before", () => {
  const now = views({
    id: "a",
    type: "code_job",
    status: "failed",
    iteration: "1",
    attempt: 1,
    error: { type: "E", message: "m" },
    has_output: true,
  });
  const all = cells(["a", "1", 1, "failed", 1, 1, 4, null, false]);
  expect(stateAt(all, 2, { nodes: now, execution: null }).nodes.get("a")).toMatchObject({
    type: "code_job",
    status: "running",
  });
  expect(stateAt(all, 2, { nodes: now, execution: null }).nodes.get("a")?.error).toBeUndefined();
  expect(stateAt(all, 4, { nodes: now, execution: null }).nodes.get("a")?.error?.type).toBe("E");
});

test("groups count their items as they were, those to come are pending", () => {
  const now = views(
    { id: "m", status: "completed", group: { kind: "map", total: 3, counts: { completed: 3 } } },
    { id: "later", status: "completed" },
  );
  const all = cells(
    ["m", "1", 1, "completed", 1, 1, 9, null, false],
    ["m[0]", "1", 1, "completed", 1, 1, 2, null, false],
    ["m[1]", "1", 1, "completed", 1, 2, 5, null, false],
    ["m[2]", "1", 1, "completed", 5, 5, 9, null, false],
  );
  const moment = stateAt(all, 3, {
    nodes: now,
    execution: { id: "x", name: "x", status: "completed", started_at: 1, ended_at: 9, done: 2 },
  });
  expect(moment.nodes.get("m")?.group).toEqual({
    kind: "map",
    total: 3,
    counts: { completed: 1, running: 1, pending: 1 },
  });
  expect(moment.nodes.get("later")?.status).toBe("pending");
  // m itself, two items, and one that is known to come
  expect(moment.execution).toMatchObject({
    status: "running",
    done: 1,
    ended_at: null,
    total: 3,
    counts: { running: 2, completed: 1 },
  });
});

test("an iteration follows another", () => {
  const all = cells(
    ["a", "1", 1, "completed", 1, 1, 2, null, false],
    ["a", "2", 1, "completed", 3, 3, 4, null, false],
  );
  const at = (t: number) => stateAt(all, t, nobody).nodes.get("a")?.iteration;
  expect([at(2.5), at(3)]).toEqual(["1", "2"]);
});

describe("steps", () => {
  const all = cells(
    ["a", "1", 1, "completed", 1, 1, 2, null, false],
    ["b", "1", 1, "completed", 2, 3, 4, null, false],
  );
  test("are the instants at which something happened", () => expect(steps(all)).toEqual([1, 2, 3, 4]));
  test("are the same when they come from the URL, and late enough", () => {
    const [instant = 0] = steps(cells(["a", "1", 1, "running", null, 1795278507.3664896, null, null, false]));
    expect(Number(instant.toFixed(6))).toBe(instant);
    expect(instant).toBeGreaterThanOrEqual(1795278507.3664896);
  });
  test("lead back from now, and at last to now again", () => {
    const instants = steps(all);
    expect([stepFrom(instants, null, -1), stepFrom(instants, 3, -1), stepFrom(instants, 3, 1)]).toEqual([
      4, 2, 4,
    ]);
    expect([
      stepFrom(instants, 4, 1),
      stepFrom(instants, 1, -1),
      stepFrom(instants, null, 1),
      stepFrom([], null, -1),
    ]).toEqual([null, 1, null, null]);
  });
});
