// Which boxes and lines lie in a rectangle, without looking at all of them.

export interface Rect {
  x: number;
  y: number;
  w: number;
  h: number;
}

const CELL = 800;
const CELLS_MAX = 400; // what spans more is looked at every time

export class Space<T> {
  private readonly cells = new Map<string, number[]>();
  private readonly wide: number[] = [];
  private readonly stamp: Int32Array;
  private turn = 0;

  constructor(private readonly things: readonly T[], private readonly rectOf: (thing: T) => Rect) {
    this.stamp = new Int32Array(things.length);
    for (const [k, thing] of things.entries()) this.add(k, rectOf(thing));
  }

  private add(k: number, { x, y, w, h }: Rect): void {
    const [left, right] = [Math.floor(x / CELL), Math.floor((x + w) / CELL)];
    const [top, bottom] = [Math.floor(y / CELL), Math.floor((y + h) / CELL)];
    if ((right - left + 1) * (bottom - top + 1) > CELLS_MAX) {
      this.wide.push(k);
      return;
    }
    for (let column = left; column <= right; column++) {
      for (let row = top; row <= bottom; row++) {
        const name = `${column} ${row}`;
        const cell = this.cells.get(name);
        if (cell === undefined) this.cells.set(name, [k]);
        else cell.push(k);
      }
    }
  }

  /** In the order in which they were given. */
  within(rect: Rect): T[] {
    const [left, right] = [Math.floor(rect.x / CELL), Math.floor((rect.x + rect.w) / CELL)];
    const [top, bottom] = [Math.floor(rect.y / CELL), Math.floor((rect.y + rect.h) / CELL)];
    if ((right - left + 1) * (bottom - top + 1) > this.cells.size) {
      return this.things.filter((thing) => meet(this.rectOf(thing), rect));
    }
    this.turn++;
    const found: number[] = [];
    const look = (k: number) => {
      if (this.stamp[k] === this.turn) return;
      this.stamp[k] = this.turn;
      if (meet(this.rectOf(this.things[k]!), rect)) found.push(k);
    };
    this.wide.forEach(look);
    for (let column = left; column <= right; column++) {
      for (let row = top; row <= bottom; row++) this.cells.get(`${column} ${row}`)?.forEach(look);
    }
    return found.sort((a, b) => a - b).map((k) => this.things[k]!);
  }

  /** The last, that is the innermost, at a point. */
  at(x: number, y: number): T | null {
    return this.within({ x, y, w: 0, h: 0 }).at(-1) ?? null;
  }
}

export function meet(a: Rect, b: Rect): boolean {
  return a.x <= b.x + b.w && b.x <= a.x + a.w && a.y <= b.y + b.h && b.y <= a.y + a.h;
}

/** The rectangle around points. */
export function around(points: readonly { x: number; y: number }[]): Rect {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  return { x: left, y: top, w: right - left, h: bottom - top };
}
