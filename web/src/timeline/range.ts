// What the timeline spans, and the part of it in sight.

import type { ExecutionView } from "../api/types";
import type { Cells } from "./cells";
import { Folding, type Gap, gaps } from "./folding";
import { busy, segments } from "./segments";

export interface Span {
  folding: Folding;
  /** When the execution began. */
  began: number;
  /** Whether it goes on: then its end moves. */
  moves: boolean;
}

const LEAST_S = 0.001;

/** From the beginning to the end, or to `now` while it goes on; long idle gaps are folded. */
export function span(cells: Cells, execution: ExecutionView | null, now: number): Span {
  const moves = execution !== null && ["running", "suspended", "pending"].includes(execution.status);
  let [from, to] = [
    execution?.started_at ?? execution?.created_at ?? Infinity,
    execution?.ended_at ?? -Infinity,
  ];
  const spans: Gap[] = [];
  for (const path of cells.paths()) {
    for (const segment of segments(cells.of(path), now)) {
      from = Math.min(from, segment.from);
      to = Math.max(to, segment.open && !moves ? segment.from : segment.to);
      // a group is at work where something in it is
      if (busy(segment)) spans.push(segment);
    }
  }
  if (moves) to = Math.max(to, now);
  if (!Number.isFinite(from)) from = Number.isFinite(to) ? to : now;
  to = Math.max(to, from + LEAST_S);
  return { folding: new Folding(from, to, gaps(spans, from, to)), began: from, moves };
}

/** `12.5-40`, in seconds since the beginning, as the URL holds it. */
export function parseZoom(text: string | null): readonly [number, number] | null {
  const found = /^(-?[\d.]+)-([\d.]+)$/.exec(text ?? "");
  if (found === null) return null;
  const [from, to] = [Number(found[1]), Number(found[2])];
  return Number.isFinite(from) && Number.isFinite(to) && to > from ? [from, to] : null;
}

/** At least to the millisecond: a folded gap may lie within. */
export function zoomText(from: number, to: number): string {
  const digits = Math.max(3, Math.ceil(2 - Math.log10(Math.max(1e-9, to - from))));
  return `${Math.max(0, from).toFixed(digits)}-${to.toFixed(digits)}`;
}

/** The part in sight around a point (0 to 1 of it), made so much larger; null when that is all of it. */
export function zoomed(
  [from, to]: readonly [number, number],
  by: number,
  around: number,
  length: number,
): readonly [number, number] | null {
  const width = (to - from) * by;
  if (width >= length) return null;
  const left = Math.min(Math.max(0, from + (to - from - width) * around), length - width);
  return [left, left + width];
}
