// From levels to boxes and lines with absolute places. Inner levels are laid out first: they give their item its size.

import { byElk, type Routed, WAIT_S } from "./elk";
import { GAP_X, layered, type Link, type Size, type Spot } from "./grid";
import type { Item, Kind, Level, LevelArrow } from "./scene";

export const NODE_W = 208;
export const NODE_H = 46;
export const GROUP_H = 62;
export const HEAD_H = 34;
export const PAD = 16;
export const CELL_W = 62;
export const CELL_H = 24;
const FRAME_W_MIN = 290;
const CELL_GAP = 6;
const GRID_ASPECT = 2.2;
const COLUMNS_MIN = 4; // as wide as the frame is anyway

export interface Box {
  key: string;
  path: string;
  label: string;
  type: string;
  kind: Kind;
  /** It is open: a frame around what is in it. */
  frame: boolean;
  members: readonly string[];
  /** There is a diagram in it. */
  deep: boolean;
  x: number;
  y: number;
  w: number;
  h: number;
  depth: number;
}

export interface Line {
  key: string;
  fromKey: string;
  toKey: string;
  source: string;
  port: string;
  label: string;
  back: boolean;
  points: Spot[];
  /** Orthogonal with round corners, or a curve between its two points. */
  curved: boolean;
  down: boolean;
}

export interface Layout {
  boxes: Box[];
  lines: Line[];
  byKey: ReadonlyMap<string, Box>;
  w: number;
  h: number;
  /** Some level was too large for elk. */
  coarse: boolean;
}

interface Laid extends Size {
  spots: Spot[];
  routes: (Spot[] | null)[];
  inner: (Laid | null)[];
  cells: Spot[];
  coarse: boolean;
}

/** A draft of so few looks like what elk will make of them. */
const STRAIGHT_MAX = 60;

const remembered = new Map<string, Routed>();
const REMEMBERED_MAX = 64;

/** `down`: from top to bottom, for a narrow place; what is too large for elk goes from left to right all the same. */
export async function layout(level: Level, seed: string, down = false, wait_s = WAIT_S): Promise<Layout> {
  const until = performance.now() + wait_s * 1000;
  const laid = await lay(level, `${seed} ${down}`, down, () => (until - performance.now()) / 1000);
  const out: Layout = { boxes: [], lines: [], byKey: new Map(), w: laid.w, h: laid.h, coarse: laid.coarse };
  const byKey = new Map<string, Box>();
  flatten(level, laid, 0, 0, 0, out, byKey);
  for (const line of out.lines) finish(line, byKey, down && !laid.coarse);
  return { ...out, lines: out.lines.filter((line) => line.points.length > 1), byKey };
}

async function lay(level: Level, seed: string, down: boolean, left_s: () => number): Promise<Laid> {
  const inner: (Laid | null)[] = [];
  for (const item of level.items) inner.push(item.inner === null ? null : await lay(item.inner, seed, down, left_s));
  const sizes = level.items.map((item, k) => sizeOf(item, inner[k] ?? null));
  if (level.grid !== null) return gridded(level.grid.total, sizes, inner);
  const links: Link[] = level.arrows.map(({ from, to, arrow }) => ({ from, to, back: arrow.back === true }));
  const key = `${seed} ${level.key} ${sizes.map(({ w, h }) => `${w}x${h}`).join()} ${links.length}`;
  let routed = remembered.get(key) ?? null;
  if (routed === null && sizes.length > 0) {
    routed = await byElk(sizes, links, down, left_s());
    if (routed !== null) {
      if (remembered.size >= REMEMBERED_MAX) remembered.delete(remembered.keys().next().value!);
      remembered.set(key, routed);
    }
  }
  const coarse = inner.some((each) => each?.coarse);
  if (routed !== null) return { ...routed, inner, cells: [], coarse };
  const { spots, w, h } = layered(sizes, links, left_s() <= 0 && sizes.length <= STRAIGHT_MAX);
  return { spots, w, h, routes: links.map(() => null), inner, cells: [], coarse: coarse || sizes.length > 0 };
}

function sizeOf(item: Item, inner: Laid | null): Size {
  if (item.open && inner !== null) {
    return { w: Math.max(FRAME_W_MIN, inner.w + 2 * PAD), h: inner.h + HEAD_H + PAD };
  }
  return { w: NODE_W, h: item.kind === "node" ? NODE_H : GROUP_H };
}

/** Where the items of a map stand, whoever of them is there. */
export function cellSpots(total: number): { spots: Spot[]; w: number; h: number } {
  const columns = Math.max(1, Math.min(total, Math.max(COLUMNS_MIN, Math.round(Math.sqrt((total * GRID_ASPECT * CELL_H) / CELL_W)))));
  const spots = Array.from({ length: total }, (_, k) => ({
    x: (k % columns) * (CELL_W + CELL_GAP), y: Math.floor(k / columns) * (CELL_H + CELL_GAP),
  }));
  const rows = Math.ceil(total / columns);
  return { spots, w: Math.max(0, columns * (CELL_W + CELL_GAP) - CELL_GAP), h: Math.max(0, rows * (CELL_H + CELL_GAP) - CELL_GAP) };
}

