// What is to be drawn: the diagram with its open groups as levels within levels. No coordinates yet.

import type { Drawn, DrawnArrow, DrawnGroup, DrawnNode } from "../api/types";

export type Kind = "node" | "map" | "sub" | "loop" | "item";

/** Something with a place in a level. */
export interface Item {
  /** Its name among all that is drawn, and in `open`: the node's path; of a loop the head's with a `~`. */
  key: string;
  /** The node whose view tells its status. */
  path: string;
  label: string;
  type: string;
  kind: Kind;
  /** Of a loop: the paths of what is in it. */
  members: readonly string[];
  /** There is a diagram in it. */
  deep: boolean;
  open: boolean;
  inner: Level | null;
}

export interface LevelArrow {
  /** Indices in the level. */
  from: number;
  to: number;
  /** Keys of what is drawn at its ends: those items, or what is open inside of them. */
  fromKey: string;
  toKey: string;
  source: string;
  arrow: DrawnArrow;
}

export interface Level {
  key: string;
  items: Item[];
  arrows: LevelArrow[];
  /** Of an open map: its items stand in a grid, whatever is known of them; `items` are those that are open. */
  grid: { path: string; total: number } | null;
}

/** Items of an open map that are drawn; the table has all. */
export const CELLS_MAX = 20_000;

export interface Ask {
  open: ReadonlySet<string>;
  /** How many items an open map has. */
  total: (path: string) => number;
}

export function scene(drawn: Drawn, ask: Ask): Level {
  return level(drawn, "", ask);
}

/** Whether a name in `open` is the server's business: loops are only a matter of drawing. */
export function isGroup(key: string): boolean {
  return !key.includes("~");
}

function level(drawn: Drawn, prefix: string, ask: Ask): Level {
  const groups = new Map<string, DrawnGroup>();
  for (const group of drawn.groups) if (group.kind !== "loop") groups.set(group.id, group);
  const loops = loopsOf(drawn, prefix);
  const root: Level = { key: prefix, items: [], arrows: [], grid: null };

  // Every node belongs to its innermost loop whose outer loops are all open, or stands for the outermost closed one.
  const home = new Map<Loop | null, Level>([[null, root]]);
  const place = (loop: Loop): Level | null => {
    const found = home.get(loop);
    if (found !== undefined) return found;
    const outer = loop.outer === null ? root : place(loop.outer);
    if (outer === null) return null;
    const open = ask.open.has(loop.key);
    const inner: Level | null = open ? { key: loop.key, items: [], arrows: [], grid: null } : null;
    outer.items.push({
      key: loop.key, path: prefix + loop.head, label: loop.head, type: "loop", kind: "loop",
      members: [...loop.nodes].map((id) => prefix + id), deep: true, open, inner,
    });
    if (inner !== null) home.set(loop, inner);
    closed.add(loop);
    return inner;
  };
  const closed = new Set<Loop>();
  const chains = new Map<string, Chain>();
  for (const node of drawn.nodes) {
    const within = loops.innermost.get(node.id) ?? null;
    const chain: Loop[] = [];
    for (let loop: Loop | null = within; loop !== null; loop = loop.outer) chain.unshift(loop);
    const shut = chain.findIndex((loop) => !ask.open.has(loop.key));
    const kept = shut < 0 ? chain : chain.slice(0, shut + 1);
    for (const loop of kept) if (!closed.has(loop)) place(loop);
    const path = prefix + node.id;
    if (shut < 0) home.get(within)?.items.push(item(node, path, groups.get(node.id) ?? null, ask));
    chains.set(node.id, { keys: kept.map((loop) => loop.key).concat(shut < 0 ? [path] : []), homes: kept });
  }
  connect(drawn.arrows, prefix, root, chains, home);
  return root;
}

interface Chain {
  /** From the level's own item down to what is drawn. */
  keys: string[];
  homes: Loop[];
}

