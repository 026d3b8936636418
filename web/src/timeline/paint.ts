// Draws the rows that are in sight. Kinds are told apart by pattern as well as by colour: queued is an outline,
// running solid, waiting hatched, a pause before a retry a dotted line.

import type { NodeStatus } from "../api/types";
import { color } from "../app/theme";
import { clock, seconds } from "../common/format";
import type { Labels } from "../live/labels";
import { shortName } from "../live/paths";
import type { Cells } from "./cells";
import { type Folding, ticks } from "./folding";
import type { Row } from "./rows";
import { type Segment, segments } from "./segments";

export const ROW = 24;
export const AXIS = 30;
const BAR = 12;
const INDENT = 14;

/** The part of the scale in sight, and where it lies on the canvas, in CSS pixels. */
export interface Frame {
  width: number;
  height: number;
  /** Width of the names. */
  names: number;
  scroll: number;
  folding: Folding;
  u0: number;
  u1: number;
  now: number;
  at: number | null;
  began: number;
}

export const toX = (frame: Frame, time: number): number =>
  frame.names +
  ((frame.folding.toScale(time) - frame.u0) / (frame.u1 - frame.u0)) * (frame.width - frame.names);

export const toTime = (frame: Frame, x: number): number =>
  frame.folding.toTime(frame.u0 + ((x - frame.names) / (frame.width - frame.names)) * (frame.u1 - frame.u0));

export const rowAt = (frame: Frame, y: number): number => Math.floor((y - AXIS + frame.scroll) / ROW);

export interface Scene {
  frame: Frame;
  rows: readonly Row[];
  cells: Cells;
  leaves: (path: string) => readonly string[];
  selected: string | null;
  hover: number | null;
  brush: readonly [number, number] | null;
  font: string;
  labels: Labels;
}

export function paint(context: CanvasRenderingContext2D, scene: Scene): void {
  const { frame, rows, selected, hover } = scene;
  context.clearRect(0, 0, frame.width, frame.height);
  context.save();
  context.beginPath();
  context.rect(0, AXIS, frame.width, frame.height - AXIS);
  context.clip();
  const first = Math.max(0, Math.floor(frame.scroll / ROW));
  const last = Math.min(rows.length, Math.ceil((frame.scroll + frame.height - AXIS) / ROW));
  for (let n = first; n < last; n++) {
    const row = rows[n] as Row;
    if (row.path !== selected && n !== hover) continue;
    context.fillStyle = color(row.path === selected ? "selected" : "hover");
    context.fillRect(0, AXIS + n * ROW - frame.scroll, frame.width, ROW);
  }
  grid(context, frame);
  for (let n = first; n < last; n++) {
    const row = rows[n] as Row;
    const y = AXIS + n * ROW - frame.scroll;
    bars(context, scene, row, y);
    label(context, scene, row, y);
  }
  context.restore();
  axis(context, scene);
  line(context, scene);
}

function label(context: CanvasRenderingContext2D, { frame, cells, font, labels }: Scene, row: Row, y: number): void {
  const x = 10 + row.depth * INDENT;
  context.save();
  context.beginPath();
  context.rect(0, y, frame.names - 8, ROW);
  context.clip();
  context.font = font;
  context.textBaseline = "middle";
  if (row.inside.length > 0) {
    context.fillStyle = color("muted");
    arrow(context, x + 3, y + ROW / 2, row.open);
  }
  const status = cells.of(row.path).at(-1)?.status;
  context.fillStyle = color(status === "failed" ? "failed" : status === undefined ? "muted" : "text");
  const more = row.inside.length > 0 ? `  ${row.inside.length.toLocaleString("en-US")}` : "";
  const name = labels(row.path) ?? (row.depth > 0 ? shortName(row.path) : row.path);
  context.fillText(name, x + INDENT, y + ROW / 2);
  if (more) {
    const after = context.measureText(name).width;
    context.fillStyle = color("muted");
    context.fillText(more, x + INDENT + after, y + ROW / 2);
  }
  context.restore();
}

function arrow(context: CanvasRenderingContext2D, x: number, y: number, open: boolean): void {
  context.beginPath();
  if (open)
    for (const [dx, dy] of [
      [-4, -2],
      [4, -2],
      [0, 3],
    ] as const)
      context.lineTo(x + dx, y + dy);
  else
    for (const [dx, dy] of [
      [-2, -4],
      [-2, 4],
      [3, 0],
    ] as const)
      context.lineTo(x + dx, y + dy);
  context.fill();
}

function bars(context: CanvasRenderingContext2D, scene: Scene, row: Row, y: number): void {
  const { frame, cells } = scene;
  context.save();
  context.beginPath();
  context.rect(frame.names, y, frame.width - frame.names, ROW);
  context.clip();
  const top = y + (ROW - BAR) / 2;
  if (row.inside.length > 0) {
    for (const segment of segments(cells.of(row.path), frame.now)) outline(context, frame, segment, y);
    if (!row.open) density(context, scene, row, top);
  } else {
    for (const segment of segments(cells.of(row.path), frame.now)) bar(context, frame, segment, top);
  }
  context.restore();
}

