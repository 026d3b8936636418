// Which rows the table has, and in which order.

import type { NodeStatus, NodeView } from "../api/types";
import type { Labels } from "../live/labels";
import { comparePaths, parentOf } from "../live/paths";

export const COLUMNS = [
  "status",
  "node",
  "type",
  "iteration",
  "attempt",
  "started",
  "queued",
  "duration",
  "note",
] as const;
export type Column = (typeof COLUMNS)[number];

export interface Asked {
  /** Null: in the order in which they came. */
  sort: Column | null;
  descending: boolean;
  text: string;
  statuses: ReadonlySet<string>;
  open: ReadonlySet<string>;
  labels?: Labels;
}

export interface TableRow {
  path: string;
  depth: number;
  /** Whether something is inside that can be shown. */
  group: boolean;
  open: boolean;
}

export interface Arranged {
  rows: TableRow[];
  /** What matches in groups that are closed, as far as their counts tell. */
  hidden: number;
}

const ORDER: readonly NodeStatus[] = [
  "failed",
  "suspended",
  "retrying",
  "running",
  "scheduled",
  "pending",
  "cancelled",
  "skipped",
  "completed",
];

export function arrange(nodes: ReadonlyMap<string, NodeView>, asked: Asked, now: number | null): Arranged {
  const flat = asked.text !== "" || asked.statuses.size > 0;
  return flat ? found(nodes, asked, now) : inGroups(nodes, asked, now);
}

/** What is looked for, without its groups. */
function found(nodes: ReadonlyMap<string, NodeView>, asked: Asked, now: number | null): Arranged {
  const words = asked.text.toLowerCase().split(/\s+/).filter(Boolean);
  let hidden = 0;
  const views: NodeView[] = [];
  const seen = inside(nodes);
  for (const view of nodes.values()) {
    if (matches(view, words, asked)) views.push(view);
    const counts = seen.has(view.id) ? null : view.group?.counts;
    if (counts && words.length === 0)
      for (const status of asked.statuses) hidden += counts[status as NodeStatus] ?? 0;
  }
  const rows = ordered(views, asked, now).map(({ id }) => ({
    path: id,
    depth: 0,
    group: false,
    open: false,
  }));
  return { rows, hidden };
}

function matches(view: NodeView, words: readonly string[], { statuses, labels }: Asked): boolean {
  if (statuses.size > 0 && !statuses.has(view.status)) return false;
  if (words.length === 0) return true;
  const text =
    `${view.id} ${labels?.(view.id) ?? ""} ${view.type ?? ""} ${view.status} ${view.error?.type ?? ""} ${view.error?.message ?? ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function inside(nodes: ReadonlyMap<string, NodeView>): Set<string> {
  const seen = new Set<string>();
  for (const path of nodes.keys()) {
    const parent = parentOf(path);
    if (parent !== null) seen.add(parent);
  }
  return seen;
}

function inGroups(nodes: ReadonlyMap<string, NodeView>, asked: Asked, now: number | null): Arranged {
  const children = new Map<string | null, NodeView[]>();
  for (const view of nodes.values()) {
    const parent = parentOf(view.id);
    const at = parent !== null && nodes.has(parent) ? parent : null;
    const list = children.get(at);
    if (list === undefined) children.set(at, [view]);
    else list.push(view);
  }
  const rows: TableRow[] = [];
  const add = (parent: string | null, depth: number) => {
    const list = children.get(parent) ?? [];
    const items = asked.sort === null && list[0]?.id.endsWith("]");
    const sorted = items ? list.sort((a, b) => comparePaths(a.id, b.id)) : ordered(list, asked, now);
    for (const { id, group } of sorted) {
      const whole = children.has(id) || (group != null && group.kind !== "loop");
      const open = whole && asked.open.has(id);
      rows.push({ path: id, depth, group: whole, open });
      if (open) add(id, depth + 1);
    }
  };
  add(null, 0);
  return { rows, hidden: 0 };
}

function ordered(views: NodeView[], { sort, descending }: Asked, now: number | null): NodeView[] {
  if (sort === null) return views;
  const sign = descending ? -1 : 1;
  if (sort === "node" || sort === "type" || sort === "note" || sort === "iteration") {
    const of = (view: NodeView) => text(view, sort);
    return views.sort((a, b) => sign * comparePaths(of(a), of(b)) || comparePaths(a.id, b.id));
  }
  const keys = new Map(views.map((view) => [view, number(view, sort, now)]));
  return views.sort((a, b) => {
    const [x, y] = [keys.get(a) ?? null, keys.get(b) ?? null];
    if (x === y) return comparePaths(a.id, b.id);
    // what has none comes last, whichever way
    if (x === null || y === null) return x === null ? 1 : -1;
    return sign * (x - y);
  });
}

function text(view: NodeView, column: Column): string {
  if (column === "type") return view.type ?? "";
  if (column === "iteration") return view.iteration ?? "";
  if (column === "note") return note(view);
  return view.id;
}

function number(view: NodeView, column: Column, now: number | null): number | null {
  switch (column) {
    case "status":
      return ORDER.indexOf(view.status);
    case "attempt":
      return view.attempt ?? null;
    case "started":
      return view.started_at ?? null;
    case "queued":
      return queued(view, now);
    default:
      return duration(view, now);
  }
}

/** Seconds from its start to its end, or until now; `now` null: nothing goes on, and since when is not known. */
export function duration(view: NodeView, now: number | null): number | null {
  if (view.started_at == null) return null;
  if (view.ended_at != null) return view.ended_at - view.started_at;
  return now !== null && ["running", "suspended"].includes(view.status) ? Math.max(0, now - view.started_at) : null;
}

/** Seconds from when it was ready to its start. */
export function queued(view: NodeView, now: number | null): number | null {
  if (view.scheduled_at == null) return null;
  if (view.started_at != null) return Math.max(0, view.started_at - view.scheduled_at);
  return now !== null && view.status === "scheduled" ? Math.max(0, now - view.scheduled_at) : null;
}

/** What is worth a word of it. */
export function note(view: NodeView): string {
  if (view.error) return `${view.error.type}: ${view.error.message}`;
  if (view.status === "suspended")
    return view.request?.prompt ?? view.request?.name ?? view.request?.kind ?? "";
  if (view.port && view.port !== "default") return `port ${view.port}`;
  return view.winner ? `first: ${view.winner}` : "";
}
