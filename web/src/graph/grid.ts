// A layout for any size in linear time: nodes in layers by their longest way from a start, layers that are too high in
// several columns, and the row of layers broken into bands like a text into lines.

export interface Size {
  w: number;
  h: number;
}

export interface Link {
  from: number;
  to: number;
  back: boolean;
}

export interface Spot {
  x: number;
  y: number;
}

export const GAP_X = 48;
export const GAP_Y = 18;
const ASPECT = 1.7;
const SWEEPS = 2;

/** The place of each, and the whole's size. `straight`: the row of layers is not broken, however long. */
export function layered(sizes: readonly Size[], links: readonly Link[], straight = false): { spots: Spot[]; w: number; h: number } {
  const layers = layersOf(sizes.length, links);
  order(layers, sizes.length, links);
  return pack(layers, sizes, straight);
}

/** Longest way from a start; what only cycles lead to comes where its cycle is entered. */
export function layersOf(count: number, links: readonly Link[]): number[][] {
  const { head, next, into } = successors(count, links);
  const depth = new Int32Array(count);
  const queue: number[] = [];
  const done = new Uint8Array(count);
  for (let k = 0; k < count; k++) if (into[k] === 0) queue.push(k);
  let rest = 0;
  for (let at = 0; ; at++) {
    if (at === queue.length) {
      while (rest < count && done[rest]) rest++;
      if (rest === count) break;
      queue.push(rest); // an undeclared cycle: it is entered at its first node
    }
    const node = queue[at]!;
    if (done[node]) continue;
    done[node] = 1;
    for (let k = head[node]!; k >= 0; k = next[k]!) {
      const to = links[k]!.to;
      if (done[to]) continue;
      depth[to] = Math.max(depth[to]!, depth[node]! + 1);
      if (--into[to]! === 0) queue.push(to);
    }
  }
  const layers: number[][] = [];
  for (let node = 0; node < count; node++) {
    const d = depth[node]!;
    while (layers.length <= d) layers.push([]);
    layers[d]!.push(node);
  }
  return layers.filter((layer) => layer.length > 0);
}

function successors(count: number, links: readonly Link[]) {
  const head = new Int32Array(count).fill(-1);
  const next = new Int32Array(links.length).fill(-1);
  const into = new Int32Array(count);
  for (let k = links.length - 1; k >= 0; k--) {
    const { from, to, back } = links[k]!;
    if (back || from === to) continue;
    next[k] = head[from]!;
    head[from] = k;
    into[to]!++;
  }
  return { head, next, into };
}

/** Each near the middle of those before it. */
function order(layers: number[][], count: number, links: readonly Link[]): void {
  const before: number[][] = Array.from({ length: count }, () => []);
  for (const { from, to, back } of links) if (!back && from !== to) before[to]!.push(from);
  const place = new Float64Array(count);
  for (const layer of layers) for (const [k, node] of layer.entries()) place[node] = k / layer.length;
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const layer of layers) {
      const middle = new Map(layer.map((node) => {
        const of = before[node]!;
        return [node, of.length === 0 ? place[node]! : of.reduce((sum, each) => sum + place[each]!, 0) / of.length];
      }));
      layer.sort((a, b) => middle.get(a)! - middle.get(b)! || a - b);
      for (const [k, node] of layer.entries()) place[node] = k / layer.length;
    }
  }
}

interface Block {
  columns: number[][];
  w: number;
  h: number;
}

function pack(layers: readonly number[][], sizes: readonly Size[], straight: boolean): { spots: Spot[]; w: number; h: number } {
  const area = sizes.reduce((sum, { w, h }) => sum + (w + GAP_X) * (h + GAP_Y), 0);
  const high = straight ? Infinity : Math.sqrt(area / ASPECT);
  const blocks = layers.map((layer) => block(layer, sizes, high));
  const spots: Spot[] = sizes.map(() => ({ x: 0, y: 0 }));
  let [y, w] = [0, 0];
  for (const band of bands(blocks, straight ? Infinity : Math.sqrt(area * ASPECT))) {
    const tall = band.reduce((most, each) => Math.max(most, each.h), 0);
    let x = 0;
    for (const each of band) {
      set(each, x, y + (tall - each.h) / 2, sizes, spots);
      x += each.w;
    }
    w = Math.max(w, x - GAP_X);
    y += tall + GAP_Y * 2;
  }
  return { spots, w: Math.max(0, w), h: Math.max(0, y - GAP_Y * 2) };
}

/** A layer in as many columns of one height as it takes to be no higher than `high`. */
function block(layer: readonly number[], sizes: readonly Size[], high: number): Block {
  const whole = layer.reduce((sum, node) => sum + sizes[node]!.h + GAP_Y, 0);
  const each = whole / Math.max(1, Math.ceil(whole / high)) - 1;
  const columns: number[][] = [];
  let [h, tallest] = [each, 0];
  for (const node of layer) {
    if (h >= each) {
      columns.push([]);
      h = 0;
    }
    columns.at(-1)!.push(node);
    h += sizes[node]!.h + GAP_Y;
    tallest = Math.max(tallest, h);
  }
  return { columns, h: tallest - GAP_Y, w: columns.reduce((sum, column) => sum + widest(column, sizes) + GAP_X, 0) };
}

/** One band if it is not much too wide, else several of about one width. */
function bands(blocks: readonly Block[], wide: number): Block[][] {
  const whole = blocks.reduce((sum, each) => sum + each.w, 0);
  const count = whole < wide * 1.7 ? 1 : Math.ceil(whole / (wide * 1.2));
  const out: Block[][] = [];
  let x = Number.POSITIVE_INFINITY;
  for (const each of blocks) {
    if (x + each.w / 2 > whole / count && out.length < count) {
      out.push([]);
      x = 0;
    }
    out.at(-1)!.push(each);
    x += each.w;
  }
  return out;
}

function widest(column: readonly number[], sizes: readonly Size[]): number {
  return column.reduce((most, node) => Math.max(most, sizes[node]!.w), 0);
}

function set(block: Block, left: number, top: number, sizes: readonly Size[], spots: Spot[]): void {
  let x = left;
  for (const column of block.columns) {
    let y = top;
    for (const node of column) {
      spots[node] = { x, y };
      y += sizes[node]!.h + GAP_Y;
    }
    x += widest(column, sizes) + GAP_X;
  }
}
