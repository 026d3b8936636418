// The graph from afar, on a canvas: ten thousand boxes in a few milliseconds.

import type { Source } from "../api/source";
import type { NodeStatus } from "../api/types";
import { color } from "../app/theme";
import type { Box, Line } from "./layout";
import { meet, type Rect } from "./space";
import { ACTIVE, statusOf } from "./standing";

export interface View {
  x: number;
  y: number;
  zoom: number;
}

export interface Picture {
  boxes: readonly Box[];
  lines: readonly Line[];
  source: Source;
  view: View;
  selected: string | null;
}

const TEXT_ZOOM = 0.2;
const TAG_PX = 12;
const TAGS_MAX = 6;
/** Where more than this end in a second, tags of what is at work would flicker. */
const CALM_HZ = 5;
const LINES_MAX = 4000; // more are a grey veil, and cost more than the boxes

/** Fits the canvas to its place; its context in CSS pixels. */
export function prepared(canvas: HTMLCanvasElement): { g: CanvasRenderingContext2D; w: number; h: number } | null {
  const [w, h] = [canvas.clientWidth, canvas.clientHeight];
  const dense = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(w * dense) || canvas.height !== Math.round(h * dense)) {
    canvas.width = Math.round(w * dense);
    canvas.height = Math.round(h * dense);
  }
  const g = canvas.getContext("2d");
  if (g === null || w === 0 || h === 0) return null;
  g.setTransform(dense, 0, 0, dense, 0, 0);
  g.clearRect(0, 0, w, h);
  return { g, w, h };
}

export function paint(canvas: HTMLCanvasElement, { boxes, lines, source, view, selected }: Picture): void {
  const ready = prepared(canvas);
  if (ready === null) return;
  const { g } = ready;
  const { zoom } = view;
  g.translate(view.x, view.y);
  if (lines.length <= LINES_MAX) paintLines(g, lines, view);
  const byStatus = new Map<NodeStatus, Box[]>();
  for (const box of boxes) {
    if (box.frame) {
      g.fillStyle = color("surface");
      g.strokeStyle = color("line-strong");
      g.lineWidth = 1;
      g.globalAlpha = 0.6;
      g.fillRect(box.x * zoom, box.y * zoom, box.w * zoom, box.h * zoom);
      g.strokeRect(box.x * zoom, box.y * zoom, box.w * zoom, box.h * zoom);
      g.globalAlpha = 1;
      continue;
    }
    const status = statusOf(source, box);
    const list = byStatus.get(status);
    if (list === undefined) byStatus.set(status, [box]);
    else list.push(box);
  }
  const least = 1; // pixels: what is smaller would vanish
  for (const [status, list] of byStatus) {
    g.fillStyle = color(zoom > TEXT_ZOOM ? `${status}-tint` : status);
    g.strokeStyle = color(status);
    g.globalAlpha = status === "pending" || status === "skipped" ? 0.55 : 1;
    g.lineWidth = 1;
    g.beginPath();
    for (const box of list) {
      g.rect(box.x * zoom, box.y * zoom, Math.max(least, box.w * zoom), Math.max(least, box.h * zoom));
    }
    g.fill();
    if (zoom > TEXT_ZOOM) g.stroke();
  }
  g.globalAlpha = 1;
  if (zoom > TEXT_ZOOM) paintNames(g, boxes, zoom, source);
  const ring = selected === null ? undefined : boxes.find((box) => box.key === selected);
  if (ring !== undefined) {
    g.strokeStyle = color("accent");
    g.lineWidth = 2.5;
    g.strokeRect(ring.x * zoom - 3, ring.y * zoom - 3, ring.w * zoom + 6, ring.h * zoom + 6);
  }
  const active = boxes.filter((box) => !box.frame && ACTIVE.has(statusOf(source, box)));
  const calm = active.length <= TAGS_MAX && (source.execution()?.rate ?? 0) <= CALM_HZ;
  paintTags(g, new Set([...(ring === undefined ? [] : [ring]), ...(calm ? active : [])]), zoom, source);
}

