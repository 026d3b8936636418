// How an execution went, as two lines over its time: nodes that ended in a second, and nodes at work.

import { parentOf } from "../live/paths";
import { type Cells, ENDED } from "../timeline/cells";
import type { Folding } from "../timeline/folding";
import { segments } from "../timeline/segments";

export interface Series {
  /** The middle of each part, on the scale: idle time takes little of it. */
  at: number[];
  /** Ended nodes a second. */
  rate: number[];
  /** How many were at work, on average. */
  running: number[];
}

/** All of the time that a scale spans, in so many parts. What has others in it doesn't count: those do. */
export function series(cells: Cells, folding: Folding, parts: number): Series {
  const { from, to } = folding;
  const wide = Math.max(folding.length, 1e-6) / parts;
  const rate = new Array<number>(parts).fill(0);
  const whole = new Float64Array(parts + 1); // of parts that a node was at work all the time: begins and ends
  const rest = new Float64Array(parts);
  const inner = new Set<string>();
  for (const path of cells.paths()) {
    const parent = parentOf(path);
    if (parent !== null) inner.add(parent);
  }
  const place = (time: number) => folding.toScale(time) / wide;
  const part = (time: number) => Math.min(parts - 1, Math.max(0, Math.floor(place(time))));
  const edges = Array.from({ length: parts + 1 }, (_, k) => folding.toTime(k * wide));
  for (const path of cells.paths()) {
    if (inner.has(path)) continue;
    for (const { status, started, ended } of cells.of(path)) {
      if (ended !== null && started !== null && ENDED.has(status) && ended >= from) rate[part(ended)]!++;
    }
    for (const segment of segments(cells.of(path), to)) {
      if (segment.kind !== "running" || segment.to < from) continue;
      const [a, b] = [place(Math.max(from, segment.from)), place(Math.min(to, segment.to))];
      const [first, last] = [part(segment.from), part(segment.to)];
      if (first === last) {
        rest[first]! += b - a;
        continue;
      }
      rest[first]! += first + 1 - a;
      rest[last]! += b - last;
      whole[first + 1]! += 1;
      whole[last]! -= 1;
    }
  }
  for (let k = 0; k < parts; k++) rate[k]! /= Math.max(1e-6, edges[k + 1]! - edges[k]!);
  let sum = 0;
  const running = Array.from(rest, (share, k) => (sum += whole[k]!) + share);
  return { at: running.map((_, k) => (k + 0.5) * wide), rate, running };
}
