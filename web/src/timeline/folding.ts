// A scale of time in which long idle gaps take a small fixed width: an answer that came the next morning must not
// squeeze the work of a minute into one pixel.

export interface Gap {
  from: number;
  to: number;
}

interface Piece extends Gap {
  /** Where it begins and ends on the scale, in seconds as they are drawn. */
  u0: number;
  u1: number;
  folded: boolean;
}

export interface FoldOptions {
  /** Gaps that take less than this part of the whole stay as they are. */
  least?: number;
  /** The width of a folded gap, as a part of what is not folded. */
  width?: number;
  /** Shorter gaps are never folded, in seconds. */
  least_s?: number;
}

/** Where nothing is in [from, to]; `spans` in any order. */
export function gaps(spans: Iterable<Gap>, from: number, to: number): Gap[] {
  const sorted = [...spans].sort((a, b) => a.from - b.from);
  const found: Gap[] = [];
  let reached = from;
  for (const span of sorted) {
    if (span.from > reached) found.push({ from: reached, to: Math.min(span.from, to) });
    reached = Math.max(reached, span.to);
    if (reached >= to) break;
  }
  if (reached < to) found.push({ from: reached, to });
  return found.filter((gap) => gap.to > gap.from);
}

export class Folding {
  private readonly pieces: Piece[] = [];
  /** The length of the scale, in seconds as they are drawn. */
  readonly length: number;

  constructor(
    readonly from: number,
    readonly to: number,
    idle: readonly Gap[] = [],
    options: FoldOptions = {},
  ) {
    const { least = 0.15, width = 0.06, least_s = 1 } = options;
    const total = to - from;
    const fold = idle.filter((gap) => gap.to - gap.from >= Math.max(least_s, least * total));
    const rest = total - fold.reduce((sum, gap) => sum + gap.to - gap.from, 0);
    // where all is idle there is nothing to compare with
    const each = rest > 0 ? rest * width : 1;
    let [at, u] = [from, 0];
    const add = (until: number, length: number, folded: boolean) => {
      if (until > at) this.pieces.push({ from: at, to: until, u0: u, u1: u + length, folded });
      u += until > at ? length : 0;
      at = until;
    };
    for (const gap of fold) {
      add(gap.from, gap.from - at, false);
      add(gap.to, Math.min(each, gap.to - gap.from), true);
    }
    add(to, to - at, false);
    this.length = u;
  }

  /** The gaps that are folded, with their places on the scale. */
  folds(): readonly Piece[] {
    return this.pieces.filter((piece) => piece.folded);
  }

  /** The place of an instant. Those outside go on at the pace of seconds, or stand still where the end is idle. */
  toScale(time: number): number {
    if (time <= this.from) return time - this.from;
    if (time >= this.to) return this.length + (this.pieces.at(-1)?.folded ? 0 : time - this.to);
    const piece = this.find((one) => one.to > time);
    return piece.u0 + ((time - piece.from) / (piece.to - piece.from)) * (piece.u1 - piece.u0);
  }

  /** The instant at a place. */
  toTime(u: number): number {
    if (u <= 0) return this.from + u;
    if (u >= this.length) return this.to + u - this.length;
    const piece = this.find((one) => one.u1 > u);
    return piece.from + ((u - piece.u0) / (piece.u1 - piece.u0)) * (piece.to - piece.from);
  }

  /** The first piece that is so; the pieces are in order, so halve. */
  private find(so: (piece: Piece) => boolean): Piece {
    let [low, high] = [0, this.pieces.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (so(this.pieces[middle] as Piece)) high = middle;
      else low = middle + 1;
    }
    return this.pieces[low] as Piece;
  }
}

/** Round instants for an axis: at most `most` of them in [from, to], and the step between them in seconds. */
export function ticks(from: number, to: number, most: number): { step: number; at: number[] } {
  const least = (to - from) / Math.max(1, most);
  const step = STEPS.find((one) => one >= least) ?? Math.ceil(least / DAY) * DAY;
  const at: number[] = [];
  for (let n = Math.ceil(from / step - 1e-9); n * step <= to + 1e-9 && at.length <= most; n++)
    at.push(n * step);
  return { step, at };
}

const DAY = 86400;
const STEPS = [
  ...[1e-4, 1e-3, 1e-2, 0.1, 1].flatMap((unit) => [unit, 2 * unit, 5 * unit]),
  10,
  15,
  30,
  60,
  120,
  300,
  600,
  900,
  1800,
  3600,
  7200,
  10800,
  21600,
  43200,
  DAY,
];
