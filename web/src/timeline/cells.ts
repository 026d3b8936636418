// The cells of an execution, one for each attempt, from the columns that the server sends.

import type { NodeStatus, NodeView, TimelineData } from "../api/types";

/** One attempt of a node in an iteration. Instants are seconds since 1970. */
export interface Cell {
  path: string;
  iteration: string;
  attempt: number;
  status: NodeStatus;
  scheduled: number | null;
  started: number | null;
  ended: number | null;
  wake: number | null;
  /** The attempt of its composite, at the root the execution's round; null where it isn't told. */
  round: number | null;
  /** Whether it waited rather than worked, where that is told: it had a request. */
  waits: boolean | null;
}

export const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "skipped", "cancelled"]);

/** A cell for every row. Columns that are missing are null, unknown ones are left out. */
export function decode({ fields, rows }: TimelineData): Cell[] {
  const at = (name: string) => fields.indexOf(name);
  const [path, iteration, attempt, status] = [at("node"), at("iteration"), at("attempt"), at("status")];
  const [scheduled, started, ended, wake] = [
    at("scheduled_at"),
    at("started_at"),
    at("ended_at"),
    at("wake_at"),
  ];
  const [round, waits] = [at("round"), at("waits")];
  const get = (row: unknown[], index: number) => (index < 0 ? null : (row[index] ?? null));
  return rows.map((row) => ({
    path: String(row[path]),
    iteration: String(get(row, iteration) ?? "1"),
    attempt: Number(get(row, attempt) ?? 1),
    status: String(row[status]) as NodeStatus,
    scheduled: get(row, scheduled) as number | null,
    started: get(row, started) as number | null,
    ended: get(row, ended) as number | null,
    wake: get(row, wake) as number | null,
    round: get(row, round) as number | null,
    waits: get(row, waits) as boolean | null,
  }));
}

/** The cell that a view shows, or null of a node that nothing has happened to. */
export function ofView(view: NodeView): Cell | null {
  const cell: Cell = {
    path: view.id,
    iteration: view.iteration ?? "1",
    attempt: view.attempt ?? 1,
    status: view.status,
    scheduled: view.scheduled_at ?? null,
    started: view.started_at ?? null,
    ended: view.ended_at ?? null,
    wake: view.wake_at ?? null,
    round: null,
    waits: view.status === "suspended" || view.request ? true : null,
  };
  return begin(cell) === null ? null : cell;
}

/** The first instant of a cell. */
export const begin = (cell: Cell): number | null => cell.scheduled ?? cell.started ?? cell.ended;

/** Iterations by their numbers: "2.10" after "2.9". */
export function compareIterations(a: string, b: string): number {
  if (a === b) return 0;
  const [x, y] = [a.split(".").map(Number), b.split(".").map(Number)];
  for (let n = 0; n < Math.max(x.length, y.length); n++) {
    const by = (x[n] ?? 0) - (y[n] ?? 0);
    if (by !== 0) return by;
  }
  return 0;
}

/** All cells by their paths, each path's in the order of iteration and attempt. */
export class Cells {
  private readonly by = new Map<string, Cell[]>();
  /** Raised at every change. */
  version = 0;
  /** Raised when a path comes. */
  shape = 0;

  constructor(cells: Iterable<Cell> = []) {
    for (const cell of cells) this.put(cell);
  }

  of(path: string): readonly Cell[] {
    return this.by.get(path) ?? [];
  }

  paths(): Iterable<string> {
    return this.by.keys();
  }

  get size(): number {
    return this.by.size;
  }

  /** Put a cell in its place; the one that has it is replaced. */
  put(cell: Cell): void {
    this.version++;
    const mine = this.by.get(cell.path);
    if (mine === undefined) {
      this.by.set(cell.path, [cell]);
      this.shape++;
      return;
    }
    let at = mine.length;
    while (at > 0) {
      const order = compareCells(mine[at - 1] as Cell, cell);
      if (order < 0) break;
      at--;
      if (order === 0) {
        const before = mine[at] as Cell;
        mine[at] = { ...cell, round: cell.round ?? before.round, waits: cell.waits ?? before.waits };
        return;
      }
    }
    mine.splice(at, 0, cell);
  }
}

function compareCells(a: Cell, b: Cell): number {
  return compareIterations(a.iteration, b.iteration) || a.attempt - b.attempt;
}

/** Whether the cell after this one is its retry (and not what a resume began). */
export function isRetry(cell: Cell, next: Cell | undefined): next is Cell {
  return (
    next !== undefined &&
    cell.status === "failed" &&
    next.iteration === cell.iteration &&
    (cell.round === null || next.round === null || cell.round === next.round)
  );
}
