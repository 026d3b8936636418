// The rows of the timeline: a row for each node; what is inside a group below it while the group is open.

import { comparePaths, parentOf } from "../live/paths";
import { begin, type Cells } from "./cells";

export interface Row {
  path: string;
  depth: number;
  /** Paths directly inside, in the order of their rows; empty for a leaf. */
  inside: readonly string[];
  open: boolean;
}

export interface Tree {
  roots: readonly string[];
  inside: ReadonlyMap<string, readonly string[]>;
}

/** Who is inside whom, each list by first instants (`all`: paths that have no cells yet come last). */
export function tree(cells: Cells, all: Iterable<string> = []): Tree {
  const first = new Map<string, number>();
  for (const path of cells.paths()) {
    const cell = cells.of(path)[0];
    first.set(path, (cell && begin(cell)) ?? Infinity);
  }
  for (const path of all) if (!first.has(path)) first.set(path, Infinity);
  const inside = new Map<string, string[]>();
  const roots: string[] = [];
  for (const path of first.keys()) {
    const parent = parentOf(path);
    if (parent === null || !first.has(parent)) roots.push(path);
    else {
      const list = inside.get(parent);
      if (list === undefined) inside.set(parent, [path]);
      else list.push(path);
    }
  }
  const byTime = (a: string, b: string) => {
    const [x, y] = [first.get(a) ?? 0, first.get(b) ?? 0];
    return x === y ? comparePaths(a, b) : x - y;
  };
  roots.sort(byTime);
  for (const list of inside.values()) list.sort(list[0]?.endsWith("]") ? comparePaths : byTime);
  return { roots, inside };
}

export function rows({ roots, inside }: Tree, open: ReadonlySet<string>): Row[] {
  const found: Row[] = [];
  const add = (paths: readonly string[], depth: number) => {
    for (const path of paths) {
      const mine = inside.get(path) ?? [];
      const shown = mine.length > 0 && open.has(path);
      found.push({ path, depth, inside: mine, open: shown });
      if (shown) add(mine, depth + 1);
    }
  };
  add(roots, 0);
  return found;
}

/** All leaves below a path. */
export function leaves({ inside }: Tree, path: string): string[] {
  const found: string[] = [];
  const walk = (at: string) => {
    const mine = inside.get(at);
    if (mine === undefined) found.push(at);
    else mine.forEach(walk);
  };
  walk(path);
  return found;
}
