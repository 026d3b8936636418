// What is drawn of a path in the timeline: for each attempt the time it queued, ran or waited.

import type { NodeStatus } from "../api/types";
import { begin, type Cell, ENDED, isRetry } from "./cells";

/** `queued`: ready, and others had the turn. `waiting`: for an answer, a signal or a time. `pause`: before a retry. */
export type Kind = "queued" | "running" | "waiting" | "pause" | "mark";

export interface Segment {
  kind: Kind;
  from: number;
  /** Where it still goes on, now. */
  to: number;
  open: boolean;
  status: NodeStatus;
  iteration: string;
  attempt: number;
}

/** The segments of one path, in order of time. `cells`: in order of iteration and attempt. */
export function segments(cells: readonly Cell[], now: number): Segment[] {
  const found: Segment[] = [];
  cells.forEach((cell, index) => {
    const { scheduled, started, ended, status, iteration, attempt } = cell;
    const add = (kind: Kind, from: number, to: number | null) => {
      const open = to === null;
      found.push({ kind, from, to: Math.max(from, to ?? now), open, status, iteration, attempt });
    };
    const over = ended !== null || ENDED.has(status);
    if (scheduled !== null && (started === null ? status !== "skipped" : started > scheduled)) {
      add("queued", scheduled, started ?? ended ?? (over ? scheduled : null));
    }
    if (started !== null)
      add(waited(cell) ? "waiting" : "running", started, ended ?? (over ? started : stillUntil(cell)));
    else if (over) add("mark", ended ?? begin(cell) ?? now, ended ?? begin(cell) ?? now);
    const next = cells[index + 1];
    if (ended !== null && isRetry(cell, next)) add("pause", ended, begin(next));
    else if (status === "retrying" && ended !== null) add("pause", ended, null);
  });
  return found;
}

const waited = (cell: Cell): boolean => cell.waits ?? cell.status === "suspended";

/** A retrying attempt whose end nobody told has no length. */
const stillUntil = (cell: Cell): number | null => (cell.status === "retrying" ? cell.started : null);

/** Whether somebody worked, or would have: what is left between such segments is idle. */
export const busy = (segment: Segment): boolean =>
  segment.kind === "running" || segment.kind === "queued" || segment.kind === "mark";