function connect(
  arrows: readonly DrawnArrow[], prefix: string, root: Level, chains: Map<string, Chain>, home: Map<Loop | null, Level>,
): void {
  const indices = new Map<Level, Map<string, number>>();
  for (const at of home.values()) indices.set(at, new Map(at.items.map((each, k) => [each.key, k])));
  for (const arrow of arrows) {
    const a = chains.get(arrow.source);
    const b = chains.get(arrow.target);
    if (a === undefined || b === undefined) continue; // an arrow to a node that isn't there: the faults say so
    let depth = 0;
    while (depth < a.keys.length - 1 && depth < b.keys.length - 1 && a.keys[depth] === b.keys[depth]) depth++;
    const fromKey = a.keys.at(-1)!;
    const toKey = b.keys.at(-1)!;
    if (fromKey === toKey && arrow.source !== arrow.target) continue; // inside of what is closed
    if (fromKey.includes("~") && fromKey === toKey) continue;
    const at = depth === 0 ? root : home.get(a.homes[depth - 1]!);
    const index = at && indices.get(at);
    const from = index?.get(a.keys[depth]!);
    const to = index?.get(b.keys[depth]!);
    if (at === undefined || from === undefined || to === undefined) continue;
    at.arrows.push({ from, to, fromKey, toKey, source: prefix + arrow.source, arrow });
  }
}

function item(node: DrawnNode, path: string, group: DrawnGroup | null, ask: Ask): Item {
  const kind: Kind = group === null ? "node" : group.kind === "map" ? "map" : "sub";
  const open = group !== null && ask.open.has(path);
  return {
    key: path, path, label: node.label || node.id, type: node.type, kind, members: [], deep: Boolean(group?.drawn), open,
    inner: !open ? null : kind === "map" ? mapLevel(path, group, ask) : group.drawn ? level(group.drawn, `${path}/`, ask) : null,
  };
}

function mapLevel(path: string, group: DrawnGroup, ask: Ask): Level {
  const total = Math.min(CELLS_MAX, ask.total(path));
  // before it is expanded: what each item will be
  if (total === 0 && group.drawn) return level(group.drawn, `${path}[]/`, ask);
  const items: Item[] = [];
  if (group.drawn) {
    const drawn = group.drawn;
    const from = `${path}[`;
    for (const key of ask.open) {
      const rest = key.startsWith(from) ? /^(\d+)\]$/.exec(key.slice(from.length)) : null;
      if (rest === null || Number(rest[1]) >= total) continue;
      items.push({
        key: `${key}/`, path: key, label: key, type: drawn.name, kind: "sub", members: [], deep: true, open: true,
        inner: level(drawn, `${key}/`, ask),
      });
    }
    items.sort((a, b) => Number(a.path.slice(from.length, -1)) - Number(b.path.slice(from.length, -1)));
  }
  return { key: `${path}[]`, items, arrows: [], grid: { path, total } };
}

interface Loop {
  key: string;
  head: string;
  nodes: ReadonlySet<string>;
  outer: Loop | null;
}

/** Loops by containment: the outer one of a loop is the smallest that holds all of it and more. */
function loopsOf(drawn: Drawn, prefix: string): { innermost: Map<string, Loop> } {
  const seen = new Map<string, number>();
  const loops: Loop[] = drawn.groups.filter((group) => group.kind === "loop").map((group) => {
    const n = (seen.get(group.id) ?? 0) + 1;
    seen.set(group.id, n);
    return { key: `${prefix}~${group.id}${n > 1 ? `~${n}` : ""}`, head: group.id, nodes: new Set(group.nodes ?? []), outer: null };
  });
  loops.sort((a, b) => a.nodes.size - b.nodes.size);
  const innermost = new Map<string, Loop>();
  for (const [k, loop] of loops.entries()) {
    const one = loop.nodes.values().next().value;
    loop.outer = loops.slice(k + 1).find((wider) => wider.nodes.size > loop.nodes.size && one !== undefined && wider.nodes.has(one)) ?? null;
    for (const id of loop.nodes) if (!innermost.has(id)) innermost.set(id, loop);
  }
  return { innermost };
}