/** Where a group was at work: a thin line above what is inside it. */
function outline(context: CanvasRenderingContext2D, frame: Frame, segment: Segment, y: number): void {
  const [x0, x1] = [toX(frame, segment.from), toX(frame, segment.to)];
  if (x1 < frame.names || x0 > frame.width) return;
  context.fillStyle = color(tint(segment));
  context.globalAlpha = 0.9;
  context.fillRect(x0, y + 3, Math.max(1, x1 - x0), 2);
  context.globalAlpha = 1;
}

/** How many inside a closed group were at work, column by column; red where one failed. */
function density(
  context: CanvasRenderingContext2D,
  { frame, cells, leaves }: Scene,
  row: Row,
  top: number,
): void {
  const width = Math.max(1, Math.ceil(frame.width - frame.names));
  const change = new Float32Array(width + 2);
  const failed = new Uint8Array(width + 1);
  for (const path of leaves(row.path)) {
    for (const one of segments(cells.of(path), frame.now)) {
      if (one.kind !== "running" && one.kind !== "waiting") continue;
      const x0 = Math.floor(toX(frame, one.from) - frame.names);
      const x1 = Math.ceil(toX(frame, one.to) - frame.names);
      if (x1 < 0 || x0 > width) continue;
      const from = Math.max(0, x0);
      change[from] = (change[from] ?? 0) + 1;
      const to = Math.min(width, Math.max(x1, x0 + 1));
      change[to] = (change[to] ?? 0) - 1;
      if (one.status === "failed" && x1 >= 0 && x1 <= width) failed[Math.max(0, x1 - 1)] = 1;
    }
  }
  let [most, sum] = [0, 0];
  for (let x = 0; x < width; x++) most = Math.max(most, (sum += change[x] ?? 0));
  if (most <= 0) return;
  const last = segments(cells.of(row.path), frame.now).at(-1);
  context.fillStyle = color(last && !last.open ? tint(last) : "running");
  context.globalAlpha = 0.75;
  sum = 0;
  const bottom = top + BAR + 3;
  for (let x = 0; x < width; x++) {
    sum += change[x] ?? 0;
    if (sum <= 0) continue;
    const height = Math.max(2, (sum / most) * (BAR + 2));
    context.fillRect(frame.names + x, bottom - height, 1, height);
  }
  context.globalAlpha = 1;
  context.fillStyle = color("failed");
  for (let x = 0; x < width; x++)
    if (failed[x]) context.fillRect(frame.names + x - 1, bottom - BAR - 2, 2, BAR + 2);
}

const tint = ({ kind, status, open }: Segment): NodeStatus =>
  kind === "waiting"
    ? "suspended"
    : kind === "pause"
      ? "retrying"
      : kind === "queued"
        ? "scheduled"
        : open
          ? "running"
          : status;

function bar(context: CanvasRenderingContext2D, frame: Frame, segment: Segment, top: number): void {
  const [x0, x1] = [toX(frame, segment.from), toX(frame, segment.to)];
  if (x1 < frame.names - 4 || x0 > frame.width) return;
  const width = Math.max(segment.kind === "mark" ? 0 : 1.5, x1 - x0);
  context.fillStyle = context.strokeStyle = color(tint(segment));
  context.lineWidth = 1;
  const middle = top + BAR / 2;
  switch (segment.kind) {
    case "running":
      context.fillRect(x0, top, width > 4 ? width - 0.75 : width, BAR); // so that turns don't run together
      if (segment.status === "failed" && width > 7) cross(context, x0 + width - 4, middle);
      break;
    case "queued":
      context.strokeRect(x0 + 0.5, middle - 2.5, Math.max(0, width - 1), 5);
      break;
    case "waiting":
      context.strokeRect(x0 + 0.5, top + 0.5, Math.max(0, width - 1), BAR - 1);
      hatch(context, Math.max(x0, frame.names), top, Math.min(x0 + width, frame.width), BAR);
      break;
    case "pause":
      for (let x = Math.max(x0 + 2, frame.names); x < Math.min(x1, frame.width); x += 5)
        context.fillRect(x, middle - 1, 2, 2);
      break;
    case "mark":
      context.beginPath();
      for (const [dx, dy] of [
        [-4, 0],
        [0, -4],
        [4, 0],
        [0, 4],
      ] as const)
        context.lineTo(x0 + dx, middle + dy);
      context.closePath();
      context.stroke();
  }
}

function cross(context: CanvasRenderingContext2D, x: number, y: number): void {
  context.strokeStyle = color("surface");
  context.lineWidth = 1.6;
  context.beginPath();
  context.moveTo(x - 2.5, y - 2.5);
  context.lineTo(x + 2.5, y + 2.5);
  context.moveTo(x + 2.5, y - 2.5);
  context.lineTo(x - 2.5, y + 2.5);
  context.stroke();
}