function gridded(total: number, sizes: readonly Size[], inner: (Laid | null)[]): Laid {
  const grid = cellSpots(total);
  let { w, h } = grid;
  const spots = sizes.map((size) => {
    const y = h + PAD;
    h = y + size.h;
    w = Math.max(w, size.w);
    return { x: 0, y };
  });
  return { spots, w, h, routes: [], inner, cells: grid.spots, coarse: inner.some((each) => each?.coarse) };
}

function flatten(level: Level, laid: Laid, x: number, y: number, depth: number, out: Layout, byKey: Map<string, Box>): void {
  const add = (box: Box) => {
    out.boxes.push(box);
    byKey.set(box.key, box);
  };
  if (level.grid !== null) {
    const { path } = level.grid;
    for (const [k, spot] of laid.cells.entries()) {
      const key = `${path}[${k}]`;
      add({
        key, path: key, label: String(k), type: "", kind: "item", frame: false, members: [], deep: false,
        x: x + spot.x, y: y + spot.y, w: CELL_W, h: CELL_H, depth,
      });
    }
  }
  for (const [k, item] of level.items.entries()) {
    const spot = laid.spots[k]!;
    const within = laid.inner[k] ?? null;
    const size = sizeOf(item, within);
    const frame = item.open && within !== null;
    const [left, top] = [x + spot.x, y + spot.y];
    add({
      key: item.key, path: item.path, label: item.label, type: item.type, kind: item.kind, frame,
      members: item.members, deep: item.deep, x: left, y: top, w: size.w, h: size.h, depth,
    });
    if (frame && item.inner !== null && within !== null) {
      flatten(item.inner, within, left + PAD, top + HEAD_H, depth + 1, out, byKey);
    }
  }
  for (const [k, each] of level.arrows.entries()) out.lines.push(line(level, each, k, laid.routes[k] ?? null, x, y));
}

function line(level: Level, each: LevelArrow, k: number, route: Spot[] | null, x: number, y: number): Line {
  const direct = level.items[each.from]?.key === each.fromKey && level.items[each.to]?.key === each.toKey;
  const { arrow } = each;
  return {
    key: `${level.key}:${k}`, fromKey: each.fromKey, toKey: each.toKey, source: each.source, port: arrow.port,
    label: arrow.label || (arrow.port !== "default" ? arrow.port : ""), back: arrow.back === true,
    points: direct && route !== null ? route.map((spot) => ({ x: x + spot.x, y: y + spot.y })) : [], curved: false, down: false,
  };
}

/** A line that nobody routed goes from the end of the one to the beginning of the other. */
function finish(line: Line, byKey: ReadonlyMap<string, Box>, down: boolean): void {
  if (line.points.length > 0) return;
  const a = byKey.get(line.fromKey);
  const b = byKey.get(line.toKey);
  if (a === undefined || b === undefined) return;
  line.curved = true;
  line.down = down;
  line.points = down ? [{ x: a.x + a.w / 2, y: a.y + a.h }, { x: b.x + b.w / 2, y: b.y }]
    : [{ x: a.x + a.w, y: middle(a) }, { x: b.x, y: middle(b) }];
}

function middle(box: Box): number {
  return box.frame ? box.y + HEAD_H / 2 : box.y + box.h / 2;
}

/** As an SVG path. */
export function pathOf(line: Line): string {
  const [first, ...rest] = line.points;
  if (first === undefined) return "";
  const last = line.points.at(-1)!;
  if (line.curved && line.down) {
    const reach = Math.max(GAP_X / 2, Math.min(160, Math.abs(last.y - first.y) / 2));
    return `M${first.x} ${first.y}C${first.x} ${first.y + reach} ${last.x} ${last.y - reach} ${last.x} ${last.y}`;
  }
  if (line.curved) {
    const reach = Math.max(GAP_X / 2, Math.min(160, Math.abs(last.x - first.x) / 2));
    return `M${first.x} ${first.y}C${first.x + reach} ${first.y} ${last.x - reach} ${last.y} ${last.x} ${last.y}`;
  }
  let path = `M${first.x} ${first.y}`;
  let before = first;
  for (const [k, spot] of rest.entries()) {
    const after = rest[k + 1];
    if (after === undefined) {
      path += `L${spot.x} ${spot.y}`;
      break;
    }
    const r = Math.min(7, far(before, spot) / 2, far(spot, after) / 2);
    const a = toward(spot, before, r);
    const b = toward(spot, after, r);
    path += `L${a.x} ${a.y}Q${spot.x} ${spot.y} ${b.x} ${b.y}`;
    before = spot;
  }
  return path;
}

function far(a: Spot, b: Spot): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

function toward(from: Spot, to: Spot, by: number): Spot {
  const whole = far(from, to) || 1;
  return { x: from.x + ((to.x - from.x) * by) / whole, y: from.y + ((to.y - from.y) * by) / whole };
}
