// How an execution was at an instant, computed from its cells. An attempt is told by its instants; of a path the
// latest attempt of the latest iteration counts that had begun by then.

import type { Counts, ExecutionStatus, ExecutionView, GroupView, NodeStatus, NodeView } from "../api/types";
import { groupsAround } from "../live/paths";
import { begin, type Cell, type Cells, ENDED, isRetry } from "../timeline/cells";

export interface Moment {
  at: number;
  nodes: ReadonlyMap<string, NodeView>;
  execution: ExecutionView | null;
}

/** The status that an attempt had at an instant, or null where it had not begun. */
export function statusAt(cell: Cell, next: Cell | undefined, at: number): NodeStatus | null {
  const first = begin(cell);
  if (first === null || first > at) return null;
  if (cell.ended !== null && cell.ended <= at) {
    // between two attempts of one iteration the first is not yet what it will be: another is due
    return isRetry(cell, next) && at < (begin(next) ?? 0) ? "retrying" : cell.status;
  }
  if (cell.started === null || cell.started > at)
    return cell.ended === null && ENDED.has(cell.status) ? cell.status : "scheduled";
  if (cell.ended === null) return cell.status;
  return cell.waits ? "suspended" : "running";
}

/** The state at an instant. `now` gives what doesn't change with time: types, groups, and nodes without cells. */
export function stateAt(
  cells: Cells,
  at: number,
  now: { nodes: ReadonlyMap<string, NodeView>; execution: ExecutionView | null },
): Moment {
  const nodes = new Map<string, NodeView>();
  const groups = new Map<string, Counts>();
  const counts: Counts = {};
  let retries = 0;
  for (const path of cells.paths()) {
    const mine = cells.of(path);
    const view = viewAt(path, mine, at, now.nodes.get(path));
    nodes.set(path, view);
    if (view.iteration === undefined) continue; // nothing had happened to it
    // as the server counts: everything at any depth, and turns of loops singly
    for (const group of groupsAround(path)) groups.set(group, add(groups.get(group) ?? {}, view.status));
    add(counts, view.status);
    mine.forEach((cell, n) => {
      const next = mine[n + 1];
      if (next === undefined || (begin(next) ?? at) > at) return;
      if (next.iteration === cell.iteration) retries++;
      else add(counts, cell.status);
    });
  }
  for (const [path, view] of now.nodes) {
    if (!nodes.has(path))
      nodes.set(path, { id: path, type: view.type ?? null, status: "pending", group: view.group ?? null });
  }
  for (const [path, view] of nodes) {
    const group = groupAt(view.group ?? now.nodes.get(path)?.group ?? null, groups.get(path), path);
    if (group) nodes.set(path, { ...view, group });
  }
  return { at, nodes, execution: executionAt(now.execution, nodes, at, counts, retries) };
}

function viewAt(path: string, cells: readonly Cell[], at: number, now: NodeView | undefined): NodeView {
  for (let n = cells.length - 1; n >= 0; n--) {
    const cell = cells[n] as Cell;
    const status = statusAt(cell, cells[n + 1], at);
    if (status === null) continue;
    const same = now !== undefined && now.iteration === cell.iteration && now.attempt === cell.attempt;
    const over = ENDED.has(status) || status === "retrying";
    return {
      // what the latest attempt came to is told only once it had
      ...(same && over ? now : {}),
      id: path,
      type: now?.type ?? null,
      status,
      iteration: cell.iteration,
      attempt: cell.attempt,
      scheduled_at: cell.scheduled,
      started_at: cell.started !== null && cell.started <= at ? cell.started : null,
      ended_at: over ? cell.ended : null,
      wake_at:
        status === "retrying"
          ? (begin(cells[n + 1] ?? cell) ?? null)
          : status === "suspended"
            ? cell.wake
            : null,
      request: status === "suspended" && same ? (now.request ?? null) : null,
    };
  }
  return { id: path, type: now?.type ?? null, status: "pending" };
}

/** A group's counts at the instant. Items that had no cell by then are pending. */
function groupAt(now: GroupView | null, counts: Counts | undefined, path: string): GroupView | null {
  if (counts === undefined) return now && { ...now, counts: now.total ? { pending: now.total } : {} };
  const seen = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const total = Math.max(now?.total ?? 0, seen);
  const pending = (counts.pending ?? 0) + total - seen;
  const kind = now?.kind ?? (path.endsWith("]") ? "sub" : "map");
  return { kind, total, counts: pending > 0 ? { ...counts, pending } : counts };
}

function executionAt(
  now: ExecutionView | null,
  nodes: ReadonlyMap<string, NodeView>,
  at: number,
  counts: Counts,
  retries: number,
): ExecutionView | null {
  if (now === null) return null;
  const over = now.ended_at != null && now.ended_at <= at;
  const seen = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const total = Math.max(now.total ?? 0, seen);
  return {
    ...now,
    counts: total > seen ? { ...counts, pending: (counts.pending ?? 0) + total - seen } : counts,
    total,
    done: counts.completed ?? 0,
    retries,
    status: over ? now.status : executionStatus(now, nodes, at),
    ended_at: over ? now.ended_at : null,
    error: over ? now.error : null,
    stale: over ? now.stale : false,
    rate: null,
    tokens: null, // how many it had taken by then nobody knows here
    cost: null,
  };
}

function executionStatus(
  now: ExecutionView,
  nodes: ReadonlyMap<string, NodeView>,
  at: number,
): ExecutionStatus {
  if ((now.started_at ?? now.created_at ?? 0) > at) return "pending";
  let waits = false;
  for (const { status } of nodes.values()) {
    if (status === "running" || status === "scheduled" || status === "retrying") return "running";
    waits = waits || status === "suspended";
  }
  return waits ? "suspended" : "running";
}

function add(counts: Counts, status: NodeStatus): Counts {
  counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

/** An instant as the URL holds it, in microseconds and never before it, so that what happened then has happened. */
export function mark(instant: number): number {
  const near = Number(instant.toFixed(6));
  return near >= instant ? near : Number((near + 1e-6).toFixed(6));
}

/** The instants at which something began or ended, in order: where `[` and `]` go. */
export function steps(cells: Cells): number[] {
  const found = new Set<number>();
  for (const path of cells.paths()) {
    for (const { scheduled, started, ended } of cells.of(path)) {
      for (const instant of [scheduled, started, ended]) if (instant !== null) found.add(mark(instant));
    }
  }
  return [...found].sort((a, b) => a - b);
}

/** The next instant after (`by` 1) or before (`by` -1) the one that is shown; null past the last: that is now. */
export function stepFrom(instants: readonly number[], at: number | null, by: 1 | -1): number | null {
  if (at === null) return by < 0 ? (instants.at(-1) ?? null) : null;
  if (by > 0) return instants.find((one) => one > at) ?? null;
  return instants.findLast((one) => one < at) ?? instants[0] ?? null;
}