function hatch(context: CanvasRenderingContext2D, x0: number, top: number, x1: number, height: number): void {
  context.save();
  context.beginPath();
  context.rect(x0, top, x1 - x0, height);
  context.clip();
  context.beginPath();
  // in step with the canvas, so that it stands still while the bar grows
  for (let x = Math.floor((x0 - height) / 6) * 6; x < x1; x += 6) {
    context.moveTo(x, top + height);
    context.lineTo(x + height, top);
  }
  context.stroke();
  context.restore();
}

function grid(context: CanvasRenderingContext2D, frame: Frame): void {
  context.fillStyle = color("line");
  for (const { x } of marks(frame)) context.fillRect(Math.round(x), AXIS, 1, frame.height - AXIS);
  context.fillStyle = color("sunken");
  for (const fold of frame.folding.folds()) {
    const [x0, x1] = [toX(frame, fold.from), toX(frame, fold.to)];
    context.fillRect(Math.max(x0, frame.names), AXIS, x1 - Math.max(x0, frame.names), frame.height);
  }
}

interface Mark {
  x: number;
  text: string;
}

/** Where the axis has its marks: seconds since the beginning, none within a fold. */
function marks(frame: Frame): Mark[] {
  const [from, to] = [frame.folding.toTime(frame.u0), frame.folding.toTime(frame.u1)];
  const drawn = frame.u1 - frame.u0;
  const most = Math.max(2, Math.floor((frame.width - frame.names) / 90));
  // steps fit what is drawn; across a fold there would be thousands, so each part has its own
  const { step } = ticks(0, drawn, most);
  const found: Mark[] = [];
  let at = from;
  const parts = [...frame.folding.folds().map((fold) => [fold.from, fold.to] as const), [to, to] as const];
  for (const [end, next] of parts) {
    for (let n = Math.ceil((at - frame.began) / step - 1e-6); at < to; n++) {
      const time = frame.began + n * step;
      if (time > Math.min(end, to) || found.length > 4 * most) break;
      const x = toX(frame, time);
      if (x >= frame.names - 1) found.push({ x, text: n === 0 ? "0" : seconds(n * step) });
    }
    at = Math.max(at, next);
  }
  return found;
}

function axis(context: CanvasRenderingContext2D, { frame, font, brush }: Scene): void {
  context.fillStyle = color("surface");
  context.fillRect(0, 0, frame.width, AXIS);
  context.fillStyle = color("line");
  context.fillRect(0, AXIS - 1, frame.width, 1);
  context.fillRect(frame.names - 1, 0, 1, frame.height);
  context.font = font;
  context.textBaseline = "middle";
  context.save();
  context.beginPath();
  context.rect(frame.names, 0, frame.width - frame.names, AXIS);
  context.clip();
  let free = frame.names;
  for (const fold of frame.folding.folds()) {
    const [x0, x1] = [toX(frame, fold.from), toX(frame, fold.to)];
    if (x1 < frame.names || x0 > frame.width) continue;
    context.fillStyle = color("sunken");
    context.fillRect(x0, 0, x1 - x0, AXIS - 1);
    context.fillStyle = color("muted");
    const text = seconds(fold.to - fold.from)
      .split(" ")
      .slice(0, 2)
      .join(" ");
    const width = context.measureText(text).width;
    if (width + 4 < x1 - x0) context.fillText(text, (x0 + x1 - width) / 2, AXIS / 2);
    else context.fillText("⋯", (x0 + x1) / 2 - 5, AXIS / 2);
  }
  context.fillStyle = color("muted");
  const folds = frame.folding.folds().map((fold) => [toX(frame, fold.from), toX(frame, fold.to)] as const);
  for (const { x, text } of marks(frame)) {
    const width = context.measureText(text).width;
    if (x + 4 < free || folds.some(([x0, x1]) => x + 4 < x1 && x + 4 + width > x0)) continue;
    context.fillText(text, x + 4, AXIS / 2);
    free = x + width + 12;
  }
  context.restore();
  if (brush !== null) {
    const [x0, x1] = brush[0] < brush[1] ? brush : [brush[1], brush[0]];
    context.globalAlpha = 0.15;
    context.fillStyle = color("accent");
    context.fillRect(x0, 0, x1 - x0, frame.height);
    context.globalAlpha = 1;
    context.fillRect(x0, 0, 1, frame.height);
    context.fillRect(x1, 0, 1, frame.height);
  }
}

/** The instant that is shown. */
function line(context: CanvasRenderingContext2D, { frame, font }: Scene): void {
  if (frame.at === null) return;
  const x = Math.round(toX(frame, frame.at));
  // what is later is there, and is not yet
  context.fillStyle = color("surface");
  context.globalAlpha = 0.55;
  context.fillRect(Math.max(x, frame.names), AXIS, frame.width, frame.height);
  context.globalAlpha = 1;
  if (x < frame.names || x > frame.width) return;
  context.fillStyle = color("accent");
  context.fillRect(x, 0, 2, frame.height);
  const text = clock(frame.at, true);
  context.font = font;
  const width = context.measureText(text).width + 10;
  const left = Math.min(x, frame.width - width);
  context.fillRect(left, 4, width, AXIS - 10);
  context.fillStyle = color("on-accent");
  context.fillText(text, left + 5, AXIS / 2 - 1);
}