/** The names of those that one looks for, above their boxes in a size that can be read from any distance. */
function paintTags(g: CanvasRenderingContext2D, boxes: Iterable<Box>, zoom: number, source: Source): void {
  g.font = `${TAG_PX}px ${getComputedStyle(document.body).fontFamily}`;
  g.textBaseline = "middle";
  const taken: Rect[] = [];
  for (const box of boxes) {
    const w = g.measureText(box.label).width + TAG_PX + 16;
    const h = TAG_PX + 8;
    const tag = { x: (box.x + box.w / 2) * zoom - w / 2, y: box.y * zoom - h - 6, w, h };
    if (taken.some((one) => meet(one, tag))) continue;
    taken.push(tag);
    const status = statusOf(source, box);
    g.fillStyle = color("raised");
    g.strokeStyle = color(status);
    g.lineWidth = 1;
    g.beginPath();
    g.roundRect(tag.x, tag.y, w, h, 4);
    g.fill();
    g.stroke();
    paintMark(g, status, tag.x + 6, tag.y + (h - TAG_PX) / 2, TAG_PX);
    g.fillStyle = color("text");
    g.fillText(box.label, tag.x + TAG_PX + 10, tag.y + h / 2 + 0.5);
  }
}

function paintLines(g: CanvasRenderingContext2D, lines: readonly Line[], { zoom }: View): void {
  g.strokeStyle = color("line-strong");
  g.lineWidth = Math.max(0.5, Math.min(1, zoom * 2));
  g.globalAlpha = lines.length > 1000 ? 0.4 : 0.8;
  g.beginPath();
  for (const line of lines) {
    const [first, ...rest] = line.points;
    if (first === undefined) continue;
    g.moveTo(first.x * zoom, first.y * zoom);
    for (const { x, y } of rest) g.lineTo(x * zoom, y * zoom);
  }
  g.stroke();
  g.globalAlpha = 1;
}

// The marks of common/status.tsx, simpler.
const MARKS: Partial<Record<NodeStatus, string>> = {
  completed: "M3 8.5l3.2 3.2L13 4.6",
  failed: "M4 4l8 8M12 4l-8 8",
  running: "M5 3.5l7 4.5-7 4.5z",
  suspended: "M5.5 3.5v9M10.5 3.5v9",
  retrying: "M13 8.2A5 5 0 1 1 11.4 4.3M11.7 1.6v3h-3",
  skipped: "M2.5 4.2L6.5 8l-4 3.8M7.5 4.2l4 3.8-4 3.8",
  cancelled: "M8 2.2a5.8 5.8 0 1 0 .01 0M4.1 11.9l7.8-7.8",
};
const paths = new Map<NodeStatus, Path2D>();

function paintMark(g: CanvasRenderingContext2D, status: NodeStatus, x: number, y: number, px: number): void {
  const text = MARKS[status];
  if (text === undefined) return;
  let path = paths.get(status);
  if (path === undefined) paths.set(status, (path = new Path2D(text)));
  g.save();
  g.translate(x, y);
  g.scale(px / 16, px / 16);
  g.lineWidth = 2.2;
  g.strokeStyle = color(status);
  g.stroke(path);
  g.restore();
}

function paintNames(g: CanvasRenderingContext2D, boxes: readonly Box[], zoom: number, source: Source): void {
  const px = Math.max(8, Math.min(TAG_PX, Math.round(24 * zoom)));
  g.font = `${px}px ${getComputedStyle(document.body).fontFamily}`;
  g.textBaseline = "middle";
  g.fillStyle = color("text");
  const perChar = px * 0.55;
  for (const box of boxes) {
    const mark = box.frame ? 0 : px + 2;
    if (!box.frame) paintMark(g, statusOf(source, box), box.x * zoom + 3, (box.y + box.h / 2) * zoom - px / 2, px);
    const room = Math.floor((box.w * zoom - 6 - mark) / perChar);
    if (room < 2) continue;
    const text = box.label.length > room ? `${box.label.slice(0, room - 1)}…` : box.label;
    g.fillText(text, box.x * zoom + 4 + mark, (box.frame ? box.y + 17 : box.y + box.h / 2) * zoom);
  }
}
