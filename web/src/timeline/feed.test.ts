import { expect, test, vi } from "vitest";
import type { Source } from "../api/source";
import type { NodeView, TimelineData } from "../api/types";
import { Feed } from "./feed";

const FIELDS = [
  "node",
  "iteration",
  "attempt",
  "status",
  "scheduled_at",
  "started_at",
  "ended_at",
  "wake_at",
  "round",
  "waits",
];

function fake(views: NodeView[]) {
  const nodes = new Map(views.map((view) => [view.id, view]));
  const listeners: ((paths: ReadonlySet<string> | null) => void)[] = [];
  const source = {
    id: "x",
    execution: () => null,
    node: (path: string) => nodes.get(path),
    nodes: () => nodes,
    onExecution: () => () => undefined,
    onNodes: (listener: (paths: ReadonlySet<string> | null) => void) => {
      listeners.push(listener);
      return () => void listeners.splice(listeners.indexOf(listener), 1);
    },
  } as unknown as Source;
  const change = (view: NodeView) => {
    nodes.set(view.id, view);
    for (const listener of listeners) listener(new Set([view.id]));
  };
  return { source, change, listeners };
}

async function started(rows: unknown[][], views: NodeView[]) {
  let asked = 0;
  const { source, change, listeners } = fake(views);
  const feed = new Feed(source, async (): Promise<TimelineData> => {
    asked++;
    return { fields: FIELDS, rows };
  });
  const end = feed.subscribe(() => undefined);
  await vi.waitFor(() => expect(feed.snapshot().cells).not.toBe(null));
  return { feed, change, end, listeners, asked: () => asked };
}

test("what came meanwhile is newer than the answer, and what comes later is put in", async () => {
  const { feed, change } = await started(
    [["a", "1", 1, "running", 1, 1, null, null, 1, false]],
    [{ id: "a", status: "completed", started_at: 1, ended_at: 2 }],
  );
  const status = (path: string) =>
    feed
      .snapshot()
      .cells?.of(path)
      .map((cell) => cell.status);
  expect(status("a")).toEqual(["completed"]);
  change({ id: "b", status: "running", started_at: 3 });
  expect(status("b")).toEqual(["running"]);
});

test("what a view can't tell is fetched again, once in a while", async () => {
  vi.useFakeTimers();
  try {
    const { change, asked } = await started([], []);
    change({ id: "a", status: "running", started_at: 1 });
    await vi.advanceTimersByTimeAsync(5000);
    expect(asked()).toBe(1);
    change({ id: "a", status: "running", attempt: 3, started_at: 1 });
    change({ id: "a", status: "running", attempt: 5, started_at: 1 });
    await vi.advanceTimersByTimeAsync(5000);
    expect(asked()).toBe(2);
  } finally {
    vi.useRealTimers();
  }
});

test("sleepers wait, and nobody listens when nobody looks", async () => {
  const { feed, end, listeners } = await started(
    [["nap", "1", 1, "completed", 1, 1, 2, null, 1, null]],
    [{ id: "nap", type: "sleep", status: "completed", started_at: 1, ended_at: 2 }],
  );
  expect(feed.snapshot().cells?.of("nap")[0]?.waits).toBe(true);
  end();
  expect(listeners).toEqual([]);
});
